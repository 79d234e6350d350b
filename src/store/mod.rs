//! The store on redb: a bounded redo log and a data file ("log and fold").
//!
//! A commit is one flush of the log; a fold thread writes the data file off the path of acknowledgements. Reads
//! merge what is not folded yet over the data file. The format is described in `docs/STORE_FORMAT.md`.
//! Knows the port [`stanchion_actors::store::Store`] and redb; knows no actor.

mod backends;
mod backup;
mod chunk;
mod compact;
mod crash;
mod decide;
mod derived;
mod end;
mod fold;
mod log;
mod manifest;
mod memtable;
mod open;
mod open_error;
mod options;
mod pace;
mod pack;
mod pending;
mod queries;
mod read;
#[cfg(test)]
mod reader_tests;
mod redb_store;
mod reply;
mod restore;
mod shared;
mod slices;
mod tables;
#[cfg(feature = "testing")]
pub mod testing;
mod upkeep;
mod verify;
mod view;
mod writer;

#[cfg(feature = "testing")]
pub use self::crash::CrashPoints;
pub use self::{
    backends::{Backends, FileBackends, StoreFile},
    compact::{CompactError, Compacted, compact},
    crash::CrashPoint,
    open_error::OpenError,
    options::StoreOptions,
    redb_store::RedbStore,
    restore::{RestoreError, Restored, is_backup, restore},
    tables::FILE_FORMAT,
    verify::{Fault, VerifyReport, verify},
};
