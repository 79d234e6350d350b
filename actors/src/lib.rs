//! Entities, agents, workflows and the ports they need: the actors of stanchion.

pub mod workflow;
