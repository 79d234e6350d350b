//! Names: who is called what, in namespaces, for longer than a process lives.
//!
//! [`Names`] is the pure core: a name is held by one owner at a time, each owning has an epoch of its own, and a
//! [`NameRef`] of an earlier epoch is refused. When an owner ends, the name is kept for its respawn or given free, as
//! its [`Respawn`] policy says. Two namespaces never see each other. [`NameTable`] is the same for many threads, in
//! shards. Both are data: what they hold is a [`NamesSnapshot`]. They refuse to know actors, clocks and stores.
//! [`DurableName`] is one name as an agent, [`DurableNames`] the way to them. All of them say what is to be started and
//! stopped, and start and stop nothing.
//!
//! ```
//! use stanchion_actors::{ids::Timestamp, names::{Exit, Names, AfterEnd, NameKey, NameSpec, Namespace, Respawn}};
//!
//! let (mut names, now) = (Names::new(), Timestamp(0));
//! let shop = Namespace::new("shop")?;
//! let key = NameKey::new(shop.clone(), "till-1")?;
//! let spec = NameSpec { respawn: Respawn::Permanent, ..NameSpec::of_kind("till") };
//! let reference = names.register(key, spec, "actor-1".into(), now)?;
//! assert_eq!(names.resolve(&shop, &reference)?.as_str(), "actor-1");
//! let AfterEnd::Respawn(next) = names.ended(&shop, &reference, Exit::Crashed, now)? else { unreachable!() };
//! names.respawned(&shop, &next, "actor-2".into(), now)?;
//! assert!(names.resolve(&shop, &reference).is_err(), "a reference of the epoch before");
//! assert_eq!(names.resolve(&shop, &next)?.as_str(), "actor-2");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod durable;
mod error;
mod handle;
mod key;
mod metadata;
mod record;
mod registry;
mod search;
mod space;
mod table;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

pub use durable::{DurableName, NameAsk, NameCommand, NameReply};
pub use error::{DurableNamesError, InvalidMetadata, InvalidName, NamesError, ShardsError};
pub use handle::DurableNames;
pub use key::{NameKey, NameRef, Namespace};
pub use metadata::Metadata;
pub use record::{AfterEnd, Exit, NameRecord, NameSpec, NameState, Respawn};
pub use registry::{Names, NamesSnapshot, NamesStats, Stopped};
pub use search::{NameFound, NameSearch};
pub use table::NameTable;
