//! Durable agents and workflows for Rust, on ractor.

#[cfg(feature = "documents")]
pub mod documents;
