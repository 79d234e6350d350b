//! The writer without actors: records are handed to the store as an entity's actor would.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use stanchion::{
    ids::{Cause, Name, Timestamp, Version},
    port::{
        Activated, Chain, Change, Entry, Head, History, Incarnation, Outcome, Record, Store, Token, encode,
    },
    store::{RedbStore, StoreOptions},
};
use tokio::{sync::oneshot, task::JoinSet};

use crate::{
    Lab,
    agents::Blob,
    discard,
    drive::{Cell, Lane, drive},
};

/// Xorshift: enough for a choice of entities.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: usize) -> Self {
        Self((seed as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// An entity as its only writer knows it.
pub struct Owned {
    name: Name,
    token: Token,
    version: u64,
}

fn entry(name: &Name, version: u64, state: Bytes) -> Entry {
    let head = Head {
        name: name.clone(),
        schema: 1,
        version: Version(version),
        created: Timestamp(1),
        updated: Timestamp(version as i64),
        status: String::new(),
        next_message: 1,
        next_effect: 1,
        state_crc: crc32c::crc32c(&state),
        history: History::Last(1_000),
        feed: false,
    };
    Entry {
        head,
        change: Change::State(state),
        rows: Vec::new(),
        messages: Vec::new(),
        timers: Vec::new(),
        effects: Vec::new(),
        dedup: Vec::new(),
        consumed: Vec::new(),
        parked: Vec::new(),
        status_before: None,
        cause: Cause::default(),
    }
}

/// Takes an entity of the kind [`Blob`].
pub async fn take(store: &RedbStore, key: String) -> Owned {
    let name = Name::new("blob", key).expect("a name");
    let entity = store.create(&name).await.expect("a number").entity();
    let Activated::Granted(token) = store.activate(entity, Incarnation(1)).await.expect("an activation")
    else {
        unreachable!("nobody else writes it")
    };
    Owned { name, token, version: 0 }
}

impl Owned {
    /// Commits `entries` entries with this state, in one chain.
    async fn write(&mut self, store: &RedbStore, entries: u64, state: &Bytes) {
        let mut chain = Chain::new(self.token, Version(self.version));
        for _ in 0..entries {
            self.version += 1;
            chain.push(entry(&self.name, self.version, state.clone())).expect("an entry");
        }
        let (answer, waiting) = oneshot::channel();
        let done = Box::new(move |result| drop(answer.send(result)));
        assert!(store.submit(Record::Chain(chain), done).is_ok(), "a place in the queue");
        let outcome = waiting.await.expect("an answer").expect("an outcome");
        assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    }
}

/// A writer of some entities, a random one each time.
pub struct Writer {
    pub store: Arc<RedbStore>,
    pub entities: Vec<Owned>,
    random: Random,
    state: Bytes,
    /// Copies and encodes the state each time, as an agent does.
    encoding: Option<Blob>,
}

impl Writer {
    pub fn new(store: &Arc<RedbStore>, seed: usize, encoding: bool) -> Self {
        let state = Bytes::from(encode(&Blob::default()).expect("a state"));
        let encoding = encoding.then(Blob::default);
        Self { store: Arc::clone(store), entities: Vec::new(), random: Random::new(seed), state, encoding }
    }
}

impl Lane for Writer {
    async fn step(&mut self) {
        let at = self.random.below(self.entities.len());
        let state = match &mut self.encoding {
            None => self.state.clone(),
            Some(blob) => {
                let mut copy = blob.clone();
                copy.count += 1;
                let encoded = Bytes::from(encode(&copy).expect("a state"));
                *blob = copy;
                encoded
            }
        };
        self.entities[at].write(&self.store, 1, &state).await;
    }
}

/// `writers` writers with one entity each.
pub async fn own(lab: &Lab, writers: usize, encoding: bool, seconds: f64) -> Cell {
    let path = lab.path("bare");
    let store = Arc::new(RedbStore::open(&path, StoreOptions::default()).expect("a store"));
    let mut lanes = Vec::new();
    for n in 0..writers {
        let mut lane = Writer::new(&store, n, encoding);
        lane.entities.push(take(&store, format!("a{n}")).await);
        lanes.push(lane);
    }
    let (cell, lanes) = drive(lanes, seconds, || store.stats()).await;
    drop(lanes);
    store.close().await.expect("a clean end");
    discard(&path);
    cell
}

/// A store with this many entities `w0..` of `entries` entries each, all folded; shared out among `writers` writers.
pub async fn filled(
    path: &Path,
    entities: usize,
    entries: u64,
    writers: usize,
) -> (Arc<RedbStore>, Vec<Writer>) {
    let store = Arc::new(RedbStore::open(path, StoreOptions::default()).expect("a store"));
    let mut tasks = JoinSet::new();
    for n in 0..writers {
        let mut lane = Writer::new(&store, n, false);
        tasks.spawn(async move {
            for key in (n..entities).step_by(writers) {
                let mut owned = take(&lane.store, format!("w{key}")).await;
                owned.write(&lane.store, entries, &lane.state).await;
                lane.entities.push(owned);
            }
            lane
        });
    }
    let lanes = tasks.join_all().await;
    store.fold().await.expect("a fold");
    (store, lanes)
}

/// Shares the entities out among another number of writers.
pub fn shared_out(store: &Arc<RedbStore>, lanes: Vec<Writer>, writers: usize) -> Vec<Writer> {
    let mut shared: Vec<Writer> = (0..writers).map(|n| Writer::new(store, n, false)).collect();
    for (n, owned) in lanes.into_iter().flat_map(|lane| lane.entities).enumerate() {
        shared[n % writers].entities.push(owned);
    }
    shared
}
