//! Feed, removal and retention, through the whole system.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stanchion::{
    Activity, ActivityCtx, Agent, Completion, Ctx, Decision, EventSourced, Failure, Fed, FeedError,
    FeedEvent, History, Never, PurgeError, System,
    clock::Clock,
    ids::{Name, Position, Timestamp},
    port::{ListQuery, memory::MemoryStore},
    workflow::{Definition, RUN_KIND, StartRun, Step},
};
use tokio::sync::Semaphore;

use crate::kit::{crash, stop, until_async};

/// A counter whose transitions are in the feed, the last three of them kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Fedder {
    total: u64,
}

impl Agent for Fedder {
    const KIND: &'static str = "fedder";
    const HISTORY: History = History::Last(3);
    const FEED: bool = true;
    type Command = u64;
    type Reply = u64;
    type Rejection = Never;
    fn handle(&mut self, add: u64, _: &mut Ctx<'_>) -> Result<u64, Never> {
        self.total += add;
        Ok(self.total)
    }
}

/// The same, and nobody reads about it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Quiet {
    total: u64,
}

impl Agent for Quiet {
    const KIND: &'static str = "quiet";
    type Command = u64;
    type Reply = u64;
    type Rejection = Never;
    fn handle(&mut self, add: u64, _: &mut Ctx<'_>) -> Result<u64, Never> {
        self.total += add;
        Ok(self.total)
    }
}

/// An event-sourced counter in the feed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    total: u64,
}

impl EventSourced for Sums {
    const KIND: &'static str = "sums";
    const FEED: bool = true;
    type Command = u64;
    type Reply = u64;
    type Rejection = Never;
    type Event = u64;
    fn decide(&self, add: u64, _: &mut Ctx<'_>) -> Result<Decision<u64, u64>, Never> {
        Ok(Decision { events: vec![add], reply: self.total + add })
    }
    fn evolve(&mut self, event: &u64) {
        self.total += event;
    }
}

/// Ends when it is let.
struct Held(Arc<Semaphore>);

impl Activity for Held {
    const NAME: &'static str = "held";
    type Input = Value;
    type Output = Value;
    async fn run(&self, _: ActivityCtx, _: Value) -> Result<Value, Failure> {
        self.0.acquire().await.map_err(|_| Failure::permanent("closed", "closed"))?.forget();
        Ok(json!("done"))
    }
}

/// Starts the activity once, with its first command.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Starter {
    ended: bool,
}

impl Agent for Starter {
    const KIND: &'static str = "starter";
    type Command = ();
    type Reply = bool;
    type Rejection = Never;
    fn handle(&mut self, (): (), ctx: &mut Ctx<'_>) -> Result<bool, Never> {
        if ctx.version().0 == 0 {
            let _ = ctx.start::<Held>(&Value::Null);
        }
        Ok(self.ended)
    }
    fn completed(&mut self, _: Completion, _: &mut Ctx<'_>) {
        self.ended = true;
    }
}

fn builder() -> stanchion::Builder {
    System::builder().agent::<Fedder>().agent::<Quiet>().event_sourced::<Sums>()
}

async fn add(system: &System, key: &str, by: u64) -> u64 {
    system.agent::<Fedder>(key).unwrap().call(by).await.unwrap()
}

fn totals(events: &[FeedEvent]) -> Vec<(String, u64, u64)> {
    let told = |event: &FeedEvent| {
        let total = event.state::<Fedder>().unwrap().map_or(0, |state| state.total);
        (event.name().map_or_else(String::new, |name| name.key.to_string()), event.version.0, total)
    };
    events.iter().map(told).collect()
}

