//! The shape of a whole system: what everything stands on first, then what runs on it.
//!
//! The caller passes the children; this module knows only their order and how they fall together.

use std::sync::Arc;

use crate::child::ChildSpec;
use crate::spec::SupervisorSpec;
use crate::strategy::Strategy;
use crate::supervisor::{Init, Supervisor};

/// Puts `runtime` on top of `foundation`, under one root.
///
/// Children of the foundation start first, in order; when one of them is restarted, everything after it is restarted,
/// too (`rest_for_one`). The children of the runtime are restarted alone (`one_for_one`); when they exceed the
/// runtime's intensity, the runtime as a whole is restarted, and the foundation stays. Stopping goes the other way.
///
/// The specs of intensity, observer and pacing are the caller's: take the result and set them.
#[must_use]
pub fn root_spec(foundation: impl IntoIterator<Item = ChildSpec>, runtime: SupervisorSpec) -> SupervisorSpec {
    SupervisorSpec::new(Strategy::RestForOne).children(foundation).child(group("runtime", runtime))
}

/// A supervisor of its own for children that should not take others along; nests in any spec.
pub fn group(id: impl Into<Arc<str>>, spec: SupervisorSpec) -> ChildSpec {
    Supervisor::child_spec(id, None, move || Init::Run(spec.clone()))
}
