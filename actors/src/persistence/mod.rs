//! The store in force, and the actor that owns it: opens it, watches it, opens it anew after a failed flush.

mod actor;
mod handle;

pub use self::{
    actor::{PersistenceActor, PersistenceArgs, PersistenceMsg, PersistenceState, StoreOpener},
    handle::StoreHandle,
};
