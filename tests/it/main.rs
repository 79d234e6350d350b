//! Integration tests, a module per area.

mod entities;
mod workflows;
#[cfg(feature = "testing")]
#[path = "../support/mod.rs"]
mod support;

#[cfg(feature = "testing")]
mod store_backup;
#[cfg(feature = "testing")]
mod store_redb;
#[cfg(feature = "documents")]
mod documents;
