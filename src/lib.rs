//! Durable agents and workflows on ractor: what a call has acknowledged is on disk.

pub mod store;