fn told(key: &str, version: u64, total: u64) -> (String, u64, u64) {
    (key.to_owned(), version, total)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_gives_every_transition_of_its_kind_in_order_and_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.redb");
    let system = builder().open(&path).await.unwrap();
    let mut feed = system.feed("fedder", Position(0)).unwrap();
    assert_eq!(feed.page(9).await.unwrap(), []);
    add(&system, "a", 1).await;
    system.agent::<Quiet>("q").unwrap().call(1).await.unwrap();
    add(&system, "b", 10).await;
    add(&system, "a", 2).await;
    let first = feed.page(2).await.unwrap();
    assert_eq!(totals(&first), [told("a", 1, 1), told("b", 1, 10)]);
    let kept = feed.position();
    assert_eq!(totals(&feed.page(9).await.unwrap()), [told("a", 2, 3)]);
    assert_eq!(feed.page(9).await.unwrap(), []);
    stop(system).await;

    let system = builder().open(&path).await.unwrap();
    let mut feed = system.feed("fedder", kept).unwrap();
    assert_eq!(totals(&[feed.next().await.unwrap()]), [told("a", 2, 3)]);
    let (next, total) = tokio::join!(feed.next(), add(&system, "a", 4));
    assert_eq!((totals(&[next.unwrap()]), total), (vec![told("a", 3, 7)], 7));
    stop(system).await;
}

#[tokio::test]
async fn an_entry_that_is_kept_no_longer_or_was_purged_is_told_and_not_left_out() {
    let store = MemoryStore::new();
    let system = builder().open_on(store).await.unwrap();
    for by in 1..=5 {
        add(&system, "a", by).await;
    }
    add(&system, "b", 1).await;
    assert!(system.purge(&Name::new("fedder", "b").unwrap()).await.unwrap());
    let events = system.feed("fedder", Position(0)).unwrap().page(99).await.unwrap();
    let versions: Vec<u64> = events.iter().map(|event| event.version.0).collect();
    assert_eq!(versions, [1, 2, 3, 4, 5, 1]);
    assert!(matches!(events[0].entry, Fed::Truncated { first } if first.0 == 3), "{:?}", events[0]);
    assert!(matches!(&events[2].entry, Fed::Entry(entry) if entry.head.version.0 == 3));
    assert_eq!(events[5].entry, Fed::Purged);
    stop(system).await;
}

#[tokio::test]
async fn the_feed_of_an_event_sourced_kind_gives_its_events() {
    let system = builder().open_memory().await.unwrap();
    let sums = system.event_sourced::<Sums>("s").unwrap();
    for by in [3, 4] {
        sums.call(by).await.unwrap();
    }
    let events = system.feed("sums", Position(0)).unwrap().page(9).await.unwrap();
    let events: Vec<Vec<u64>> = events.iter().map(|event| event.events().unwrap()).collect();
    assert_eq!(events, [[3], [4]]);
    stop(system).await;
}

#[tokio::test]
async fn a_kind_without_a_feed_has_none() {
    let system = builder().open_memory().await.unwrap();
    assert_eq!(system.feed("quiet", Position(0)).unwrap_err(), FeedError::NoFeed("quiet".into()));
    assert_eq!(system.feed("nobody", Position(0)).unwrap_err(), FeedError::UnknownKind("nobody".into()));
    stop(system).await;
}

#[tokio::test]
async fn a_position_of_a_later_time_than_the_store_is_refused() {
    let system = builder().open_memory().await.unwrap();
    add(&system, "a", 1).await;
    assert!(system.feed("fedder", Position(1)).is_ok());
    let ahead = FeedError::Ahead { after: Position(2), last: Position(1) };
    assert_eq!(system.feed("fedder", Position(2)).unwrap_err(), ahead);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purged_agent_begins_anew_under_another_number_and_commands_meanwhile_are_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.redb");
    let system = builder().open(&path).await.unwrap();
    let name = Name::new("fedder", "a").unwrap();
    add(&system, "a", 5).await;
    let before = system.store().resolve(&name).await.unwrap().unwrap();
    let address = system.agent::<Fedder>("a").unwrap();
    let (purged, during) = tokio::join!(system.purge(&name), address.call(1));
    assert!(purged.unwrap());
    // Handled before the removal, or after it by the new one.
    assert!([6, 1].contains(&during.unwrap()));
    let total = add(&system, "a", 10).await;
    assert!([10, 11].contains(&total), "{total}");
    assert!(system.store().resolve(&name).await.unwrap().unwrap() > before);
    crash(system).await;
    let system = builder().open(&path).await.unwrap();
    assert_eq!(add(&system, "a", 0).await, total);
    assert!(system.purge(&name).await.unwrap());
    assert!(!system.purge(&name).await.unwrap(), "there is none any more");
    assert!(!system.exists("fedder", "a").await.unwrap());
    stop(system).await;
    let report = stanchion::store::verify(&path, &stanchion::store::StoreOptions::default()).unwrap();
    assert_eq!(report.faults, []);
}

