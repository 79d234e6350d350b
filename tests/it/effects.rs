//! Activities: started after their commit, bounded, cancelled, and run again under the same key.

use std::collections::BTreeSet;

use stanchion::{Address, Builder, EntityOptions, System, port::memory::MemoryStore};
use stanchion_actors::entity::{EffectsMsg, EntitySupervisorMsg, RunningAttempt};

use crate::kit::{
    Command, Echo, Ledger, builder, crash, kill, ledger, stop, stored, until, until_async, with,
};

fn start(input: &str) -> Command {
    Command::Start { input: input.into(), timeout_ms: 0 }
}

async fn notes(account: &Address<Ledger>) -> Vec<String> {
    account.read(|state| state.notes.clone()).await.unwrap_or_default()
}

async fn until_notes(account: &Address<Ledger>, expected: &[&str]) {
    until_async(&format!("{expected:?} is noted"), || async { notes(account).await == expected }).await;
}

async fn running(system: &System) -> Vec<RunningAttempt> {
    let runner = system.env().services().effects.actor().unwrap();
    ractor::call!(runner, EffectsMsg::Running).unwrap()
}

fn knowing(echo: &Echo) -> Builder {
    builder().activity(echo.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activity_starts_after_its_commit_and_its_end_comes_back() {
    let (echo, mut attempts) = Echo::new();
    let store = MemoryStore::new();
    let system = knowing(&echo).open_on(store.clone()).await.unwrap();
    let account = ledger(&system, "a");
    account.call(Command::Peek).await.unwrap();
    store.faults().hold();
    account.cast(start("hello")).await.unwrap();
    until("it is at the store", || store.faults().held() > 0).await;
    assert!(attempts.try_recv().is_err(), "it ran before it was durable");
    store.faults().deliver();
    let attempt = attempts.recv().await.unwrap();
    assert_eq!((attempt.idempotency_key.as_str(), attempt.attempt), ("ledger/a/e1", 1));
    until_notes(&account, &["e1 ok hello"]).await;
    assert_eq!(stored(&system, &account).await.effects, vec![]);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_panics_and_unknown_activities_come_back() {
    let (echo, _attempts) = Echo::new();
    let system = knowing(&echo).open_memory().await.unwrap();
    let account = ledger(&system, "a");
    for (command, expected) in [
        (start("fail"), "e1 failed test.failed"),
        (start("panic"), "e2 failed activity.panicked"),
        (Command::StartStranger, "e3 failed activity.unregistered"),
        (Command::Start { input: "wait".into(), timeout_ms: 5 }, "e4 failed activity.timed_out"),
    ] {
        account.call(command).await.unwrap();
        until_async(expected, || async { notes(&account).await.iter().any(|note| note == expected) }).await;
    }
    assert_eq!(notes(&account).await.len(), 4);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_activity_is_told_and_its_end_does_not_come_back() {
    let (echo, mut attempts) = Echo::new();
    let system = knowing(&echo).open_memory().await.unwrap();
    let account = ledger(&system, "a");
    account.call(start("wait")).await.unwrap();
    let attempt = attempts.recv().await.unwrap();
    account.call(Command::Cancel("e1".into())).await.unwrap();
    attempt.cancel.cancelled().await;
    until_async("nothing runs", || async { running(&system).await.is_empty() }).await;
    account.call(start("after")).await.unwrap();
    until_notes(&account, &["e2 ok after"]).await;
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_activities_run_as_may_and_each_shows_its_progress() {
    let (echo, mut attempts) = Echo::new();
    let system = knowing(&echo).activities_at_once(3).open_memory().await.unwrap();
    let account = ledger(&system, "a");
    for _ in 0..10 {
        account.call(start("wait")).await.unwrap();
    }
    for _ in 0..3 {
        attempts.recv().await.unwrap();
    }
    until_async("all are listed", || async { running(&system).await.len() == 10 }).await;
    let beating = running(&system).await.into_iter().filter(|attempt| attempt.progress.beats == 1);
    assert_eq!(
        beating.map(|attempt| attempt.progress.note).collect::<Vec<_>>(),
        vec![Some("got wait".into()); 3]
    );
    assert!(attempts.try_recv().is_err(), "a fourth one runs");
    echo.go.add_permits(10);
    until_async("all have ended", || async { notes(&account).await.len() == 10 }).await;
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_runs_what_had_not_ended_again_under_the_same_key() {
    let (echo, mut attempts) = Echo::new();
    let store = MemoryStore::new();
    let system = knowing(&echo).open_on(store.clone()).await.unwrap();
    let account = ledger(&system, "a");
    account.call(start("done")).await.unwrap();
    account.call(start("wait")).await.unwrap();
    until_notes(&account, &["e1 ok done"]).await;
    let keys: BTreeSet<_> =
        [attempts.recv().await.unwrap().idempotency_key, attempts.recv().await.unwrap().idempotency_key]
            .into();
    assert!(keys.contains("ledger/a/e2"));
    let reopened = store.reopen();
    crash(system).await;
    let system = knowing(&echo).open_on(reopened).await.unwrap();
    let again = attempts.recv().await.unwrap();
    assert_eq!((again.idempotency_key.as_str(), again.attempt), ("ledger/a/e2", 1));
    echo.go.add_permits(1);
    let account = ledger(&system, "a");
    until_notes(&account, &["e1 ok done", "e2 ok wait"]).await;
    assert!(attempts.try_recv().is_err(), "the one that had ended did not run again");
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_crash_or_the_sleep_of_its_entity_does_not_run_an_activity_twice() {
    let (echo, mut attempts) = Echo::new();
    let mut options = EntityOptions::default();
    options.passivate_after = std::time::Duration::ZERO;
    let system = with(options).activity(echo.clone()).open_memory().await.unwrap();
    let account = ledger(&system, "a");
    account.call(start("wait")).await.unwrap();
    attempts.recv().await.unwrap();
    kill(&account).await;
    account.call(Command::Add(1)).await.unwrap();
    let supervisors = system.env().directory().supervisors();
    for shard in supervisors.agents() {
        supervisors.supervisor(shard).unwrap().cast(EntitySupervisorMsg::Sweep).unwrap();
    }
    account.call(Command::Add(1)).await.unwrap();
    echo.go.add_permits(1);
    until_notes(&account, &["e1 ok wait"]).await;
    assert!(attempts.try_recv().is_err(), "it ran twice");
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_supervisor_that_is_killed_runs_its_activities_again() {
    let (echo, mut attempts) = Echo::new();
    let system = knowing(&echo).open_memory().await.unwrap();
    let account = ledger(&system, "a");
    account.call(start("wait")).await.unwrap();
    let first = attempts.recv().await.unwrap();
    let place = || system.env().services().effects.actor().unwrap();
    let actor = place();
    actor.kill();
    until("there is a new one", || place().get_id() != actor.get_id()).await;
    let second = attempts.recv().await.unwrap();
    assert_eq!(first.idempotency_key, second.idempotency_key);
    echo.go.add_permits(1);
    until_notes(&account, &["e1 ok wait"]).await;
    stop(system).await;
}
