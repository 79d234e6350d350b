//! Messages of entity actors and their supervisors, and where the supervisors are.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, PoisonError, RwLock},
};

use ractor::{ActorCell, ActorRef, RpcReplyPort};
use stanchion_sync::Claim;

use super::cell::EntityCell;
use crate::ids::Name;

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
    /// The actor ends by itself: not a crash.
    Passivated {
        /// The actor.
        actor: ActorCell,
    },
    /// Forgets the crashes of an entity that was given up, so that it starts again.
    Forgive {
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

/// The shards of entity supervisors in force; each registers itself when it starts.
#[derive(Debug)]
pub struct Supervisors {
    shards: Vec<RwLock<Option<ActorRef<EntitySupervisorMsg>>>>,
}

impl Supervisors {
    /// Places for `shards` supervisors, at least one.
    #[must_use]
    pub fn new(shards: usize) -> Arc<Self> {
        Arc::new(Self { shards: (0..shards.max(1)).map(|_| RwLock::new(None)).collect() })
    }

    /// Number of shards.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.len()
    }

    /// Never: there is at least one shard.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    /// The shard of a name.
    #[must_use]
    pub fn shard_of(&self, name: &Name) -> usize {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        usize::try_from(hasher.finish() % self.shards.len() as u64).unwrap_or(0)
    }

    /// The supervisor of a shard has started.
    pub fn register(&self, shard: usize, actor: ActorRef<EntitySupervisorMsg>) {
        if let Some(place) = self.shards.get(shard) {
            *place.write().unwrap_or_else(PoisonError::into_inner) = Some(actor);
        }
    }

    /// The supervisor of a shard, if it runs.
    #[must_use]
    pub fn supervisor(&self, shard: usize) -> Option<ActorRef<EntitySupervisorMsg>> {
        let place = self.shards.get(shard)?;
        place.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks for an actor. A supervisor that is down finds the claimed cell when it starts.
    pub(crate) fn start(&self, cell: Arc<EntityCell>, claim: Claim) {
        if let Some(supervisor) = self.supervisor(self.shard_of(cell.name())) {
            // Not sent means not running: its successor resets every cell of the shard.
            let _ = supervisor.cast(EntitySupervisorMsg::Start { cell, claim });
        }
    }
}
