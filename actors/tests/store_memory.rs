//! The store in memory: conformance, faults, and that the suite finds what is wrong.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics"
)]

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use futures_util::future::{BoxFuture, FutureExt, ready};
use proptest::prelude::*;
use stanchion_actors::{
    ids::{Position, Version},
    store::{
        Activated, Incarnation, Outcome, Record, RefusedWhy, Store, StoreError,
        memory::{Failure, MemoryStore},
    },
    testing::{
        Owned, Rig, StoreFactory,
        conformance::{CASES, run, run_named},
        fixtures::{EntryParts, chain, name},
        model::{Op, agrees},
        mutants::{MUTATIONS, MutantFactory, Mutation},
    },
};
use tokio::sync::oneshot;

/// Makes memory stores; the last one opened is the one that is reopened.
#[derive(Default)]
struct Memory {
    last: Mutex<Option<MemoryStore>>,
    backups: Option<tempfile::TempDir>,
}

impl Memory {
    fn with_backups() -> Self {
        Self { backups: Some(tempfile::tempdir().unwrap()), ..Self::default() }
    }

    fn keep(&self, store: MemoryStore) -> Arc<dyn Store> {
        *self.last.lock().unwrap() = Some(store.clone());
        Arc::new(store)
    }
}

impl StoreFactory for Memory {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Store>, String>> {
        ready(Ok(self.keep(MemoryStore::new()))).boxed()
    }

    fn reopen(&self, store: Arc<dyn Store>) -> BoxFuture<'_, Result<Arc<dyn Store>, String>> {
        drop(store);
        let last = self.last.lock().unwrap().take().unwrap();
        ready(Ok(self.keep(last.reopen()))).boxed()
    }

    fn backup_dir(&self) -> Option<PathBuf> {
        self.backups.as_ref().map(|dir| dir.path().to_owned())
    }

    fn restore(&self, from: &Path) -> BoxFuture<'_, Result<Arc<dyn Store>, String>> {
        let restored = MemoryStore::restore(from).map_err(|e| e.to_string());
        ready(restored.map(|store| self.keep(store))).boxed()
    }
}

stanchion_actors::conformance_tests!(Memory::with_backups());

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn sequences() -> u32 {
    std::env::var("STANCHION_MODEL_SEQUENCES").ok().and_then(|n| n.parse().ok()).unwrap_or(1000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: sequences(), ..ProptestConfig::default() })]

    #[test]
    fn random_operations_agree_with_the_model(draws in proptest::collection::vec(any::<u64>(), 1..60)) {
        let ops: Vec<Op> = draws.into_iter().map(Op::from_draw).collect();
        let checked = block_on(async {
            let mut rig = Rig::open(Arc::new(Memory::default())).await?;
            agrees(&mut rig, &ops).await
        });
        prop_assert_eq!(checked, Ok(()));
    }
}

/// Cases of which at least one must find the mutation; the sure ones, by name.
fn found_by(mutation: Mutation) -> &'static [&'static str] {
    match mutation {
        Mutation::ForgetsRows => &["rows::a_row_comes_back"],
        Mutation::ForgetsDeletes => &["rows::a_deleted_row_is_gone"],
        Mutation::ForgetsTimers => &["timers::a_timer_is_loaded_and_due"],
        Mutation::ForgetsMessages => &["messages::a_message_is_pending_until_consumed"],
        Mutation::ForgetsConsuming => &["messages::the_receivers_entry_consumes_the_message"],
        Mutation::ForgetsEffects => &["work::an_effect_is_loaded_until_it_ends"],
        Mutation::ForgetsAnswers => &["dedup::an_answer_comes_back"],
        Mutation::AcksBeforeCommit => &["chains::a_gap_is_a_conflict"],
        // Which record overtakes which is a matter of threads.
        Mutation::SwapsOrder => &[
            "chains::chains_submitted_without_waiting_apply_in_order",
            "chains::entities_do_not_disturb_each_other",
            "messages::the_inbox_keeps_the_order_of_its_commands",
            "settling::completions_come_in_the_order_of_submission",
            "settling::close_settles_what_was_handed_over",
        ],
        Mutation::SplitsAtomic => &["atomic::one_chain_in_conflict_stops_the_atomic_record"],
        Mutation::HidesFences => &["rights::a_chain_under_an_older_activation_is_fenced"],
        Mutation::HidesConflicts => &["chains::a_gap_is_a_conflict"],
        Mutation::NeverAnswers => &["chains::the_first_entry_is_version_one"],
        Mutation::ForgetsAtReopen => &["chains::the_first_entry_is_version_one"],
        Mutation::IgnoresLimits => &["rows::at_most_the_asked_number_of_rows_comes"],
        Mutation::IgnoresAfter => &["timers::paging_through_due_timers_loses_none"],
        Mutation::ForgetsReleases => &["rights::a_released_token_is_fenced"],
        Mutation::NeverRaises => &["rights::each_activation_raises_the_number"],
        Mutation::ForgetsPurges => &["purge::a_purge_removes_everything_of_the_entity"],
        Mutation::HidesTruncation => &["history::none_keeps_no_entry_with_a_state"],
        Mutation::ForgetsFeed => &["feed::the_feed_holds_every_entry_of_its_kinds_in_the_order_of_commits"],
        Mutation::RepeatsFeed => &["feed::the_feed_goes_on_after_what_was_read"],
        Mutation::MixesFeed => &["feed::the_feed_of_one_kind_holds_no_other"],
        Mutation::OverrunsFeed => &["feed::a_kind_without_a_feed_has_no_place_in_it"],
        Mutation::StallsFeed => &["feed::what_was_answered_is_in_the_feed"],
        Mutation::KeepsOldStatus => &["listing::an_entity_is_found_by_the_status_it_has_and_by_no_other"],
        Mutation::ForgetsNewStatus => &["listing::an_entity_is_found_by_the_status_it_has_and_by_no_other"],
    }
}

