//! Reading the feed: the entries of one kind, in the order of their commits.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use serde::de::DeserializeOwned;
use stanchion_actors::{
    env::Env,
    ids::{EntityId, Name, Position, Version},
    store::{Change, CodecError, Entry, FeedFilter, FeedItem, HistoryPage, Store, StoreError, decode},
};

/// Places read at a time while entries are waited for.
const PAGE: usize = 256;

/// Why a kind's feed cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// No kind of this name is registered: register it.
    #[error("kind {0:?} is not registered")]
    UnknownKind(String),
    /// The kind's entries get no places in the feed: set `FEED` for it.
    #[error("kind {0:?} has no feed: set FEED for it")]
    NoFeed(String),
    /// The position is of a later time than the store, which was restored from a backup, or is another one: whoever
    /// reads on from there misses what comes. Read from the position that was kept with the backup.
    #[error("position {after} lies behind the last one of the store, {last}")]
    Ahead {
        /// Where reading was to go on.
        after: Position,
        /// Last position of the store.
        last: Position,
    },
}

/// What is left of an entry that the feed names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fed {
    /// The entry.
    Entry(Box<Entry>),
    /// It is no longer kept; the first one kept of the entity is given.
    Truncated {
        /// First version kept.
        first: Version,
    },
    /// The entity was removed since.
    Purged,
}

/// One place of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedEvent {
    /// Where it was committed: keep it to go on from here.
    pub position: Position,
    /// Number of the entity.
    pub entity: EntityId,
    /// Version of the entity after the entry.
    pub version: Version,
    /// The entry.
    pub entry: Fed,
}

impl FeedEvent {
    /// Name of the entity, while the entry is kept.
    #[must_use]
    pub fn name(&self) -> Option<&Name> {
        match &self.entry {
            Fed::Entry(entry) => Some(&entry.head.name),
            Fed::Truncated { .. } | Fed::Purged => None,
        }
    }

    /// The full state that the entry carries: of an agent, the one after the transition. `None`: it carries none.
    ///
    /// # Errors
    /// [`CodecError`] when it is of another type, or was written under another schema version than `T` reads.
    pub fn state<T: DeserializeOwned>(&self) -> Result<Option<T>, CodecError> {
        match &self.entry {
            Fed::Entry(entry) => entry.change.state().map(|state| decode(state)).transpose(),
            Fed::Truncated { .. } | Fed::Purged => Ok(None),
        }
    }

    /// The events of an event-sourced entity that the entry carries, in order.
    ///
    /// # Errors
    /// As [`Self::state`].
    pub fn events<T: DeserializeOwned>(&self) -> Result<Vec<T>, CodecError> {
        match &self.entry {
            Fed::Entry(entry) => match &entry.change {
                Change::Events { events, .. } => events.iter().map(|event| decode(event)).collect(),
                Change::State(_) => Ok(Vec::new()),
            },
            Fed::Truncated { .. } | Fed::Purged => Ok(Vec::new()),
        }
    }
}

/// Reads the entries of one kind in the order of their commits.
///
/// # Guarantees
/// Every entry of the kind that is durable comes exactly once and in order, however the reader is stopped and goes on
/// from the position it kept. One that is kept no longer comes as [`Fed::Truncated`]: nothing is left out in silence.
#[derive(Debug)]
pub struct Feed {
    env: Arc<Env>,
    filter: FeedFilter,
    /// Everything up to here was read.
    read: Position,
    /// Everything up to here was given out.
    given: Position,
    ahead: VecDeque<FeedItem>,
    refresh: Duration,
}

impl Feed {
    pub(super) fn new(env: Arc<Env>, kind: &str, after: Position) -> Result<Self, FeedError> {
        match env.directory().kind(kind).map(|kind| kind.feed) {
            None => return Err(FeedError::UnknownKind(kind.to_owned())),
            Some(false) => return Err(FeedError::NoFeed(kind.to_owned())),
            Some(true) => {}
        }
        let last = env.store().current().position();
        if after > last {
            return Err(FeedError::Ahead { after, last });
        }
        let filter = FeedFilter::of_kind(kind);
        let (ahead, refresh) = (VecDeque::new(), Duration::from_millis(100));
        Ok(Self { env, filter, read: after, given: after, ahead, refresh })
    }

    /// How often [`Self::next`] looks for what is new; default 100 ms.
    #[must_use]
    pub fn refresh(mut self, every: Duration) -> Self {
        self.refresh = every;
        self
    }

    /// Where to go on later: everything up to here was given out.
    #[must_use]
    pub fn position(&self) -> Position {
        self.given
    }

    /// The next entries, at most `limit`; none when there are no more at this moment.
    ///
    /// # Errors
    /// [`StoreError`]; asked again, it goes on where it was.
    ///
    /// # Cancel safety
    /// Dropped while it waits, no entry is lost.
    pub async fn page(&mut self, limit: usize) -> Result<Vec<FeedEvent>, StoreError> {
        let store = self.env.store().current();
        while self.ahead.is_empty() {
            let page = store.feed(self.read, self.filter.clone(), limit.clamp(1, PAGE)).await?;
            let ended = page.items.is_empty() && page.until == self.read;
            self.read = page.until;
            self.ahead.extend(page.items);
            if ended {
                break;
            }
        }
        let mut events = Vec::new();
        for item in self.ahead.iter().take(limit) {
            events.push(event(store.as_ref(), item).await?);
        }
        self.ahead.drain(..events.len());
        self.given = match (self.ahead.is_empty(), events.last()) {
            (true, _) => self.read,
            (false, Some(last)) => last.position,
            (false, None) => self.given,
        };
        Ok(events)
    }

    /// The next entry; waits until there is one.
    ///
    /// # Errors
    /// As [`Self::page`].
    ///
    /// # Cancel safety
    /// As [`Self::page`].
    pub async fn next(&mut self) -> Result<FeedEvent, StoreError> {
        loop {
            if let Some(event) = self.page(1).await?.pop() {
                return Ok(event);
            }
            while self.env.store().current().position() <= self.read {
                tokio::time::sleep(self.refresh).await;
            }
        }
    }
}

/// Reads the entry of a place.
async fn event(store: &dyn Store, item: &FeedItem) -> Result<FeedEvent, StoreError> {
    let entry = match store.history(item.entity, item.version, 1).await? {
        HistoryPage::Entries(mut entries) => match entries.pop() {
            Some(entry) if entry.head.version == item.version => Fed::Entry(Box::new(entry)),
            Some(later) => Fed::Truncated { first: later.head.version },
            None => Fed::Purged,
        },
        HistoryPage::Truncated { first } => Fed::Truncated { first },
        _ => Fed::Truncated { first: item.version.next() },
    };
    Ok(FeedEvent { position: item.position, entity: item.entity, version: item.version, entry })
}
