//! `Protected`: one pipeline around any asynchronous call, its layers always in the same order.
//!
//! fallback → total timeout → retry (with budget) → breaker → rate limit → bulkhead → attempt timeout → call.
//!
//! It owns the order and what each layer sees of the others; it refuses to know what a call is, and every rule of a
//! layer is that of the policy beside it. Why this order: docs/RESILIENCE.md.
//!
//! ```
//! use std::sync::Arc;
//! use stanchion_actors::{
//!     clock::SystemClock,
//!     entity::Failure,
//!     resilience::protected::{ProtectedCtx, ProtectedServices, ProtectedSettings},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let document = r#"{"search": {
//!     "timeout": {"total_ms": 2000, "attempt_ms": 500},
//!     "retry": {"max_attempts": 3, "initial_interval_ms": 10, "jitter": "full"},
//!     "budget": {"ratio": 0.1},
//!     "breaker": {"failure_rate_threshold": 0.5},
//!     "bulkhead": {"max_concurrent": 20}
//! }}"#;
//! let settings: ProtectedSettings = serde_json::from_str(document)?;
//! let services = ProtectedServices::new(Arc::new(SystemClock));
//! services.configure(&settings)?;
//! let search = services.get("search")?;
//! let found = search.call(&ProtectedCtx::default(), async |_attempt| Ok::<_, Failure>(42)).await?;
//! assert_eq!((found.value, found.attempts), (42, 1));
//! assert!(services.get("serach").is_err());
//! # Ok(())
//! # }
//! ```

mod adapter;
mod attempts;
mod core;
mod ctx;
mod error;
mod layer;
mod layers;
mod log;
mod options;
mod registry;
mod run;
mod settings;
mod snapshot;
mod stats;

#[cfg(test)]
mod registry_tests;
#[cfg(test)]
mod storm_tests;
#[cfg(test)]
mod tests;

pub use adapter::{AdapterFault, ProtectedResponse};
pub use core::Protected;
pub use ctx::{Attempt, ProtectedCtx, ProtectedValue};
pub use error::{ProtectedError, ProtectedErrorKind, Refusal};
pub use layer::Layer;
pub use log::{LayerChange, LayerTransition, PROTECTED_LOG_SIZE};
pub use options::{FallbackRoute, OptionsFault, ProtectedOptions, ProtectedOptionsError};
pub use registry::{ProtectedServices, ServiceNotFound, ServicesError};
pub use settings::{PROTECTED_MAX, PROTECTED_NAME_MAX_BYTES, ProtectedSettings};
pub use snapshot::ProtectedSnapshot;
pub use stats::ProtectedStats;
