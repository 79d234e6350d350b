//! Workflow definitions: as written ([`Definition`]), their faults, and as relied upon ([`ValidDefinition`]).

mod builder;
mod fault;
mod hash;
mod names;
mod object;
mod raw;
mod settings;
mod valid;
mod validate;

pub use builder::DefinitionBuilder;
pub use fault::{DefinitionFaults, Fault, FaultKind};
pub use hash::DefinitionHash;
pub use names::{NameFault, check_name};
pub(crate) use names::{is_invisible, shown};
pub use object::Object;
pub use raw::{Compensation, CrashLoopPolicy, Definition, FailurePolicy, Join, Step};
pub use valid::{DefinitionLimits, StoredDefinitionError, ValidCompensation, ValidDefinition, ValidStep};

#[cfg(test)]
mod tests;
