//! Who may write which entity.

use std::collections::{HashMap, HashSet};

use crate::{
    ids::EntityId,
    store::{Activated, Incarnation, Token},
};

#[derive(Clone, Copy, Debug)]
struct Owner {
    activation: u64,
    by: Incarnation,
}

/// Rights given under one boot.
#[derive(Debug, Default)]
pub(super) struct Owners {
    boot: u64,
    /// Never reset, so that a number is in force at most once.
    last_activation: u64,
    owners: HashMap<EntityId, Owner>,
    ended: HashSet<Incarnation>,
}

impl Owners {
    /// Nobody owns anything.
    pub(super) fn under(boot: u64) -> Self {
        Self { boot, ..Self::default() }
    }

    /// Makes `by` the owner, unless another life that has not ended is.
    pub(super) fn activate(&mut self, entity: EntityId, by: Incarnation) -> Activated {
        if let Some(owner) = self.owners.get(&entity)
            && owner.by != by
            && !self.ended.contains(&owner.by)
        {
            return Activated::Held { owner: owner.by };
        }
        self.last_activation += 1;
        let activation = self.last_activation;
        self.owners.insert(entity, Owner { activation, by });
        Activated::Granted(Token { entity, boot: self.boot, activation })
    }

    /// Whether the token is in force; else the activation number that is (0: none).
    pub(super) fn check(&self, token: Token) -> Result<(), u64> {
        let activation = self.owners.get(&token.entity).map_or(0, |owner| owner.activation);
        let in_force = token.boot == self.boot && token.activation == activation && activation != 0;
        if in_force { Ok(()) } else { Err(activation) }
    }

    /// Takes the right back, if it is in force.
    pub(super) fn release(&mut self, token: Token) {
        if self.check(token).is_ok() {
            self.owners.remove(&token.entity);
        }
    }

    /// Notes that this life is over: what it owns may be taken, and is its own until then.
    pub(super) fn end(&mut self, incarnation: Incarnation) {
        self.ended.insert(incarnation);
    }
}
