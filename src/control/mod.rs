//! What a store is asked and told from outside, and the local socket that carries it to the process that holds it.
//!
//! One implementation serves both ways: [`answer`] works on a [`Desk`], which is a running system or a store opened
//! for the purpose, so that a command prints the same wherever it runs. Every answer is a series of lines, each one
//! JSON object.

#[cfg(unix)]
mod client;
mod desk;
mod entities;
mod flags;
mod frame;
mod jobs;
mod msgpack;
mod names;
mod nodes;
#[cfg(unix)]
mod place;
mod policies;
mod problem;
mod queues;
mod request;
mod result;
mod rows;
#[cfg(unix)]
mod server;
mod starts;

#[cfg(feature = "cluster")]
pub(crate) use self::nodes::collected;
#[cfg(unix)]
pub(crate) use self::server::Server;
#[cfg(unix)]
pub use self::{
    client::{ClientError, ask, somebody_listens},
    place::socket_path,
};
pub use self::{
    desk::{Desk, Gone, Sink, Stop, answer},
    frame::{Answer, FrameError, REQUEST_MAX_BYTES, decode_answer, decode_request},
    jobs::{AddedRow, DeadCountRow, DeadSelect, JobFault, JobHappening, JobOptions, JobRow, JobToldRow},
    names::{NameFreedRow, NameRow},
    nodes::{DrainRow, NodeRow, WhereRow},
    policies::{BreakerRow, LimiterRow},
    problem::Problem,
    queues::{QueueChange, QueueOrder, QueueRow, QueueStanding, QueueStatsRow},
    request::Request,
    result::RunResult,
    rows::{FlagRow, RunRow, RunShow, StepRow},
    starts::{PlacedRow, RunStart, StartedRow},
};
