//! Durable agents and workflows on ractor: what a call has acknowledged is on disk.

#![warn(clippy::print_stdout, clippy::print_stderr)]

#[cfg(feature = "activities")]
pub mod activities;
#[cfg(feature = "cluster")]
pub mod cluster;
mod coded;
#[cfg(feature = "http")]
pub mod connect;
#[cfg(feature = "control")]
pub mod control;
#[cfg(feature = "documents")]
pub mod documents;
pub mod store;
mod system;

pub use bytes;
#[cfg(feature = "testing")]
pub use stanchion_actors::moment;
#[cfg(feature = "tower")]
pub use stanchion_actors::tower;
pub use stanchion_actors::{
    adapter,
    agent::{
        Activity, Address, AddressError, Agent, Completion, Ctx, Data, Decision, EventSourced, History,
        Invalid, Never, NoUpcast, RecordError, Replies, ReplyOf, SerialOperations, SerialStop, Sourced,
        Transact,
    },
    balance, clock, discovery,
    entity::{
        ActivityCtx, CallOptions, EntityOptions, Failure, MailboxOptions, MailboxPolicy, PurgeError, Ticket,
    },
    env::Env,
    error, flags,
    health::{self, Health, Stats, Status},
    ids, names, policies, queue, remote, resilience, store as port, task, task_agent,
    volatile::{Volatile, VolatileAddress, VolatileCtx},
    workflow,
};
pub use stanchion_supervisors as supervisors;

#[cfg(feature = "testing")]
pub use self::system::WrapStore;
pub use self::system::{
    Aggregate, Builder, DistributeError, Distributed, Enough, Fed, Feed, FeedError, FeedEvent, OpenError,
    StopReport, System, SystemError, TaskAgents,
};
