//! Discovery: who is there, what it can do, and whether it still lives.
//!
//! [`Discovery`] holds [`Registration`]s under leases, those of its own node and, marked with their age, those it
//! heard of from others; it finds by [`Criteria`] through an index wherever one applies. It owns leases, indexes and
//! staleness marks; it refuses to know clocks, sockets and actors: time comes in as an argument, what happened goes
//! out as [`DiscoveryEvent`]s.
//!
//! A lease that misses heartbeats is first suspect, then gone; a heartbeat brings it back. What is gone is not found,
//! unless the criteria say how old knowledge may be.
//!
//! ```
//! use std::time::Duration;
//! use stanchion_actors::{discovery::*, ids::Timestamp};
//!
//! let (mut discovery, now) = (Discovery::new(DiscoveryOptions::default())?, Timestamp(0));
//! let draft = RegistrationDraft {
//!     id: Some("ocr-1".into()),
//!     node: Some("n1".into()),
//!     kind: Some("worker".into()),
//!     capabilities: vec!["ocr@1.4.0".into()],
//!     health: Some("healthy".into()),
//!     ..RegistrationDraft::default()
//! };
//! let terms = LeaseTerms::new(Duration::from_secs(1), Duration::from_secs(3))?;
//! let (lease, _) = discovery.register(draft.check()?, terms, now)?;
//! let criteria: Criteria = "cap:ocr@^1.2 health>=degraded".parse()?;
//! assert_eq!(discovery.find(&criteria, now)?.len(), 1);
//! assert_eq!(discovery.find(&criteria, now.after(Duration::from_secs(3)))?.len(), 0);
//! discovery.heartbeat(&lease, &Beat::default(), now.after(Duration::from_secs(4)))?;
//! assert_eq!(discovery.find(&criteria, now.after(Duration::from_secs(4)))?.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod capability;
mod criteria;
mod error;
mod event;
mod expiry;
mod find;
mod index;
mod lease;
mod options;
mod parse;
mod registration;
mod registry;
mod requirement;
mod second_hand;
mod slots;
mod waiting;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

pub use capability::{Capability, HealthLevel, Need, NodeId};
pub use criteria::{Affinity, Criteria};
pub use error::{
    DiscoveryOptionsError, Fault, FindError, InvalidCriteria, LearnError, LeaseError, LeaseTermsError,
    RegisterError, RegistrationError,
};
pub use event::{DiscoveryEvent, GoneReason};
pub use find::{Found, Plan};
pub use index::IndexedBy;
pub use lease::{Lease, LeaseState, LeaseTerms, Seen};
pub use options::DiscoveryOptions;
pub use registration::{Registration, RegistrationDraft};
pub use registry::{Beat, Discovery, DiscoveryStats};
pub use requirement::{REQUIREMENTS_MAX, Requirement};
pub use second_hand::{Report, ReportBody, Stamp};
pub use waiting::Waiting;
