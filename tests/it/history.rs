//! What is stored, read by later programs: upcasters, quarantine, history, folds; and random crashes.

use std::time::Duration;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use stanchion::{
    Agent, Ctx, Decision, EventSourced, History, Never, NoUpcast, System,
    error::{CallError, Unavailable},
    ids::{Name, Version},
    port::{HistoryPage, memory::MemoryStore},
};

use crate::kit::{Answer, Command, crash, ledger, open, stop};

/// The same kind as three programs know it.
mod counters {
    use super::*;

    macro_rules! counter {
        ($name:ident, $version:literal, $($field:ident: $type:ty),+) => {
            #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
            pub(super) struct $name { $(pub(super) $field: $type),+ }

            impl Agent for $name {
                const KIND: &'static str = "counter";
                const VERSION: u16 = $version;
                const HISTORY: History = History::Last(5);
                type Command = u64;
                type Reply = String;
                type Rejection = Never;
                fn handle(&mut self, add: u64, _: &mut Ctx<'_>) -> Result<String, Never> {
                    self.add(add);
                    Ok(format!("{self:?}"))
                }
                fn upcast(from: u16, stored: serde_json::Value) -> Result<serde_json::Value, NoUpcast> {
                    super::upcast(from, stored)
                }
            }
        };
    }

    counter!(V1, 1, n: u64);
    counter!(V2, 2, total: u64);
    counter!(V3, 3, total: u64, label: String);

    impl V1 {
        fn add(&mut self, add: u64) {
            self.n += add;
        }
    }
    impl V2 {
        fn add(&mut self, add: u64) {
            self.total += add;
        }
    }
    impl V3 {
        fn add(&mut self, add: u64) {
            self.total += add;
            self.label.push('x');
        }
    }
}

fn upcast(from: u16, stored: serde_json::Value) -> Result<serde_json::Value, NoUpcast> {
    match from {
        1 => Ok(serde_json::json!({ "total": stored["n"] })),
        2 => Ok(serde_json::json!({ "total": stored["total"], "label": "new" })),
        _ => Err(NoUpcast { from, to: 3 }),
    }
}

