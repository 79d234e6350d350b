//! Several entities, one commit: all entries or none.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{cell::EntityCell, mail::Item};
use crate::{
    env::Env,
    error::{CallFailure, Doubt, FailureKind, Refusal, Unavailable},
    ids::{Cause, Name},
    store::{Chain, Completer, Outcome, Record, StoreError},
};

/// Most commands in one transaction.
pub const TRANSACTION_MAX_COMMANDS: usize = 256;

/// An entity that has not prepared within this time is given up, and with it the transaction.
const PREPARE_WITHIN: Duration = Duration::from_secs(30);

/// One entity's part of a transaction.
pub struct Prepare {
    pub(crate) commands: Vec<Bytes>,
    pub(crate) cause: Cause,
    answer: oneshot::Sender<Result<Prepared, (usize, FailureKind)>>,
}

impl Prepare {
    /// Whether nobody waits for the part any more.
    pub(crate) fn is_given_up(&self) -> bool {
        self.answer.is_closed()
    }

    pub(crate) fn refuse(self, index: usize, kind: FailureKind) {
        let _ = self.answer.send(Err((index, kind)));
    }

    pub(crate) fn prepared(self, chain: Chain, done: Completer, replies: Vec<Bytes>, cell: &Arc<EntityCell>) {
        let activation = cell.activations.load(Ordering::SeqCst);
        let cell = Arc::clone(cell);
        // A transaction that gave up drops what it is sent, and dropping settles the chain as not applied.
        let part = Prepared { chain: Some(chain), done: Some(done), replies, cell, activation };
        let _ = self.answer.send(Ok(part));
    }
}

/// A decided part: the entity goes on speculatively and waits for the outcome.
struct Prepared {
    chain: Option<Chain>,
    done: Option<Completer>,
    replies: Vec<Bytes>,
    cell: Arc<EntityCell>,
    /// The entity's activation that decided.
    activation: u64,
}

impl Prepared {
    /// Whether the activation that decided still holds the entity. The store fences a chain of an earlier one;
    /// of an entity that was only read, nothing comes to the store.
    fn holds(&self) -> bool {
        self.cell.activations.load(Ordering::SeqCst) == self.activation
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            done(Err(StoreError::NotApplied("the transaction was given up".into())));
        }
    }
}

/// Commands to several entities of one store that apply together or not at all.
#[derive(Debug, Default)]
pub struct Transaction {
    parts: BTreeMap<Name, Vec<(usize, Bytes)>>,
    commands: usize,
    cause: Cause,
}

impl Transaction {
    /// An empty transaction.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an encoded command. Commands of one entity run in the order added.
    pub fn add(&mut self, to: Name, payload: Bytes) {
        self.parts.entry(to).or_default().push((self.commands, payload));
        self.commands += 1;
    }

    /// Number of commands.
    #[must_use]
    pub fn len(&self) -> usize {
        self.commands
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.commands == 0
    }

    /// Runs it: every command is decided, then all entries go into one commit. Entities are prepared one after
    /// another in the order of their names, so two transactions never wait for each other.
    ///
    /// # Errors
    /// [`CallFailure`] of the command that was refused, or of the commit; then nothing is applied, unless the
    /// kind is `Unknown`.
    ///
    /// # Cancel safety
    /// Dropped before the commit was handed over, nothing is applied; after that it is like `Unknown`.
    pub async fn run(self, env: &Arc<Env>) -> Result<Vec<Bytes>, CallFailure> {
        let Some(first) = self.parts.keys().next().cloned() else { return Ok(Vec::new()) };
        if self.commands > TRANSACTION_MAX_COMMANDS {
            let limit = TRANSACTION_MAX_COMMANDS;
            let refusal = Refusal::TooLarge { what: "transaction".into(), bytes: self.commands, limit };
            return Err(CallFailure { entity: first, id: None, kind: FailureKind::Refused(refusal) });
        }
        let mut replies = vec![Bytes::new(); self.commands];
        let mut prepared = Vec::with_capacity(self.parts.len());
        for (name, commands) in self.parts {
            let (places, payloads): (Vec<usize>, Vec<Bytes>) = commands.into_iter().unzip();
            let mut part = prepare(env, &name, payloads, self.cause.clone()).await?;
            for (place, reply) in places.into_iter().zip(std::mem::take(&mut part.replies)) {
                if let Some(slot) = replies.get_mut(place) {
                    *slot = reply;
                }
            }
            prepared.push(part);
        }
        // All were held when the last one was decided: what was read in each belongs together.
        if !prepared.iter().all(Prepared::holds) {
            let kind = FailureKind::Unavailable(Unavailable::Fenced);
            return Err(CallFailure { entity: first, id: None, kind });
        }
        commit(env, prepared).await.map_err(|kind| CallFailure { entity: first, id: None, kind })?;
        Ok(replies)
    }
}