#[test]
fn the_suite_finds_every_mutation() {
    for mutation in MUTATIONS {
        let failed = block_on(run(Arc::new(MutantFactory::new(Memory::default(), mutation))));
        let names: Vec<&str> = failed.iter().map(|(name, _)| *name).collect();
        let sure = found_by(mutation).iter().any(|case| names.contains(case));
        assert!(sure, "{mutation:?} is found by {names:?} only");
        assert!(names.len() < CASES.len(), "{mutation:?} leaves some cases whole, so they say something");
    }
}

#[test]
fn the_model_finds_what_is_forgotten() {
    for mutation in [
        Mutation::ForgetsRows,
        Mutation::ForgetsConsuming,
        Mutation::ForgetsAtReopen,
        Mutation::ForgetsFeed,
        Mutation::KeepsOldStatus,
    ] {
        let factory = Arc::new(MutantFactory::new(Memory::default(), mutation));
        let case = "random::random_operations_agree_with_the_model";
        assert!(run_named(case, factory).is_err(), "{mutation:?}");
    }
}

#[test]
fn no_two_cases_share_a_name() {
    let names: std::collections::BTreeSet<&str> = CASES.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), CASES.len());
}

async fn own(store: &MemoryStore, key: &str) -> Owned {
    let entity = store.create(&name(key)).await.unwrap().entity();
    let Activated::Granted(token) = store.activate(entity, Incarnation(1)).await.unwrap() else {
        panic!("not granted")
    };
    Owned { name: name(key), token, version: 0 }
}

type Pending = oneshot::Receiver<Result<Outcome, StoreError>>;

fn submit(store: &MemoryStore, own: &mut Owned) -> Pending {
    let (expect, entry) = (own.version, own.state(b"x").with_row(b"k", b"v"));
    let record = Record::Chain(chain(own.token, expect, vec![entry]).unwrap());
    let (to, outcome) = oneshot::channel();
    store.submit(record, Box::new(move |outcome| drop(to.send(outcome)))).unwrap();
    outcome
}

fn applied(position: u64) -> Result<Outcome, StoreError> {
    Ok(Outcome::Applied { position: Position(position) })
}

async fn version(store: &MemoryStore, own: &Owned) -> u64 {
    let loaded = store.load(own.entity()).await.unwrap();
    loaded.as_ref().and_then(|loaded| loaded.head()).map_or(0, |head| head.version.0)
}

#[tokio::test]
async fn a_manual_store_commits_only_when_asked() {
    let store = MemoryStore::manual();
    let mut a = own(&store, "a").await;
    let mut pending = [submit(&store, &mut a), submit(&store, &mut a), submit(&store, &mut a)];
    assert!(pending[0].try_recv().is_err());
    assert_eq!(store.commit_next(2), 2);
    assert_eq!(pending[0].try_recv().unwrap(), applied(1));
    assert_eq!(pending[1].try_recv().unwrap(), applied(2));
    assert!(pending[2].try_recv().is_err());
    assert_eq!(store.stats().commits, 1);
    assert_eq!(store.commit_next(9), 1);
    assert_eq!(pending[2].try_recv().unwrap(), applied(3));
}

#[tokio::test]
async fn an_activation_waits_for_the_chains_before_it() {
    let store = MemoryStore::manual();
    let mut a = own(&store, "a").await;
    let mut pending = submit(&store, &mut a);
    let mut activation = store.activate(a.entity(), Incarnation(1));
    assert!(activation.as_mut().now_or_never().is_none());
    store.commit_next(1);
    assert!(matches!(activation.await, Ok(Activated::Granted(_))));
    assert_eq!(pending.try_recv().unwrap(), applied(1));
}