async fn as_version<A: Agent + Sync>(store: &MemoryStore) -> System {
    System::builder().agent::<A>().open_on(store.clone()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_of_version_one_is_read_by_version_three() {
    let store = MemoryStore::new();
    let system = as_version::<counters::V1>(&store).await;
    system.agent::<counters::V1>("c").unwrap().call(7).await.unwrap();
    let store = store.reopen();
    crash(system).await;
    let system = as_version::<counters::V3>(&store).await;
    let counter = system.agent::<counters::V3>("c").unwrap();
    let seen = counter.read(Clone::clone).await.unwrap();
    assert_eq!(seen, counters::V3 { total: 7, label: "new".into() });
    assert_eq!(counter.call(1).await.unwrap(), "V3 { total: 8, label: \"newx\" }");
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_of_a_newer_program_is_quarantined_alone_and_untouched() {
    let store = MemoryStore::new();
    let system = as_version::<counters::V3>(&store).await;
    system.agent::<counters::V3>("new").unwrap().call(7).await.unwrap();
    let store = store.reopen();
    crash(system).await;
    let before = loaded(&store, "new").await;
    let system = as_version::<counters::V2>(&store).await;
    let counter = system.agent::<counters::V2>("new").unwrap().with_deadline(Duration::from_secs(5));
    for _ in 0..3 {
        let Err(CallError::Unavailable(context)) = counter.call(1).await else { panic!("it was read") };
        assert!(matches!(context.kind, Unavailable::Quarantined(_)), "{context}");
    }
    assert!(counter.read(|_| ()).await.is_err());
    let mut transact = stanchion::Transact::new();
    transact.add(&counter, &1);
    assert!(system.transact(transact).await.is_err(), "a transaction does not wait for ever");
    let other = system.agent::<counters::V2>("other").unwrap();
    assert_eq!(other.call(1).await.unwrap(), "V2 { total: 1 }");
    assert_eq!(loaded(&store, "new").await, before, "its bytes are untouched");
    stop(system).await;
}

async fn loaded(store: &MemoryStore, key: &str) -> stanchion::port::Loaded {
    use stanchion::port::Store;
    let entity = store.resolve(&Name::new("counter", key).unwrap()).await.unwrap().unwrap();
    store.load(entity).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_beyond_what_is_kept_is_truncated() {
    let system = as_version::<counters::V1>(&MemoryStore::new()).await;
    let counter = system.agent::<counters::V1>("c").unwrap();
    for _ in 0..20 {
        counter.call(1).await.unwrap();
    }
    let entity = counter.untyped().cell().unwrap().entity().unwrap();
    let old = system.store().history(entity, Version(1), 10).await.unwrap();
    let HistoryPage::Truncated { first } = old else { panic!("{old:?}") };
    assert!((Version(14)..=Version(16)).contains(&first), "{first:?}");
    let kept = system.store().history(entity, first, 100).await.unwrap();
    let HistoryPage::Entries(entries) = kept else { panic!("{kept:?}") };
    assert_eq!(entries.last().unwrap().head.version, Version(20));
    stop(system).await;
}

/// Sums by events; version 2 renames the event's field.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sum {
    total: u64,
    events: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Added {
    amount: u64,
}

impl EventSourced for Sum {
    const KIND: &'static str = "sum";
    const VERSION: u16 = 2;
    type Command = u64;
    type Reply = u64;
    type Rejection = Never;
    type Event = Added;
    fn decide(&self, amount: u64, _: &mut Ctx<'_>) -> Result<Decision<Added, u64>, Never> {
        Ok(Decision { events: vec![Added { amount }], reply: self.total + amount })
    }
    fn evolve(&mut self, event: &Added) {
        self.total += event.amount;
        self.events += 1;
    }
    fn upcast_state(_: u16, stored: serde_json::Value) -> Result<serde_json::Value, NoUpcast> {
        Ok(stored)
    }
    fn upcast_event(_: u16, stored: serde_json::Value) -> Result<serde_json::Value, NoUpcast> {
        Ok(serde_json::json!({ "amount": stored["n"] }))
    }
}

/// The same kind at version 1.
#[derive(Debug, Default, Serialize, Deserialize)]
struct OldSum {
    total: u64,
    events: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct OldAdded {
    n: u64,
}

impl EventSourced for OldSum {
    const KIND: &'static str = "sum";
    type Command = u64;
    type Reply = u64;
    type Rejection = Never;
    type Event = OldAdded;
    fn decide(&self, n: u64, _: &mut Ctx<'_>) -> Result<Decision<OldAdded, u64>, Never> {
        Ok(Decision { events: vec![OldAdded { n }], reply: self.total + n })
    }
    fn evolve(&mut self, event: &OldAdded) {
        self.total += event.n;
        self.events += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_and_tail_are_the_full_fold_across_versions() {
    let store = MemoryStore::new();
    let system = System::builder().event_sourced::<OldSum>().open_on(store.clone()).await.unwrap();
    let sum = system.event_sourced::<OldSum>("s").unwrap();
    // Over a snapshot (every 500), and a tail after it.
    for n in 0..700 {
        sum.call(n).await.unwrap();
    }
    let store = store.reopen();
    crash(system).await;
    let system = System::builder().event_sourced::<Sum>().open_on(store.clone()).await.unwrap();
    let sum = system.event_sourced::<Sum>("s").unwrap();
    assert_eq!(sum.call(1).await.unwrap(), 700 * 699 / 2 + 1);
    let entity = sum.untyped().cell().unwrap().entity().unwrap();
    let loaded = system.store().load(entity).await.unwrap().unwrap();
    assert!(loaded.checkpoint.is_some() && loaded.tail.len() < 500, "a snapshot and a bounded tail");
    assert_eq!(sum.read(|state| (state.total, state.events)).await.unwrap(), (700 * 699 / 2 + 1, 701));
    stop(system).await;
}

/// One step of a random life.
#[derive(Clone, Debug)]
enum Step {
    See(u64),
    SeeTwice(u64),
    Reject,
    /// Kill -9, and open what is on disk.
    Crash,
    /// The next commit fails this way.
    Fail(stanchion::port::memory::Failure),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use stanchion::port::memory::Failure;
    let step = prop_oneof![
        6 => (0..1_000_000_u64).prop_map(Step::See),
        2 => (0..1_000_000_u64).prop_map(Step::SeeTwice),
        1 => Just(Step::Reject),
        1 => Just(Step::Crash),
        1 => prop_oneof![
            Just(Failure::NotApplied),
            Just(Failure::UnknownLost),
            Just(Failure::UnknownApplied)
        ].prop_map(Step::Fail),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_crashes_acknowledged_commands_are_there_and_none_twice(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(live(steps))?;
    }
}

/// Lives the steps beside a list of what was acknowledged and what may have been applied.
async fn live(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut store = MemoryStore::new();
    let mut system = open(&store).await;
    let (mut acked, mut possible) = (Vec::new(), Vec::new());
    for (index, step) in steps.into_iter().enumerate() {
        let account = ledger(&system, "a");
        let number = u64::try_from(index).unwrap();
        match step {
            Step::See(n) | Step::SeeTwice(n) => {
                let (ticket, number) = (system.env().session().begin(), number * 1_000_000 + n);
                let again = matches!(step, Step::SeeTwice(_));
                let mut result = account.call_as(&ticket, Command::See(number)).await;
                if again {
                    result = account.call_as(&ticket, Command::See(number)).await.or(result);
                }
                match result {
                    Ok(Answer::Balance(_)) => acked.push(number),
                    Err(CallError::Unknown(_)) => possible.push(number),
                    Err(CallError::Unavailable(_)) if again => possible.push(number),
                    Err(CallError::Unavailable(_)) => {}
                    other => return Err(TestCaseError::fail(format!("{other:?}"))),
                }
            }
            Step::Reject => {
                let _ = account.call(Command::Reject).await;
            }
            Step::Crash => {
                store = on_disk(&system).await;
                crash(std::mem::replace(&mut system, open(&store).await)).await;
            }
            Step::Fail(failure) => store.faults().fail_next(1, failure),
        }
    }
    let account = ledger(&system, "a");
    let seen = loop {
        if let Ok(seen) = account.read(|state| state.seen.clone()).await {
            break seen;
        }
    };
    let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
    prop_assert_eq!(distinct.len(), seen.len(), "twice");
    for number in &acked {
        prop_assert!(distinct.contains(number), "{} was acknowledged", number);
    }
    for number in &seen {
        prop_assert!(acked.contains(number) || possible.contains(number), "{} is nobody's", number);
    }
    crash(system).await;
    Ok(())
}

/// What the store in force has on disk; after a failed flush that is another opening than the first.
async fn on_disk(system: &System) -> MemoryStore {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    while system.store().backup(path.clone(), true).await.is_err() {
        tokio::task::yield_now().await;
    }
    MemoryStore::restore(&path).unwrap()
}
