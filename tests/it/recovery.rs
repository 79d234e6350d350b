//! Crashes of every actor under load, fencing, passivation, a store that fails.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ractor::ActorCell;
use stanchion::{
    Address, EntityOptions, System,
    error::{CallError, Unavailable},
    port::memory::MemoryStore,
};
use stanchion_actors::entity::EntitySupervisorMsg;

use crate::kit::{
    Answer, Command, Ledger, builder, crash, kill, ledger, open, stop, stored, task, until, with,
};

/// Callers that add numbers under tickets until told to stop; each retries what is not rejected.
struct Load {
    over: Arc<AtomicBool>,
    callers: Vec<tokio::task::JoinHandle<Vec<u64>>>,
    ledgers: Vec<Address<Ledger>>,
}

impl Load {
    fn start(system: &System, ledgers: u64, callers: u64) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ledgers: Vec<_> = (0..ledgers).map(|n| ledger(system, &format!("load-{n}"))).collect();
        let callers = (0..callers)
            .map(|caller| {
                let at = usize::try_from(caller).unwrap() % ledgers.len();
                let (over, address, session) =
                    (Arc::clone(&over), ledgers[at].clone(), system.env().session());
                task(async move {
                    let mut acked = Vec::new();
                    for n in 0.. {
                        // At least a few each, at most what a state may hold.
                        if n >= 300 || (n >= 20 && over.load(Ordering::Relaxed)) {
                            break;
                        }
                        let (ticket, number) = (session.begin(), caller * 1_000 + n);
                        loop {
                            match address.call_as(&ticket, Command::See(number)).await {
                                Ok(_) => break acked.push(number),
                                Err(CallError::Unavailable(_) | CallError::Unknown(_)) => {
                                    tokio::task::yield_now().await;
                                }
                                Err(other) => panic!("{other:?}"),
                            }
                        }
                    }
                    acked
                })
            })
            .collect();
        Self { over, callers, ledgers }
    }

    /// Ends the load: what was acknowledged is there, once.
    async fn finish(self) {
        self.over.store(true, Ordering::Relaxed);
        let mut acked = BTreeSet::new();
        for caller in self.callers {
            acked.extend(caller.await.unwrap());
        }
        let mut seen = Vec::new();
        for address in self.ledgers {
            seen.extend(look(&address, |state| state.seen.clone()).await);
        }
        let distinct: BTreeSet<u64> = seen.iter().copied().collect();
        assert_eq!(distinct.len(), seen.len(), "something was applied twice");
        assert_eq!(acked, distinct);
    }
}

