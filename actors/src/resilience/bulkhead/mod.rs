//! The bulkhead: so many calls to a dependency at once, and so much weight, and no more.
//!
//! It owns the places, the queue before them and the window in which the dependency asked to be left alone; it
//! refuses to know what a call is. A call that has to wait is served in turn; one that gives up leaves no trace.
//!
//! ```
//! use stanchion_actors::resilience::bulkhead::{Bulkhead, BulkheadOptions};
//!
//! let options = BulkheadOptions { max_concurrent: 8, max_weight: Some(1_000), ..BulkheadOptions::default() };
//! let uploads = Bulkhead::new("uploads", options)?;
//! let permit = uploads.try_acquire(700)?;
//! assert_eq!(uploads.try_acquire(700).unwrap_err().to_string(),
//!     "bulkhead \"uploads\" is full: 1 calls of weight 700 inside, 0 wait");
//! drop(permit);
//! assert!(uploads.try_acquire(700).is_ok());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Source
//! resilience4j, `SemaphoreBulkhead`; weight and the shared window are added.

mod core;
mod error;
mod options;
mod registry;
mod window;

#[cfg(test)]
mod tests;

pub use core::{Bulkhead, BulkheadPermit, BulkheadStatus};
pub use error::BulkheadError;
pub use options::BulkheadOptions;
pub use registry::Bulkheads;
