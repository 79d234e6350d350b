//! Documents from outside: workflow definitions (JSON or YAML) and wfformat traces, gz accepted.
//!
//! This is the border: whatever the bytes, they become a [`Document`] that holds a valid definition, or a
//! [`DocumentError`] that lists every fault. Nothing here opens files or stores anything.

mod detect;
mod error;
mod read;
mod trace;
mod wfformat;

pub use error::{DocumentError, FaultLine};
pub use read::{Document, DocumentLimits, Format, ReadOptions, read};
pub use trace::{Bounds, Trace, TraceFault, TraceFaultKind};
