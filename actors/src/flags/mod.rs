//! Feature flags: on, off, or on for a share of ids; durable, with who changed what and why.
//!
//! Each flag is an agent of its own, so a change is one entry and a look sees every change that was acknowledged.
//! The share is sticky and monotone: whoever is in at 10 % is in at 20 %, in every process and after every restart.

mod flag;
mod handle;

pub use flag::{Changed, Flag, FlagCommand, FlagRejection, FlagSetting, Percent, bucket};
pub use handle::{FlagError, Flags};
