//! Policies that survive their process: breakers, limiters and retry budgets by name, whose state is stored and
//! restored.
//!
//! A policy itself knows nothing of this; it stays a plain struct on the way of calls. The keeper, an actor of the
//! tree, stores a change of state at once and counts at most once a second. It owns when something is stored and
//! nothing of what: callers never wait for it, and a store that does not answer degrades the keeper's health alone.

mod error;
mod handle;
mod keeper;
mod limiters;
mod live;
mod record;
mod services;
mod table;

pub use error::PolicyError;
pub use handle::{DurableBreakers, DurableBudgets};
pub use keeper::{PolicyKeeperActor, PolicyKeeperMsg};
pub use limiters::DurableLimiters;
pub use record::{
    BreakerOrder, PolicyCommand, PolicyName, PolicyRejection, PolicyState, SavedBreaker, SavedBudget,
    SavedLimiter, SavedPolicy,
};
pub use services::DurableServices;
pub use table::PolicyTable;

/// Policies of a system at most.
pub const POLICIES_MAX: usize = 1_024;
/// Calls kept of a breaker's window at most: the newest.
pub const WINDOW_KEPT_CALLS: usize = 16_384;
/// Largest state of a limiter that is kept, in bytes.
pub const LIMITER_KEPT_BYTES: usize = 256 * 1_024;
