//! Fallbacks: what a caller gets in place of a failure, and always knows to be that.
//!
//! It owns the other way to an answer; it refuses to decide whether the call failed. An answer says where it comes
//! from; a fallback that fails too never hides the failure it was for.
//!
//! ```
//! use std::sync::Arc;
//! use stanchion_actors::{
//!     clock::SystemClock,
//!     entity::Failure,
//!     resilience::fallback::{Fallback, FallbackKind, Provenance},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let rates: Fallback<(), f64, Failure> = Fallback::value("rates", 1.0);
//! let answer = rates.apply(&(), Err(Failure::retryable("rates.down", "connection refused"))).await?;
//! assert_eq!(*answer.value, 1.0);
//! let Provenance::Fallback { kind, cause } = &answer.provenance else { unreachable!() };
//! assert_eq!((*kind, &**cause), (FallbackKind::Value, "rates.down"));
//! # Ok(())
//! # }
//! ```

mod answer;
mod error;
mod plan;
mod routes;

#[cfg(test)]
mod tests;

pub use answer::{Answer, FallbackKind, Provenance};
pub use error::{FallbackFailed, FallbackFault, FallbackLoop};
pub use plan::{Fallback, LastGoodOptions};
pub use routes::check_routes;
