//! The cache: values by key that are kept for a while, in bounded room, and loaded once however many ask.
//!
//! It owns values, their deadlines and the loads under way; it refuses to know where values come from. Nothing in
//! it is durable: a cache may forget anything at any time, and does when the process ends.
//!
//! ```
//! use std::sync::Arc;
//! use stanchion_actors::{
//!     clock::SystemClock,
//!     entity::Failure,
//!     resilience::cache::{Cache, CacheOptions},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let rates: Cache<String, f64> = Cache::new("rates", CacheOptions::default(), Arc::new(SystemClock))?;
//! let load = async || Ok::<_, Failure>(1.07);
//! let rate = rates.get_or_compute(&"EUR".to_owned(), load).await?;
//! assert_eq!((*rate, rates.stats().misses, rates.stats().puts), (1.07, 1, 1));
//! assert!(rates.get(&"EUR".to_owned())?.is_some());
//! # Ok(())
//! # }
//! ```

mod core;
mod error;
mod events;
mod key;
mod options;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

pub use core::Cache;
pub use error::{CacheError, LoadError};
pub use events::{CacheEvent, CacheEvents, CacheStats};
pub use key::CacheKey;
pub use options::CacheOptions;
