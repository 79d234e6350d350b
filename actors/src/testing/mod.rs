//! What proves an implementation of a port: the conformance suite of the store, its model, its negative control; and
//! damaged bytes, which every reader of something from the outside is fed.
//!
//! Shipped with feature `testing`, so that a store written elsewhere can be checked alike.

pub mod bytes;
pub mod conformance;
pub mod fixtures;
pub mod model;
pub mod mutants;
mod rig;

pub use self::rig::{Check, Owned, Pending, Rig, StoreFactory, holds, same};