#[tokio::test]
async fn a_retry_of_a_command_from_before_the_purge_runs_again() {
    let system = builder().open_memory().await.unwrap();
    let address = system.agent::<Fedder>("a").unwrap();
    let ticket = system.env().session().begin();
    assert_eq!(address.call_as(&ticket, 5).await.unwrap(), 5);
    assert_eq!(address.call_as(&ticket, 5).await.unwrap(), 5, "answered from the record");
    assert!(system.purge(&Name::new("fedder", "a").unwrap()).await.unwrap());
    assert_eq!(address.call_as(&ticket, 0).await.unwrap(), 0, "the record went with the entity");
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_with_an_activity_in_flight_is_not_purged() {
    let go = Arc::new(Semaphore::new(0));
    let system = System::builder().agent::<Starter>().activity(Held(go.clone())).open_memory().await.unwrap();
    let (address, name) = (system.agent::<Starter>("a").unwrap(), Name::new("starter", "a").unwrap());
    assert!(!address.call(()).await.unwrap());
    let busy = system.purge(&name).await.unwrap_err();
    assert!(matches!(busy, PurgeError::Busy { .. }), "{busy}");
    go.add_permits(1);
    until_async("the activity has ended", || async { address.read(|state| state.ended).await.unwrap() })
        .await;
    assert!(system.purge(&name).await.unwrap());
    stop(system).await;
}

/// A clock that a test moves.
#[derive(Debug)]
struct Moved(std::sync::atomic::AtomicI64);

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}

async fn begin(system: &System, id: &str) {
    let definition = Definition::builder("one").step(Step::new("a").activity("held")).build();
    let definition = system.workflows().define(definition.validate().unwrap());
    system.workflows().start(StartRun::new(id, definition)).await.unwrap();
}

async fn runs(system: &System) -> Vec<String> {
    let query = ListQuery { kind: Some(RUN_KIND.into()), ..ListQuery::default() };
    let listed = system.store().list(query, 99).await.unwrap();
    listed.into_iter().map(|listed| listed.head.name.key.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_runs_go_when_they_were_kept_long_enough_and_no_others() {
    let clock = Arc::new(Moved(1_000_000_000.into()));
    let go = Arc::new(Semaphore::new(0));
    let system = System::builder()
        .clock(clock.clone())
        .activity(Held(go.clone()))
        .keep_ended_runs(Duration::from_secs(10))
        .open_memory()
        .await
        .unwrap();
    for id in ["r1", "r2"] {
        begin(&system, id).await;
        go.add_permits(1);
        system.workflows().wait(id).await.unwrap();
        clock.0.fetch_add(5_000_000, std::sync::atomic::Ordering::SeqCst);
    }
    begin(&system, "r3").await;
    // r1 ended ten seconds ago, r2 five, r3 runs.
    until_async("the first run is gone", || async { runs(&system).await == ["r2", "r3"] }).await;
    clock.0.fetch_add(100_000_000, std::sync::atomic::Ordering::SeqCst);
    until_async("the second run is gone", || async { runs(&system).await == ["r3"] }).await;
    let running = system.purge(&Name::new(RUN_KIND, "r3").unwrap()).await.unwrap_err();
    assert!(matches!(running, PurgeError::Busy { .. }), "{running}");
    go.add_permits(1);
    system.workflows().wait("r3").await.unwrap();
    begin(&system, "r1").await;
    assert_eq!(runs(&system).await, ["r1", "r3"], "the id is free again");
    go.add_permits(1);
    system.workflows().wait("r1").await.unwrap();
    let (_, stats) = system.stats().into_iter().find(|(name, _)| name == "retention").unwrap();
    assert!(format!("{stats:?}").contains("removed"), "{stats:?}");
    stop(system).await;
}
