//! Documents from outside: workflow definitions (JSON or YAML) and wfformat traces, gz accepted.
//!
//! This is the border: whatever the bytes, they become a [`Document`] that holds a valid definition, or a
//! [`DocumentError`] that lists every fault. Nothing here opens files or stores anything.

mod detect;
mod error;
mod read;
mod shape;
mod trace;
mod tree;
mod wfformat;

pub use error::{DocumentError, FaultLine};
pub use read::{Document, DocumentLimits, Format, ReadOptions, read, read_for};
pub use shape::MissingActivity;
pub use trace::{Bounds, Trace, TraceFault, TraceFaultKind};
