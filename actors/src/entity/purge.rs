//! Removal of an entity, by its own actor, when nothing is in flight.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::mail::Item;
use crate::{
    env::Env,
    error::{CallFailure, Coded, Doubt, FailureKind, Family, Refusal, Unavailable},
    ids::{EntityId, Name},
    store::{Activated, Incarnation, Outcome, Record, Store, StoreError},
};

/// An entity that has not come to rest within this time is not removed.
const PURGE_WITHIN: Duration = Duration::from_secs(30);

/// Why an entity is not removed; nothing of it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PurgeError {
    /// It has not ended, or something of it is still on its way: end that first.
    #[error("{entity} {why}")]
    Busy {
        /// The entity.
        entity: Name,
        /// What is in the way.
        why: &'static str,
    },
    /// It could not be asked, or the store could not say. Of kind `Unknown`: it may be removed; ask again.
    #[error(transparent)]
    Failed(#[from] CallFailure),
}

impl Coded for PurgeError {
    fn code(&self) -> &'static str {
        match self {
            Self::Busy { .. } => "purge.busy",
            Self::Failed(failure) => failure.code(),
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::Busy { .. } => Family::Rejected,
            Self::Failed(failure) => failure.family(),
        }
    }
}

/// Asks an entity's actor to remove it.
pub struct Purge {
    answer: oneshot::Sender<Result<bool, PurgeError>>,
}

impl Purge {
    pub(crate) fn answer(self, removed: Result<bool, PurgeError>) {
        // Who stopped waiting asks again.
        let _ = self.answer.send(removed);
    }
}

/// Removes the entity of this name with all that is its own: state, rows, history, timers, remembered answers. Answers
/// whether there was one. A name that was removed begins anew with its next command, under another number.
///
/// # Errors
/// [`PurgeError`].
///
/// # Cancel safety
/// Dropped while it waits, the entity may still be removed.
pub async fn purge(env: &Arc<Env>, name: &Name) -> Result<bool, PurgeError> {
    let fail = |kind| PurgeError::Failed(CallFailure { entity: name.clone(), id: None, kind });
    if env.is_draining() {
        return Err(fail(FailureKind::Unavailable(Unavailable::Draining)));
    }
    let name = &match env.way_to(name) {
        Ok(None) => name.here(),
        Ok(Some(_)) => {
            return Err(fail(FailureKind::Refused(Refusal::NotRemote("a removal".to_owned()))));
        }
        Err(refusal) => return Err(fail(FailureKind::Refused(refusal))),
    };
    let store = env.store().current();
    let found = store.resolve(name).await.map_err(|e| fail(FailureKind::from(&e)))?;
    let Some(entity) = found else { return Ok(false) };
    let Ok(cell) = env.directory().cell(name) else {
        // Of a kind that this program does not know: nobody here can be at work on it.
        return remove(store.as_ref(), name, entity, env.incarnation()).await;
    };
    if let Some(why) = cell.blocked() {
        return Err(fail(FailureKind::Unavailable(Unavailable::CrashLoop(why))));
    }
    let (answer, answered) = oneshot::channel();
    cell.push_internal(Item::Purge(Purge { answer }));
    match tokio::time::timeout(PURGE_WITHIN, answered).await {
        Ok(Ok(removed)) => removed,
        Ok(Err(_dropped)) => Err(fail(FailureKind::Unknown(Doubt::Lost))),
        Err(_elapsed) => Err(fail(FailureKind::Unknown(Doubt::DeadlinePassed))),
    }
}

/// Removes what is stored of an entity that nobody is at work on, unless something of it is still on its way.
pub(super) async fn remove(
    store: &dyn Store,
    name: &Name,
    entity: EntityId,
    by: Incarnation,
) -> Result<bool, PurgeError> {
    let failed = |kind| PurgeError::Failed(CallFailure { entity: name.clone(), id: None, kind });
    let of_store = |error: StoreError| failed(FailureKind::from(&error));
    // A barrier: whatever was handed to the store before is readable from here on.
    let token = match store.activate(entity, by).await.map_err(of_store)? {
        Activated::Granted(token) => token,
        Activated::Held { .. } => return Err(failed(FailureKind::Unavailable(Unavailable::Fenced))),
        Activated::Missing => return Ok(false),
    };
    let loaded = store.load(entity).await.map_err(of_store)?;
    let in_the_way = loaded.as_ref().and_then(|loaded| {
        let waiting = [
            (!loaded.inbox.is_empty(), "has commands that wait to be handled"),
            (!loaded.messages.is_empty(), "has messages that are not delivered yet"),
            (!loaded.effects.is_empty(), "has activities that have not ended"),
        ];
        waiting.into_iter().find(|(waits, _)| *waits).map(|(_, why)| why)
    });
    if loaded.is_none() || in_the_way.is_some() {
        store.release(token).await.map_err(of_store)?;
        return match in_the_way {
            Some(why) => Err(PurgeError::Busy { entity: name.clone(), why }),
            None => Ok(false),
        };
    }
    let (tell, told) = oneshot::channel();
    let done = Box::new(move |outcome| drop(tell.send(outcome)));
    if store.submit(Record::Purge { token }, done).is_err() {
        let why = Unavailable::Store("the store's queue is full or closed".into());
        return Err(failed(FailureKind::Unavailable(why)));
    }
    match told.await {
        Ok(Ok(Outcome::Applied { .. })) => Ok(true),
        Ok(Ok(Outcome::Fenced { .. } | Outcome::Conflict { .. })) => {
            Err(failed(FailureKind::Unavailable(Unavailable::Fenced)))
        }
        Ok(Err(error)) => Err(of_store(error)),
        Err(_dropped) => Err(failed(FailureKind::Unknown(Doubt::Lost))),
    }
}