#[tokio::test]
async fn another_life_takes_over_only_after_the_owner_has_ended() {
    let store = MemoryStore::new();
    let mut a = own(&store, "a").await;
    let held = store.activate(a.entity(), Incarnation(2)).await.unwrap();
    assert_eq!(held, Activated::Held { owner: Incarnation(1) });
    store.end_incarnation(Incarnation(1));
    assert_eq!(submit(&store, &mut a).await.unwrap(), applied(1), "a zombie writes until it is replaced");
    let taken = store.activate(a.entity(), Incarnation(2)).await.unwrap();
    let Activated::Granted(token) = taken else { panic!("{taken:?}") };
    let fenced = Ok(Outcome::Fenced { activation: token.activation });
    assert_eq!(submit(&store, &mut a).await.unwrap(), fenced);
}

#[tokio::test]
async fn a_commit_that_fails_whole_is_not_applied_and_the_store_goes_on() {
    let store = MemoryStore::new();
    let mut a = own(&store, "a").await;
    store.faults().fail_next(1, Failure::NotApplied);
    assert!(matches!(submit(&store, &mut a).await.unwrap(), Err(StoreError::NotApplied(_))));
    assert_eq!(version(&store, &a).await, 0);
    a.version = 0;
    assert_eq!(submit(&store, &mut a).await.unwrap(), applied(1));
    assert_eq!(store.poisoned(), None);
}

#[tokio::test]
async fn after_a_failed_flush_nothing_is_applied_until_reopened() {
    for (failure, kept) in [(Failure::UnknownApplied, 2), (Failure::UnknownLost, 0)] {
        let store = MemoryStore::manual();
        let mut a = own(&store, "a").await;
        store.faults().fail_next(1, failure);
        let mut unknown = [submit(&store, &mut a), submit(&store, &mut a)];
        let mut queued = submit(&store, &mut a);
        store.commit_next(2);
        for outcome in &mut unknown {
            assert!(matches!(outcome.try_recv().unwrap(), Err(StoreError::Unknown(_))));
        }
        assert!(matches!(queued.try_recv().unwrap(), Err(StoreError::NotApplied(_))));
        assert!(store.poisoned().is_some());
        let record = Record::Done { sender: a.entity(), seq: 1 };
        assert_eq!(store.submit(record, Box::new(|_| ())).unwrap_err().why, RefusedWhy::Closed);
        assert!(matches!(store.activate(a.entity(), Incarnation(1)).await, Err(StoreError::Fatal(_))));
        assert!(matches!(store.load(a.entity()).await, Err(StoreError::Fatal(_))));
        let reopened = store.reopen();
        assert_eq!(version(&reopened, &a).await, kept, "{failure:?}");
    }
}

#[tokio::test]
async fn held_completions_come_later_and_in_order() {
    let store = MemoryStore::manual();
    let mut a = own(&store, "a").await;
    store.faults().hold();
    let mut pending = [submit(&store, &mut a), submit(&store, &mut a)];
    store.commit_next(2);
    assert_eq!(version(&store, &a).await, 2, "committed");
    assert_eq!(store.faults().held(), 2);
    assert!(pending[0].try_recv().is_err(), "but not told");
    store.faults().deliver();
    assert_eq!(pending[0].try_recv().unwrap(), applied(1));
    assert_eq!(pending[1].try_recv().unwrap(), applied(2));
}

#[tokio::test]
async fn a_full_queue_hands_the_record_back() {
    let store = MemoryStore::manual();
    let mut a = own(&store, "a").await;
    store.faults().limit_queue(1);
    let pending = submit(&store, &mut a);
    let record = || Record::Done { sender: a.entity(), seq: 1 };
    assert_eq!(store.submit(record(), Box::new(|_| ())).unwrap_err().why, RefusedWhy::Full);
    assert_eq!(store.stats().refused, 1);
    store.commit_next(1);
    assert_eq!(pending.await.unwrap(), applied(1));
    assert!(store.submit(record(), Box::new(|_| ())).is_ok());
}

#[tokio::test]
async fn a_power_cut_keeps_what_reached_the_disk_unconfirmed() {
    for keep in 0..=4_u64 {
        let store = MemoryStore::manual();
        let mut a = own(&store, "a").await;
        let mut first = submit(&store, &mut a);
        store.commit_next(1);
        let mut rest = [submit(&store, &mut a), submit(&store, &mut a), submit(&store, &mut a)];
        let after = store.power_cut(Position(keep));
        assert_eq!(first.try_recv().unwrap(), applied(1));
        for outcome in &mut rest {
            assert!(matches!(outcome.try_recv().unwrap(), Err(StoreError::Unknown(_))));
        }
        assert_eq!(version(&after, &a).await, keep.max(1), "what is acknowledged stays");
        assert_eq!(after.position(), Position(keep.max(1)));
    }
}

