//! What a store may be asked and told.

use serde::{Deserialize, Serialize};

use stanchion_actors::{policies::BreakerOrder, remote::Placement};

use super::{
    jobs::{DeadSelect, JobOptions},
    queues::{QueueChange, QueueOrder},
    starts::RunStart,
};

/// What a store may be asked and told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Request {
    /// Lists runs by id.
    List {
        /// With this status only.
        status: Option<String>,
    },
    /// Shows a run and its steps.
    Show {
        /// Id of the run.
        run: String,
    },
    /// The history of a run.
    History {
        /// Id of the run.
        run: String,
    },
    /// Lists entities.
    EntityList {
        /// Of this kind only.
        kind: Option<String>,
    },
    /// Shows the state of an entity.
    EntityShow {
        /// Its kind.
        kind: String,
        /// Its key.
        key: String,
        /// As it was at this version; `None`: the last one.
        at: Option<u64>,
    },
    /// Removes an entity.
    EntityPurge {
        /// Its kind.
        kind: String,
        /// Its key.
        key: String,
    },
    /// Tells a run to start no further steps.
    Pause {
        /// Id of the run.
        run: String,
    },
    /// Tells a paused run to go on.
    Resume {
        /// Id of the run.
        run: String,
    },
    /// Ends a run.
    Cancel {
        /// Id of the run.
        run: String,
    },
    /// Tells a failed or parked run to go on.
    Retry {
        /// Id of the run.
        run: String,
        /// Only this failed step.
        step: Option<String>,
    },
    /// Lists feature flags.
    FlagList,
    /// Sets a feature flag.
    FlagSet {
        /// Its name.
        flag: String,
        /// `on`, `off`, or a percentage.
        to: String,
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Lists circuit breakers.
    BreakerList,
    /// Opens, closes or resets a circuit breaker.
    BreakerTell {
        /// Its name.
        breaker: String,
        /// What it is told.
        order: BreakerOrder,
    },
    /// Lists rate limiters.
    LimiterList,
    /// Lists queues.
    QueueList,
    /// Shows a queue.
    QueueShow {
        /// Its name.
        queue: String,
    },
    /// Pauses, resumes or drains a queue.
    QueueTell {
        /// Its name.
        queue: String,
        /// What it is told.
        order: QueueOrder,
    },
    /// Changes settings of a queue, made if it is not there.
    QueueSet {
        /// Its name.
        queue: String,
        /// What changes.
        change: QueueChange,
    },
    /// Adds jobs.
    JobAdd {
        /// The queue, made if it is not there.
        queue: String,
        /// Payloads, each JSON text.
        payloads: Vec<String>,
        /// What they have in common.
        options: JobOptions,
    },
    /// Shows a job.
    JobShow {
        /// Its id, as it was printed.
        id: String,
        /// Whether only a dead letter is shown.
        dead: bool,
    },
    /// Lets a dead letter or a delayed job run at once.
    JobRetry {
        /// Its id.
        id: String,
    },
    /// Cancels a job.
    JobCancel {
        /// Its id.
        id: String,
    },
    /// Lists dead letters.
    DeadList(DeadSelect),
    /// Changes a dead letter.
    DeadEdit {
        /// Its id.
        id: String,
        /// Another payload, as JSON text.
        payload: Option<String>,
        /// Another priority.
        priority: Option<u8>,
    },
    /// Requeues dead letters.
    DeadRequeue(DeadSelect),
    /// Forgets dead letters.
    DeadPurge(DeadSelect),
    /// Lists durable names that somebody has.
    NameList {
        /// Of this namespace only.
        namespace: Option<String>,
    },
    /// Shows a durable name.
    NameShow {
        /// Namespace and name, as `namespace/name`.
        name: String,
    },
    /// Gives a durable name free, whoever has it.
    NameFree {
        /// Namespace and name.
        name: String,
    },
    /// Lists the nodes of the cluster that this one knows.
    NodeList,
    /// Tells a node to end what it has begun and to leave.
    NodeDrain,
    /// Where an entity is.
    Where {
        /// Its name, as `kind/key` or `kind@node/key`.
        name: String,
    },
    /// Starts a run, or finds it started the same way.
    Start(RunStart),
    /// What became of a run, after a wait for its end.
    Result {
        /// Id of the run.
        run: String,
        /// Longest wait in milliseconds; a node waits 20 s at most.
        within_ms: u64,
    },
    /// Where a run goes: to the node of the cluster that has it, or else to one that is chosen.
    Place {
        /// Id of the run, if it may have been started before.
        run: Option<String>,
        /// What a node has to have, and how one is chosen.
        placement: Placement,
    },
    /// Asks the desk of a node of the cluster; `*`: of every node within reach, one after the other.
    OnNode {
        /// The node.
        node: String,
        /// What it is asked.
        request: Box<Request>,
    },
    /// Writes a backup.
    Backup {
        /// The file, as an absolute path.
        to: String,
        /// Whether a file that is there is replaced.
        force: bool,
    },
}

impl Request {
    /// Whether it makes the store if it is missing: what puts work in does.
    #[must_use]
    pub fn makes_store(&self) -> bool {
        matches!(self, Self::JobAdd { .. } | Self::QueueSet { .. })
    }

    /// Whether it is answered from what is stored, without a system.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        match self {
            Self::List { .. }
            | Self::Show { .. }
            | Self::History { .. }
            | Self::EntityList { .. }
            | Self::EntityShow { .. }
            | Self::FlagList
            | Self::BreakerList
            | Self::LimiterList
            | Self::NameList { .. }
            | Self::NameShow { .. }
            | Self::Backup { .. } => true,
            Self::EntityPurge { .. }
            | Self::Pause { .. }
            | Self::Resume { .. }
            | Self::Cancel { .. }
            | Self::Retry { .. }
            | Self::FlagSet { .. }
            | Self::NameFree { .. }
            | Self::NodeList
            | Self::NodeDrain
            | Self::Where { .. }
            | Self::OnNode { .. }
            | Self::Start(_)
            | Self::Result { .. }
            | Self::Place { .. }
            | Self::BreakerTell { .. }
            // What a queue holds is counted by the queue itself: it is woken, and changes nothing.
            | Self::QueueList
            | Self::QueueShow { .. }
            | Self::QueueTell { .. }
            | Self::QueueSet { .. }
            | Self::JobAdd { .. }
            | Self::JobShow { .. }
            | Self::JobRetry { .. }
            | Self::JobCancel { .. }
            | Self::DeadList(_)
            | Self::DeadEdit { .. }
            | Self::DeadRequeue(_)
            | Self::DeadPurge(_) => false,
        }
    }
}