async fn look<R: Send + 'static>(
    address: &Address<Ledger>,
    read: impl FnOnce(&Ledger) -> R + Clone + Send + 'static,
) -> R {
    loop {
        if let Ok(seen) = address.read(read.clone()).await {
            return seen;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_an_entity_under_load_loses_nothing() {
    let system = open(&MemoryStore::new()).await;
    let load = Load::start(&system, 1, 8);
    for _ in 0..3 {
        kill(&load.ledgers[0]).await;
    }
    load.finish().await;
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_a_shard_of_supervisors_under_load_loses_nothing() {
    let system = open(&MemoryStore::new()).await;
    let load = Load::start(&system, 8, 8);
    let supervisors = system.env().directory().supervisors();
    for shard in supervisors.agents().take(2) {
        let actor = supervisors.supervisor(shard).unwrap();
        actor.kill();
        until("its successor is there", || {
            supervisors.supervisor(shard).is_some_and(|now| now.get_id() != actor.get_id())
        })
        .await;
    }
    load.finish().await;
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_a_service_under_load_restarts_no_entity_and_loses_nothing() {
    let system = open(&MemoryStore::new()).await;
    let services = || {
        let services = system.env().services();
        let cells: [(&str, ActorCell); 3] = [
            ("timers", services.timers.actor().unwrap().get_cell()),
            ("outbox", services.outbox.actor().unwrap().get_cell()),
            ("task supervisor", services.effects.actor().unwrap().get_cell()),
        ];
        cells
    };
    for index in 0..3 {
        let load = Load::start(&system, 2, 4);
        for address in &load.ledgers {
            until("it is active", || address.untyped().cell().unwrap().owner().is_some()).await;
        }
        let owners = |load: &Load| {
            let owner = |address: &Address<Ledger>| {
                address.untyped().cell().unwrap().owner().map(|(number, _)| number)
            };
            load.ledgers.iter().map(owner).collect::<Vec<_>>()
        };
        let before = owners(&load);
        let (name, actor) = services()[index].clone();
        actor.kill();
        until(&format!("{name} is there again"), || services()[index].1.get_id() != actor.get_id()).await;
        assert_eq!(owners(&load), before, "{name} took entities along");
        load.finish().await;
        // The numbers of the next load are the same: begin anew.
        for n in 0..2 {
            kill(&ledger(&system, &format!("load-{n}"))).await;
        }
        crash_free_reset(&system).await;
    }
    stop(system).await;
}

/// Nothing to reset: each load compares with what it was told. Numbers repeat, so lists are emptied.
async fn crash_free_reset(system: &System) {
    for n in 0..2 {
        ledger(system, &format!("load-{n}")).call(Command::Forget).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_persistence_actor_under_load_loses_nothing() {
    let system = open(&MemoryStore::new()).await;
    let load = Load::start(&system, 4, 8);
    let place = || system.env().services().persistence.actor().unwrap();
    let actor = place();
    actor.kill();
    until("its successor is there", || place().get_id() != actor.get_id()).await;
    load.finish().await;
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_store_is_opened_anew_by_itself() {
    let store = MemoryStore::new();
    let system = open(&store).await;
    let load = Load::start(&system, 4, 8);
    until("work began", || system.store_stats().entries > 50).await;
    store.faults().poison("the disk is gone");
    until("the store was opened anew", || system.store().caps().boot == 2).await;
    load.finish().await;
    assert_eq!(system.store().poisoned(), None);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_owner_waits_and_the_first_one_is_fenced_after_its_end() {
    let store = MemoryStore::new();
    let (first, second) = (open(&store).await, open(&store).await);
    let (ours, theirs) = (ledger(&first, "a"), ledger(&second, "a"));
    ours.call(Command::Add(1)).await.unwrap();
    let CallError::Unavailable(held) = theirs.call(Command::Add(10)).await.unwrap_err() else {
        panic!("two owners")
    };
    assert_eq!(held.kind, Unavailable::Fenced);
    store.end_incarnation(first.env().incarnation());
    assert_eq!(theirs.call(Command::Add(10)).await.unwrap(), Answer::Balance(11));
    let CallError::Unavailable(zombie) = ours.call(Command::Add(100)).await.unwrap_err() else {
        panic!("a zombie was answered")
    };
    assert_eq!(zombie.kind, Unavailable::Fenced);
    assert_eq!(theirs.call(Command::Peek).await.unwrap(), Answer::Balance(11));
    crash(first).await;
    stop(second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entity_killed_too_often_is_blocked_and_then_forgiven() {
    let system = builder()
        .intensity(stanchion::supervisors::Intensity::new(3, Duration::from_secs(5)))
        .open_on(MemoryStore::new())
        .await
        .unwrap();
    let account = ledger(&system, "a");
    account.call(Command::Add(1)).await.unwrap();
    let cell = account.untyped().cell().unwrap();
    for killing in 1..=4 {
        until("an actor is in charge", || cell.owner().is_some()).await;
        let (generation, actor) = cell.owner().unwrap();
        actor.kill();
        until("the crash was seen", || {
            cell.blocked().is_some() || cell.owner().is_some_and(|(now, _)| now > generation)
        })
        .await;
        assert_eq!(cell.blocked().is_some(), killing == 4, "after {killing}");
    }
    let CallError::Unavailable(context) = account.call(Command::Add(1)).await.unwrap_err() else {
        panic!("not blocked")
    };
    assert!(matches!(context.kind, Unavailable::CrashLoop(_)), "{context}");
    assert!(account.cast(Command::Add(1)).await.is_err(), "a cast is not dropped in silence");
    assert!(account.read(|state| state.balance).await.is_err());
    // What forgiveness does when its time has come, without waiting for it.
    let supervisors = system.env().directory().supervisors();
    let supervisor = supervisors.supervisor(supervisors.shard_of(cell)).unwrap();
    supervisor.cast(EntitySupervisorMsg::Forgive { cell: Arc::clone(cell) }).unwrap();
    until("it is forgiven", || cell.blocked().is_none()).await;
    assert_eq!(account.call(Command::Add(1)).await.unwrap(), Answer::Balance(2));
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_entity_sleeps_and_wakes_with_its_state() {
    let mut options = EntityOptions::default();
    options.passivate_after = Duration::ZERO;
    let system = with(options).open_on(MemoryStore::new()).await.unwrap();
    let account = ledger(&system, "a");
    let cell = account.untyped().cell().unwrap();
    for round in 1..=5 {
        assert_eq!(account.call(Command::Add(1)).await.unwrap(), Answer::Balance(round));
        let supervisors = system.env().directory().supervisors();
        let supervisor = supervisors.supervisor(supervisors.shard_of(cell)).unwrap();
        until("it sleeps", || {
            supervisor.cast(EntitySupervisorMsg::Sweep).unwrap();
            cell.owner().is_none()
        })
        .await;
    }
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entity_that_sleeps_under_load_loses_nothing() {
    let mut options = EntityOptions::default();
    options.passivate_after = Duration::ZERO;
    let system = with(options).open_on(MemoryStore::new()).await.unwrap();
    let load = Load::start(&system, 2, 4);
    let supervisors = Arc::clone(system.env().directory().supervisors());
    for _ in 0..200 {
        for shard in supervisors.agents() {
            supervisors.supervisor(shard).unwrap().cast(EntitySupervisorMsg::Sweep).unwrap();
        }
        tokio::task::yield_now().await;
    }
    load.finish().await;
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisonous_command_is_refused_after_three_panics_and_the_entity_goes_on() {
    let system = open(&MemoryStore::new()).await;
    let account = ledger(&system, "a");
    account.call(Command::Add(1)).await.unwrap();
    let owner = account.untyped().cell().unwrap().owner().unwrap().0;
    let CallError::Refused(context) = account.call(Command::Panic).await.unwrap_err() else {
        panic!("not refused")
    };
    assert_eq!(context.kind, stanchion::error::Refusal::Poisoned("as told".into()));
    assert_eq!(account.call(Command::Add(1)).await.unwrap(), Answer::Balance(2));
    assert_eq!(account.untyped().cell().unwrap().owner().unwrap().0, owner, "its actor did not crash");
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enqueued_command_is_handled_once_whatever_happens() {
    let store = MemoryStore::new();
    let system = open(&store).await;
    let account = ledger(&system, "a");
    let ticket = system.env().session().begin();
    let payload = || bytes::Bytes::from(rmp_serde::to_vec_named(&Command::See(1)).unwrap());
    let untyped = account.untyped();
    untyped.enqueue_as(&ticket, payload(), Default::default()).await.unwrap();
    untyped.enqueue_as(&ticket, payload(), Default::default()).await.unwrap();
    let reopened = store.reopen();
    crash(system).await;
    let system = open(&reopened).await;
    let account = ledger(&system, "a");
    crate::kit::until_async("it was handled without being asked", || async {
        look(&account, |state| state.seen.clone()).await == [1]
    })
    .await;
    account.enqueue(Command::Reject).await.unwrap();
    account.enqueue(Command::Panic).await.unwrap();
    account.enqueue(Command::See(2)).await.unwrap();
    crate::kit::until_async("the last one was handled", || async {
        look(&account, |state| state.seen.clone()).await == [1, 2]
    })
    .await;
    assert_eq!(stored(&system, &account).await.inbox, vec![], "everything is consumed");
    let entity = account.untyped().cell().unwrap().entity().unwrap();
    let page = system.store().history(entity, stanchion::ids::Version(1), 100).await.unwrap();
    let stanchion::port::HistoryPage::Entries(entries) = page else { panic!("truncated") };
    let parked: Vec<_> = entries.iter().flat_map(|entry| &entry.parked).map(|parked| &parked.why).collect();
    assert_eq!(parked, ["rejected by the handler", "handler panicked on this command: as told"]);
    stop(system).await;
}
