//! Resources: what a process may use of memory, tasks, store and whatever else, refused before it is exhausted.
//!
//! It owns limits and what is taken of them; it refuses to know how a resource is measured. What is taken is held by
//! a token, which gives it back when dropped, whatever ended its holder. What is measured from outside, the memory
//! of the process or the size of the store, is told by [`Resources::observe`].
//!
//! ```
//! use stanchion_actors::resilience::resources::{Resource, ResourceOptions, Resources};
//!
//! let options = ResourceOptions { limits: [(Resource::Tasks, 100)].into(), ..ResourceOptions::default() };
//! let resources = Resources::new(options)?;
//! let token = resources.try_take(&Resource::Tasks, 70)?;
//! assert_eq!(resources.try_take(&Resource::Tasks, 40).unwrap_err().to_string(),
//!     "tasks: 70 of 100 are in use, 40 more were asked for");
//! drop(token);
//! assert!(resources.try_take(&Resource::Tasks, 40).is_ok());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod account;
mod error;
mod options;
mod resource;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

pub use account::{ResourceToken, Resources};
pub use error::ResourceError;
pub use options::ResourceOptions;
pub use resource::{Resource, ResourceLevel, ResourceStatus};
