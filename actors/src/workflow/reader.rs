//! A run as it is stored: read without waking it, so what is shown is durable.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::{
    command::{RUN_KIND, RunCard},
    definition::ValidDefinition,
    machine::{CARD_ROW, OUTPUT_ROW, restore_state},
    registry::Definitions,
    run::{HistoryLine, OutputRow, RunEvent, RunState},
};
use crate::{
    entity::{Restored, Unreadable},
    ids::{EntityId, Name, Version},
    store::{Change, Entry, Head, HistoryPage, ListQuery, Store, StoreError, decode},
};

/// Entries of history read at a time.
const PAGE: usize = 1_000;

/// Why a run cannot be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No run of this id.
    #[error("there is no run {0:?}")]
    Unknown(String),
    /// What is stored of it cannot be read by this program.
    #[error("run {id:?} is not readable: {why}")]
    Unreadable {
        /// Its id.
        id: String,
        /// Why.
        why: Unreadable,
    },
    /// The store cannot say.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A run at its last durable version.
pub struct StoredRun {
    /// Its number.
    pub entity: EntityId,
    /// Its head.
    pub head: Head,
    /// What it was started with.
    pub card: RunCard,
    /// Its definition.
    pub definition: Arc<ValidDefinition>,
    /// Where it stands.
    pub state: RunState,
}

impl StoredRun {
    /// Reads the run of this id.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read(store: &dyn Store, definitions: &Definitions, id: &str) -> Result<Self, ReadError> {
        let unknown = || ReadError::Unknown(id.to_owned());
        let name = Name::new(RUN_KIND, id).map_err(|_| unknown())?;
        let entity = store.resolve(&name).await?.ok_or_else(unknown)?;
        let loaded = store.load(entity).await?.ok_or_else(unknown)?;
        let head = loaded.head().cloned().ok_or_else(unknown)?;
        let unreadable = |why| ReadError::Unreadable { id: id.to_owned(), why };
        let missing = |what: &str| unreadable(Unreadable(format!("its {what} is missing")));
        let card = store.row(entity, Bytes::from_static(CARD_ROW)).await?.ok_or_else(|| missing("card"))?;
        let card: RunCard = decode(&card).map_err(|e| unreadable(Unreadable(e.to_string())))?;
        let hash = card.hash().ok_or_else(|| missing("definition's hash"))?;
        let bytes = store.definition(*hash.as_bytes()).await?.ok_or_else(|| missing("definition"))?;
        let definition =
            definitions.read(&hash, &bytes).map_err(|e| unreadable(Unreadable(e.to_string())))?;
        let state = restore_state(&definition, &Restored::of(&loaded)).map_err(unreadable)?;
        Ok(Self { entity, head, card, definition, state })
    }

    /// Output of a completed run; null before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn output(&self, store: &dyn Store) -> Result<Value, StoreError> {
        let row = store.row(self.entity, Bytes::from_static(OUTPUT_ROW)).await?;
        Ok(row.and_then(|row| OutputRow::decode(&row).ok()).unwrap_or(Value::Null))
    }

    /// Gives every line of the history to `each`, in order.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn history(
        &self,
        store: &dyn Store,
        each: &mut (dyn FnMut(HistoryLine) + Send),
    ) -> Result<(), ReadError> {
        let mut from = Some(Version(1));
        while let Some(version) = from {
            from = self.history_page(store, version, each).await?;
        }
        Ok(())
    }

    /// Gives the lines of the entries from version `from` on to `each`, up to a thousand entries; answers the
    /// version to go on with, `None` at the end.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn history_page(
        &self,
        store: &dyn Store,
        from: Version,
        each: &mut (dyn FnMut(HistoryLine) + Send),
    ) -> Result<Option<Version>, ReadError> {
        let entries = match store.history(self.entity, from, PAGE).await? {
            HistoryPage::Entries(entries) => entries,
            HistoryPage::Truncated { first } => return Ok(Some(first)),
        };
        for entry in &entries {
            self.lines(entry, each)?;
        }
        Ok(entries.last().map(|entry| entry.head.version.next()))
    }

    /// Where the run stood after its version `at`; `None` when it has not got that far.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn at(&self, store: &dyn Store, at: Version) -> Result<Option<RunState>, ReadError> {
        let mut state = RunState::new();
        let mut from = Version(1);
        loop {
            let HistoryPage::Entries(entries) = store.history(self.entity, from, PAGE).await? else {
                return Ok(None);
            };
            let Some(last) = entries.last().map(|entry| entry.head.version) else { return Ok(None) };
            for entry in entries.iter().take_while(|entry| entry.head.version <= at) {
                for event in self.events(entry)? {
                    state.evolve(&self.definition, &event);
                }
            }
            if last >= at {
                return Ok(Some(state));
            }
            from = last.next();
        }
    }

    fn events(&self, entry: &Entry) -> Result<Vec<RunEvent>, ReadError> {
        let Change::Events { events, .. } = &entry.change else { return Ok(Vec::new()) };
        let read = |bytes: &Bytes| {
            decode(bytes).map_err(|e| ReadError::Unreadable {
                id: self.head.name.key.to_string(),
                why: Unreadable(e.to_string()),
            })
        };
        events.iter().map(read).collect()
    }

    fn lines(&self, entry: &Entry, each: &mut (dyn FnMut(HistoryLine) + Send)) -> Result<(), ReadError> {
        for event in self.events(entry)? {
            let (version, at) = (entry.head.version.0, entry.head.updated.0);
            if let Some(line) = HistoryLine::of(&self.definition, &event, version, at) {
                each(line);
            }
        }
        Ok(())
    }
}

/// Ids of runs in the order of their names, after `after`, at most `limit`.
///
/// # Errors
/// [`StoreError`].
pub async fn run_ids(
    store: &dyn Store,
    status: Option<&str>,
    after: Option<Name>,
    limit: usize,
) -> Result<Vec<Name>, StoreError> {
    let query = ListQuery { kind: Some(RUN_KIND.to_owned()), status: status.map(str::to_owned), after };
    Ok(store.list(query, limit).await?.into_iter().map(|listed| listed.head.name).collect())
}
