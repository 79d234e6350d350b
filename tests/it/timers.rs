//! Durable timers against a clock set by hand.

use std::{sync::Arc, time::Duration};

use stanchion::{
    Address, System,
    clock::{Clock, ManualClock},
    ids::Timestamp,
    port::memory::MemoryStore,
};
use stanchion_actors::entity::TimersMsg;

use crate::kit::{Command, Ledger, builder, crash, kill, ledger, stop, stored, until, until_async};

const START: Timestamp = Timestamp(1_800_000_000_000_000);
const SECOND: i64 = 1_000_000;

async fn open_at(store: &MemoryStore, clock: &Arc<ManualClock>) -> System {
    builder().clock(clock.clone()).open_on(store.clone()).await.unwrap()
}

/// Makes the timer service look at the clock, twice, so that the first look is over.
async fn tick(system: &System) {
    for _ in 0..2 {
        if let Some(timers) = system.env().services().timers.actor() {
            let _ = timers.cast(TimersMsg::Tick);
        }
        tokio::task::yield_now().await;
    }
}

fn see_at(id: &str, seconds: i64, number: u64) -> Command {
    let due_us = START.0 + seconds * SECOND;
    Command::SetTimer { id: id.into(), due_us, command: Box::new(Command::See(number)) }
}

async fn seen(account: &Address<Ledger>) -> Vec<u64> {
    account.read(|state| state.seen.clone()).await.unwrap_or_default()
}

async fn until_seen(system: &System, account: &Address<Ledger>, expected: &[u64]) {
    until_async(&format!("{expected:?} fired"), || async {
        tick(system).await;
        seen(account).await == expected
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_never_fires_early_and_fires_once() {
    let (store, clock) = (MemoryStore::new(), Arc::new(ManualClock::at(START)));
    let system = open_at(&store, &clock).await;
    let account = ledger(&system, "a");
    account.call(see_at("t", 10, 1)).await.unwrap();
    clock.set(START.after(Duration::from_micros(9_999_999)));
    for _ in 0..50 {
        tick(&system).await;
        assert!(seen(&account).await.is_empty(), "fired early");
    }
    clock.advance(Duration::from_micros(1));
    until_seen(&system, &account, &[1]).await;
    clock.advance(Duration::from_secs(3_600));
    for _ in 0..50 {
        tick(&system).await;
    }
    assert_eq!(seen(&account).await, [1]);
    assert_eq!(stored(&system, &account).await.timers, vec![]);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_is_replaced_and_cleared_by_its_id() {
    let (store, clock) = (MemoryStore::new(), Arc::new(ManualClock::at(START)));
    let system = open_at(&store, &clock).await;
    let account = ledger(&system, "a");
    for command in [see_at("t", 10, 1), see_at("t", 20, 2), see_at("u", 10, 3), see_at("v", 30, 4)] {
        account.call(command).await.unwrap();
    }
    account.call(Command::ClearTimer("u".into())).await.unwrap();
    clock.advance(Duration::from_secs(15));
    for _ in 0..50 {
        tick(&system).await;
    }
    assert!(seen(&account).await.is_empty(), "fired early");
    clock.advance(Duration::from_secs(5));
    until_seen(&system, &account, &[2]).await;
    clock.advance(Duration::from_secs(10));
    until_seen(&system, &account, &[2, 4]).await;
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_an_hour_either_way_loses_no_timer() {
    let (store, clock) = (MemoryStore::new(), Arc::new(ManualClock::at(START)));
    let system = open_at(&store, &clock).await;
    let account = ledger(&system, "a");
    account.call(see_at("back", 10, 1)).await.unwrap();
    clock.set(Timestamp(START.0 - 3_600 * SECOND));
    account.call(see_at("set while back", -3_000, 2)).await.unwrap();
    for _ in 0..20 {
        tick(&system).await;
    }
    assert!(seen(&account).await.is_empty(), "fired early");
    clock.set(Timestamp(START.0 - 3_000 * SECOND));
    until_seen(&system, &account, &[2]).await;
    clock.set(Timestamp(START.0 + 3_600 * SECOND));
    until_seen(&system, &account, &[2, 1]).await;
    // Commands go on being taken for new, although the wall clock knows nothing of this time.
    clock.set(Timestamp(START.0 + 90_000 * SECOND));
    account.call(Command::See(3)).await.unwrap();
    assert_eq!(seen(&account).await, [2, 1, 3]);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_that_fires_into_a_clock_set_back_fires_again_in_time() {
    let (store, clock) = (MemoryStore::new(), Arc::new(ManualClock::at(START)));
    let system = open_at(&store, &clock).await;
    let account = ledger(&system, "a");
    account.call(see_at("t", 10, 1)).await.unwrap();
    // Whoever answers this has armed the timer before: an actor killed earlier leaves that to the next one.
    assert!(seen(&account).await.is_empty());
    // The firing lies in the mailbox of an entity that cannot be activated; then the clock goes back.
    store.faults().hold();
    kill(&account).await;
    clock.advance(Duration::from_secs(10));
    let mut looks = 0_u32;
    until("it has fired", || {
        // One look at the clock for many at the mailbox: the service must not drown in them.
        looks += 1;
        if looks % 1_024 == 1
            && let Some(timers) = system.env().services().timers.actor()
        {
            let _ = timers.cast(TimersMsg::Tick);
        }
        !account.untyped().cell().unwrap().is_idle()
    })
    .await;
    clock.set(START);
    store.faults().deliver();
    until("the entity looked at it", || account.untyped().cell().unwrap().is_idle()).await;
    assert!(seen(&account).await.is_empty(), "fired early");
    clock.advance(Duration::from_secs(10));
    until_seen(&system, &account, &[1]).await;
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timers_survive_a_restart_the_sleep_of_their_entity_and_the_end_of_their_service() {
    let (store, clock) = (MemoryStore::new(), Arc::new(ManualClock::at(START)));
    let system = open_at(&store, &clock).await;
    let account = ledger(&system, "a");
    for number in 1..=100 {
        let seconds = i64::try_from(number).unwrap() * 10;
        account.call(see_at(&format!("t{number}"), seconds, number)).await.unwrap();
    }
    clock.advance(Duration::from_secs(100));
    until_seen(&system, &account, &(1..=10).collect::<Vec<_>>()).await;
    let place = || system.env().services().timers.actor().unwrap();
    let actor = place();
    actor.kill();
    until("there is a new one", || place().get_id() != actor.get_id()).await;
    clock.advance(Duration::from_secs(100));
    until_seen(&system, &account, &(1..=20).collect::<Vec<_>>()).await;
    let reopened = store.reopen();
    crash(system).await;
    clock.advance(Duration::from_secs(100));
    let system = open_at(&reopened, &clock).await;
    let account = ledger(&system, "a");
    until("it is woken by its timer", || {
        account.untyped().cell().unwrap().stats.accepted.load(std::sync::atomic::Ordering::Relaxed) == 0
            && account.untyped().cell().unwrap().entity().is_some()
    })
    .await;
    until_seen(&system, &account, &(1..=30).collect::<Vec<_>>()).await;
    assert!(clock.now() > START);
    stop(system).await;
}
