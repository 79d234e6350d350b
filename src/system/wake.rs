//! Wakes what has work left: undelivered messages, enqueued commands, effects in flight.

use std::{sync::Arc, time::Duration};

use stanchion_actors::{env::Env, ids::EntityId, store::StoreError};

/// Entities read at a time.
const PAGE: usize = 256;
/// Pause between pages, so that waking does not crowd out callers.
const PAUSE: Duration = Duration::from_millis(1);
/// Pause after a page that could not be read.
const RETRY: Duration = Duration::from_millis(200);

/// Starts waking, beside everything else.
pub(super) fn start(env: &Arc<Env>) {
    let waking = Arc::clone(env);
    let spawned = env.tasks().spawn("wake", async move {
        let mut after = None;
        loop {
            match page(&waking, after).await {
                Ok(None) => break,
                Ok(last) => after = last,
                Err(error) => {
                    tracing::warn!(%error, "work left could not be read");
                    tokio::time::sleep(RETRY).await;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    drop(spawned);
}

/// Wakes one page; `None`: there is no further one.
async fn page(env: &Env, after: Option<EntityId>) -> Result<Option<EntityId>, StoreError> {
    let store = env.store().current();
    let entities = store.work(after, PAGE).await?;
    for entity in &entities {
        let loaded = match store.load(*entity).await {
            Ok(loaded) => loaded.unwrap_or_default(),
            // It is quarantined; all others are taken up.
            Err(error @ StoreError::Corrupt { .. }) => {
                tracing::error!(%entity, %error, "work left of an unreadable entity");
                continue;
            }
            Err(error) => return Err(error),
        };
        let name = match (loaded.head(), loaded.inbox.first()) {
            (Some(head), _) => head.name.clone(),
            (None, Some((_, item))) => item.to.clone(),
            (None, None) => continue,
        };
        match env.directory().cell(&name) {
            Ok(cell) => cell.wake(),
            Err(refusal) => {
                tracing::warn!(entity = %name, %refusal, "work left of a kind that is not registered")
            }
        }
    }
    Ok(entities.last().copied().filter(|_| entities.len() == PAGE))
}