#[tokio::test]
async fn a_power_cut_keeps_an_atomic_record_whole_or_not_at_all() {
    for keep in 0..=2_u64 {
        let store = MemoryStore::manual();
        let (mut a, mut b) = (own(&store, "a").await, own(&store, "b").await);
        let chains = vec![
            chain(a.token, 0, vec![a.state(b"x")]).unwrap(),
            chain(b.token, 0, vec![b.state(b"x")]).unwrap(),
        ];
        store.submit(Record::Atomic(chains), Box::new(|_| ())).unwrap();
        let after = store.power_cut(Position(keep));
        let expected = u64::from(keep == 2);
        assert_eq!((version(&after, &a).await, version(&after, &b).await), (expected, expected));
    }
}

#[tokio::test]
async fn a_lying_disk_loses_what_was_acknowledged() {
    let store = MemoryStore::manual();
    let mut a = own(&store, "a").await;
    let mut honest = submit(&store, &mut a);
    store.commit_next(1);
    assert_eq!(honest.try_recv().unwrap(), applied(1));
    store.faults().lie_about_flushes();
    let mut lied = [submit(&store, &mut a), submit(&store, &mut a)];
    store.commit_next(2);
    assert_eq!(lied[1].try_recv().unwrap(), applied(3));
    let after = store.power_cut(Position(2));
    assert_eq!(version(&after, &a).await, 2);
}

#[tokio::test]
async fn completions_held_at_a_crash_are_unknown() {
    let store = MemoryStore::manual();
    let mut a = own(&store, "a").await;
    store.faults().hold();
    let mut pending = submit(&store, &mut a);
    store.commit_next(1);
    let after = store.reopen();
    assert!(matches!(pending.try_recv().unwrap(), Err(StoreError::Unknown(_))));
    assert_eq!(version(&after, &a).await, 1);
}

#[tokio::test]
async fn a_poisoned_store_answers_what_waits() {
    let store = MemoryStore::manual();
    let mut a = own(&store, "a").await;
    let mut pending = submit(&store, &mut a);
    store.faults().poison("pulled the plug");
    assert!(matches!(pending.try_recv().unwrap(), Err(StoreError::NotApplied(_))));
    assert_eq!(store.poisoned().as_deref(), Some("pulled the plug"));
}

#[tokio::test]
async fn dropping_the_last_handle_settles_what_was_handed_over() {
    for store in [MemoryStore::new(), MemoryStore::manual()] {
        let mut a = own(&store, "a").await;
        let pending: Vec<Pending> = (0..50).map(|_| submit(&store, &mut a)).collect();
        drop(store);
        for (position, mut outcome) in (1..).zip(pending) {
            assert_eq!(outcome.try_recv().unwrap(), applied(position));
        }
    }
}

#[tokio::test]
async fn a_completer_that_panics_harms_no_other() {
    let store = MemoryStore::new();
    let mut a = own(&store, "a").await;
    let record = Record::Done { sender: a.entity(), seq: 1 };
    store.submit(record, Box::new(|_| panic!("a completer panics, as this test asks"))).unwrap();
    assert_eq!(submit(&store, &mut a).await.unwrap(), applied(2));
}

#[tokio::test]
async fn a_completer_may_submit_again() {
    let store = MemoryStore::new();
    let mut a = own(&store, "a").await;
    let (to, outcome) = oneshot::channel();
    let again = store.clone();
    let sender = a.entity();
    let first = submit(&store, &mut a);
    let done = Box::new(move |_| {
        let record = Record::Done { sender, seq: 2 };
        again.submit(record, Box::new(move |outcome| drop(to.send(outcome)))).unwrap();
    });
    store.submit(Record::Done { sender, seq: 1 }, done).unwrap();
    drop(store);
    assert_eq!(first.await.unwrap(), applied(1));
    assert_eq!(outcome.await.unwrap(), applied(3));
}

#[tokio::test]
async fn owners_of_one_store_see_each_others_entries() {
    let one = MemoryStore::new();
    let two = one.clone();
    let mut a = own(&one, "a").await;
    submit(&one, &mut a).await.unwrap().unwrap();
    assert_eq!(version(&two, &a).await, 1);
    let page = two.history(a.entity(), Version(1), 10).await.unwrap();
    assert!(matches!(page, stanchion_actors::store::HistoryPage::Entries(entries) if entries.len() == 1));
}
