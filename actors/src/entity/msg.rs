//! Messages of entity actors and their supervisors, and where the supervisors are.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, PoisonError, RwLock},
};

use ractor::{ActorRef, RpcReplyPort};
use stanchion_sync::Claim;

use super::cell::EntityCell;

/// Messages of an entity's actor. The work itself lies in the cell's mailbox.
#[derive(Debug)]
pub enum EntityMsg {
    /// Look at the mailbox.
    Wake,
    /// End when nothing is in flight.
    Passivate,
}

/// Messages of the supervisor of entity actors.
#[derive(Debug)]
pub enum EntitySupervisorMsg {
    /// Starts an actor for the cell, under the claim.
    Start {
        /// The entity.
        cell: Arc<EntityCell>,
        /// The right to take its slot.
        claim: Claim,
    },
    /// Forgets the crashes of an entity that was given up, so that it starts again.
    Forgive {
        /// The entity.
        cell: Arc<EntityCell>,
    },
    /// Stops idle children.
    Sweep,
    /// Ends the actor of an entity at once, as a crash would.
    Kill {
        /// The entity.
        cell: Arc<EntityCell>,
    },
    /// Number of live children.
    Count(RpcReplyPort<usize>),
}

#[cfg(feature = "cluster")]
impl ractor::Message for EntityMsg {}
#[cfg(feature = "cluster")]
impl ractor::Message for EntitySupervisorMsg {}

/// The shards of entity supervisors in force; each registers itself when it starts. The first shards are for
/// agents, the rest for workflow runs.
#[derive(Debug)]
pub struct Supervisors {
    shards: Vec<RwLock<Option<ActorRef<EntitySupervisorMsg>>>>,
    agents: usize,
}

impl Supervisors {
    /// Places for at least one shard of each.
    #[must_use]
    pub fn new(agents: usize, runs: usize) -> Arc<Self> {
        let agents = agents.max(1);
        let shards = (0..agents + runs.max(1)).map(|_| RwLock::new(None)).collect();
        Arc::new(Self { shards, agents })
    }

    /// Shards for agents: the first ones.
    #[must_use]
    pub fn agents(&self) -> std::ops::Range<usize> {
        0..self.agents
    }

    /// Shards for workflow runs.
    #[must_use]
    pub fn runs(&self) -> std::ops::Range<usize> {
        self.agents..self.shards.len()
    }

    /// The shard of an entity.
    #[must_use]
    pub fn shard_of(&self, cell: &EntityCell) -> usize {
        let range = if cell.kind().is_run { self.runs() } else { self.agents() };
        let mut hasher = DefaultHasher::new();
        cell.name().hash(&mut hasher);
        range.start + usize::try_from(hasher.finish() % range.len() as u64).unwrap_or(0)
    }

    /// The supervisor of a shard has started.
    pub fn register(&self, shard: usize, actor: ActorRef<EntitySupervisorMsg>) {
        if let Some(place) = self.shards.get(shard) {
            *place.write().unwrap_or_else(PoisonError::into_inner) = Some(actor);
        }
    }

    /// The supervisor of a shard, if it has started.
    #[must_use]
    pub fn supervisor(&self, shard: usize) -> Option<ActorRef<EntitySupervisorMsg>> {
        let place = self.shards.get(shard)?;
        place.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks for an actor. A supervisor that is down finds the claimed cell when it starts.
    pub(crate) fn start(&self, cell: Arc<EntityCell>, claim: Claim) {
        if let Some(supervisor) = self.supervisor(self.shard_of(&cell)) {
            // Not sent means not running: its successor resets every cell of the shard.
            let _ = supervisor.cast(EntitySupervisorMsg::Start { cell, claim });
        }
    }
}
