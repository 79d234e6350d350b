//! Commands to several agents: all or none, or one after another. Two names, for they are two things.

use std::{marker::PhantomData, sync::Arc};

use bytes::Bytes;

use super::address::{Address, Speaks};
use crate::{
    entity::{EntityAddress, Transaction},
    env::Env,
    error::{CallFailure, FailureKind, Refusal},
    store::{decode, encode},
};

/// Commands to several agents that become durable in one commit, or not at all.
///
/// # Examples
/// See `examples/bank_transfer.rs`.
#[derive(Debug, Default)]
pub struct Transact {
    inner: Transaction,
    fault: Option<CallFailure>,
}

/// Where the reply of one command of a transaction is found.
#[derive(Debug)]
pub struct ReplyOf<A> {
    place: usize,
    speaks: PhantomData<fn() -> A>,
}

/// Replies of a transaction that was applied.
#[derive(Debug)]
pub struct Replies(Vec<Bytes>);

impl Replies {
    /// The reply of one command; `None` when it is of another transaction or type.
    #[must_use]
    pub fn get<A: Speaks>(&self, of: &ReplyOf<A>) -> Option<A::Reply> {
        decode(self.0.get(of.place)?).ok()
    }
}

impl Transact {
    /// An empty transaction.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a command. Commands to one agent run in the order added.
    pub fn add<A: Speaks>(&mut self, to: &Address<A>, command: &A::Command) -> ReplyOf<A> {
        let place = self.inner.len();
        let name = to.untyped().name().clone();
        match encode(command) {
            Ok(payload) => self.inner.add(name, Bytes::from(payload)),
            Err(e) => {
                let kind = FailureKind::Refused(Refusal::Malformed(e.to_string()));
                self.fault.get_or_insert(CallFailure { entity: name, id: None, kind });
            }
        }
        ReplyOf { place, speaks: PhantomData }
    }

    /// Runs it.
    ///
    /// # Errors
    /// [`CallFailure`] of the first command that was refused, or of the commit: nothing is applied, every version
    /// is unchanged; only kind `Unknown` leaves it open.
    ///
    /// # Cancel safety
    /// Dropped before the commit was handed over, nothing is applied; after that it may be.
    pub async fn run(self, env: &Arc<Env>) -> Result<Replies, CallFailure> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        self.inner.run(env).await.map(Replies)
    }
}

/// Commands run one after another: each is durable before the next begins, and nothing is undone when one fails.
#[derive(Debug, Default)]
pub struct SerialOperations {
    operations: Vec<(EntityAddress, Result<Bytes, CallFailure>)>,
}

/// How far serial operations came.
#[derive(Debug)]
pub struct SerialStop {
    /// Encoded replies of those applied, in order.
    pub applied: Vec<Bytes>,
    /// The one that failed, and why; those after it did not begin.
    pub failed: (usize, CallFailure),
}

impl SerialOperations {
    /// No operation yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a command.
    pub fn add<A: Speaks>(&mut self, to: &Address<A>, command: &A::Command) {
        let address = to.untyped().clone();
        let payload = encode(command).map(Bytes::from).map_err(|e| CallFailure {
            entity: address.name().clone(),
            id: None,
            kind: FailureKind::Refused(Refusal::Malformed(e.to_string())),
        });
        self.operations.push((address, payload));
    }

    /// Runs them.
    ///
    /// # Errors
    /// [`SerialStop`]: what was applied stays applied.
    ///
    /// # Cancel safety
    /// Dropped while it runs, a part may be applied.
    pub async fn run(self) -> Result<Vec<Bytes>, SerialStop> {
        let mut applied = Vec::with_capacity(self.operations.len());
        for (index, (address, payload)) in self.operations.into_iter().enumerate() {
            let result = match payload {
                Ok(payload) => address.call(payload, crate::entity::CallOptions::default()).await,
                Err(fault) => Err(fault),
            };
            match result {
                Ok(reply) => applied.push(reply),
                Err(failure) => return Err(SerialStop { applied, failed: (index, failure) }),
            }
        }
        Ok(applied)
    }
}
