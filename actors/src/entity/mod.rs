//! The entity: everything durable, as an actor over bytes. User types are behind [`Machine`].

mod active;
mod actor;
mod address;
mod after;
mod attempt;
mod cell;
mod ctx;
mod dedup;
mod deliver;
mod directory;
mod effects;
mod far;
mod handle;
mod machine;
mod mail;
mod msg;
mod outbox;
mod own;
mod pipeline;
mod policy;
mod prepare;
mod purge;
mod record;
mod session;
mod timers;
mod transact;
mod within;

pub(crate) use self::attempt::run_attempt;
pub use self::{
    actor::{EntityActor, EntityArgs, EntityState},
    address::{CallOptions, EntityAddress},
    attempt::{Activities, ActivityCtx, DynActivity, Progress},
    cell::{EntityCell, MailboxStats},
    ctx::{EffectRequest, Recorder, Send, TimerRequest},
    directory::{Directory, KindError},
    effects::{ActivityRunnerActor, ActivityRunnerArgs, ActivityRunnerState, EffectsMsg, RunningAttempt},
    machine::{
        Completion, Decided, EntityOptions, Failure, Input, Kind, Machine, MakeMachine, NotAccepted, Placing,
        Render, Restored, Returned, Style, Unreadable,
    },
    mail::{Begun, Call, CallResult, Item, Message, ReadFn, ReplyPort, Told},
    msg::{EntityMsg, EntitySupervisorMsg, Supervisors},
    outbox::{OutboxActor, OutboxMsg, OutboxState},
    policy::{MAILBOX_CAPACITY_MAX, MailboxError, MailboxOptions, MailboxPolicy},
    purge::{Purge, PurgeError, purge},
    session::{Session, Ticket},
    timers::{TimersActor, TimersMsg, TimersState},
    transact::{Prepare, TRANSACTION_MAX_COMMANDS, Transaction},
};
