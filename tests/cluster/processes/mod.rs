//! Nodes as processes: killed, stopped, drained and cut off from each other by seeded schedules, while clients count
//! what they were told.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "processes and their clients are a test's own; what it counted is shown"
)]

mod agents;
mod child;
mod clients;
mod doubt;
mod fleet;
mod journal;
mod oracle;
mod orders;
mod plan;
mod schedules;
mod spaces;
mod steps;
mod stopped;
mod traces;
mod wires;
