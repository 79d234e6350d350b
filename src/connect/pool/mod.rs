//! Bounded pools of connections, or of anything expensive to open that one caller uses at a time.
//!
//! It owns the number of items, the queue for them and their ages; it refuses to know what an item is.
//!
//! # Source
//! Size and overflow as in Elixir's poolboy; the queue is tokio's semaphore, which is first come, first served.

mod core;
mod options;

#[cfg(test)]
mod tests;

pub use self::{
    core::{Pool, Pooled},
    options::{CheckoutError, DrainReport, Manage, POOL_MAX, PoolOptions, PoolSizeError, PoolStats},
};