async fn prepare(
    env: &Arc<Env>,
    name: &Name,
    commands: Vec<Bytes>,
    cause: Cause,
) -> Result<Prepared, CallFailure> {
    let fail = |kind| CallFailure { entity: name.clone(), id: None, kind };
    if env.is_draining() {
        return Err(fail(FailureKind::Unavailable(Unavailable::Draining)));
    }
    let cell = match env.way_to(name) {
        Ok(None) => env.directory().cell(&name.here()),
        Ok(Some(_)) => Err(Refusal::NotRemote("a transaction".to_owned())),
        Err(refusal) => Err(refusal),
    };
    let cell = cell.map_err(|refusal| fail(FailureKind::Refused(refusal)))?;
    if let Some(why) = cell.blocked() {
        return Err(fail(FailureKind::Unavailable(Unavailable::CrashLoop(why))));
    }
    let (answer, answered) = oneshot::channel();
    cell.push_internal(Item::Prepare(Prepare { commands, cause, answer }));
    match tokio::time::timeout(PREPARE_WITHIN, answered).await {
        Ok(Ok(Ok(prepared))) => Ok(prepared),
        Ok(Ok(Err((_, kind)))) => Err(fail(kind)),
        Ok(Err(_dropped)) => Err(fail(FailureKind::Unavailable(Unavailable::Stopped))),
        Err(_elapsed) => Err(fail(FailureKind::Unavailable(Unavailable::DeadlinePassed))),
    }
}

async fn commit(env: &Arc<Env>, mut prepared: Vec<Prepared>) -> Result<(), FailureKind> {
    let mut chains = Vec::new();
    let mut completers = Vec::new();
    for part in &mut prepared {
        let (Some(chain), Some(done)) = (part.chain.take(), part.done.take()) else { continue };
        if chain.is_empty() {
            // Nothing changed there: its pipeline is free again at once.
            done(Ok(Outcome::Applied { position: env.store().current().position() }));
        } else {
            chains.push(chain);
            completers.push(done);
        }
    }
    if chains.is_empty() {
        return Ok(());
    }
    let (tell, told) = oneshot::channel();
    let done: Completer = Box::new(move |outcome: Result<Outcome, StoreError>| {
        for done in completers {
            done(outcome.clone());
        }
        let _ = tell.send(outcome);
    });
    if let Err(refused) = env.store().submit(Record::Atomic(chains), done) {
        (refused.done)(Err(StoreError::NotApplied("the store's queue is full".into())));
    }
    match told.await {
        Ok(Ok(Outcome::Applied { .. })) => Ok(()),
        Ok(Ok(Outcome::Fenced { .. } | Outcome::Conflict { .. })) => {
            Err(FailureKind::Unavailable(Unavailable::Fenced))
        }
        Ok(Err(error)) => Err(FailureKind::from(&error)),
        Err(_dropped) => Err(FailureKind::Unknown(Doubt::Lost)),
    }
}
