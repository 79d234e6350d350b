//! Who may write, and at which version: decided by the writer thread, in the order of the queue.

use stanchion_actors::{
    fast_hash::FastMap,
    ids::{EntityId, Version},
    store::{Activated, Chain, Incarnation, Outcome, StoreError, Token},
};
use stanchion_sync::Fences;

/// What is known of an entity without a read.
#[derive(Clone, Copy, Debug)]
struct Known {
    version: Version,
    by: Incarnation,
}

/// Owners and last versions of the entities activated under this boot.
#[derive(Debug)]
pub(crate) struct Owners {
    boot: u64,
    fences: Fences,
    known: FastMap<EntityId, Known>,
    /// Given back within the batch: their versions are dropped once the batch can be read.
    released: Vec<EntityId>,
}

impl Owners {
    pub(crate) fn new(boot: u64) -> Self {
        Self { boot, fences: Fences::new(), known: FastMap::default(), released: Vec::new() }
    }

    /// The last version, if known without a read.
    pub(crate) fn version(&self, entity: EntityId) -> Option<Version> {
        self.known.get(&entity).map(|known| known.version)
    }

    /// Fences every earlier token of the entity, which is at `version`, unless another life owns it.
    pub(crate) fn activate(&mut self, entity: EntityId, by: Incarnation, version: Version) -> Activated {
        if let Some(known) = self.known.get(&entity)
            && known.by != by
            && self.fences.current(entity.0).is_some()
        {
            return Activated::Held { owner: known.by };
        }
        self.known.insert(entity, Known { version, by });
        self.released.retain(|released| *released != entity);
        Activated::Granted(Token { entity, boot: self.boot, activation: self.fences.raise(entity.0) })
    }

    /// Ends a token; an older one changes nothing. Whether it was in force.
    pub(crate) fn release(&mut self, token: Token) -> bool {
        let in_force = token.boot == self.boot && self.fences.forget(token.entity.0, token.activation);
        if in_force {
            self.released.push(token.entity);
        }
        in_force
    }

    /// Forgets an entity of which nothing is stored.
    pub(crate) fn drop_empty(&mut self, entity: EntityId) {
        self.known.remove(&entity);
    }

    /// Forgets what was released; call when the batch can be read.
    pub(crate) fn settle(&mut self) {
        for entity in self.released.drain(..) {
            self.known.remove(&entity);
        }
    }

    /// Whether the token is the present one.
    pub(crate) fn admits(&self, token: Token) -> Result<(), Outcome> {
        if token.boot == self.boot && self.fences.admits(token.entity.0, token.activation) {
            return Ok(());
        }
        Err(Outcome::Fenced { activation: self.fences.current(token.entity.0).unwrap_or(0) })
    }

    /// Takes a chain in: the entity is at its last version from here on.
    ///
    /// # Errors
    /// `NotApplied` when the chain is empty.
    pub(crate) fn accept(&mut self, chain: &Chain) -> Result<Result<(), Outcome>, StoreError> {
        if chain.is_empty() {
            return Err(StoreError::NotApplied("the chain has no entry".into()));
        }
        if let Err(fenced) = self.admits(chain.token()) {
            return Ok(Err(fenced));
        }
        // An admitted entity is known: both change together.
        let Some(known) = self.known.get_mut(&chain.entity()) else {
            return Ok(Err(Outcome::Fenced { activation: 0 }));
        };
        if known.version != chain.expect() {
            return Ok(Err(Outcome::Conflict { found: known.version }));
        }
        known.version = chain.version();
        Ok(Ok(()))
    }

    /// Takes all chains in, or none.
    ///
    /// # Errors
    /// `NotApplied` when there is none, one is empty, or two are of one entity.
    pub(crate) fn accept_all(&mut self, chains: &[Chain]) -> Result<Result<(), Outcome>, StoreError> {
        let mut entities: Vec<EntityId> = chains.iter().map(Chain::entity).collect();
        entities.sort_unstable();
        entities.dedup();
        if chains.is_empty() || entities.len() != chains.len() {
            let why = "an atomic record needs chains of different entities";
            return Err(StoreError::NotApplied(why.into()));
        }
        for (accepted, chain) in chains.iter().enumerate() {
            let decided = self.accept(chain);
            if matches!(decided, Ok(Ok(()))) {
                continue;
            }
            for undone in chains.iter().take(accepted) {
                if let Some(known) = self.known.get_mut(&undone.entity()) {
                    known.version = undone.expect();
                }
            }
            return decided;
        }
        Ok(Ok(()))
    }
}
