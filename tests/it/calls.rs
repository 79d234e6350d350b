//! Calls: answered after the commit, in order, many in flight.

use std::{sync::Arc, time::Duration};

use stanchion::{
    error::{CallError, Doubt, Refusal, Unavailable},
    port::memory::{Failure, MemoryStore},
};

use crate::kit::{self, Answer, Command, crash, ledger, open, stop, task, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_answered_before_the_commit() {
    let store = MemoryStore::new();
    let system = open(&store).await;
    let account = ledger(&system, "a");
    account.call(Command::Add(5)).await.unwrap();
    store.faults().hold();
    let ticket = system.env().session().begin();
    let held = {
        let account = account.clone();
        task(async move {
            let first = account.call_as(&ticket, Command::Add(1));
            let duplicate = account.call_as(&ticket, Command::Add(1));
            let rejected = account.call(Command::Take(100));
            let peeked = account.call(Command::Peek);
            let read = account.read(|state| state.balance);
            tokio::join!(first, duplicate, rejected, peeked, read)
        })
    };
    until("the chain is at the store", || store.faults().held() > 0).await;
    let popped = account.untyped().cell().unwrap();
    until("everything was looked at", || popped.is_idle()).await;
    assert!(!held.is_finished(), "shown before it is durable");
    store.faults().deliver();
    let (first, duplicate, rejected, peeked, read) = held.await.unwrap();
    assert_eq!(first.unwrap(), Answer::Balance(6));
    assert_eq!(duplicate.unwrap(), Answer::Balance(6));
    assert_eq!(rejected.unwrap_err(), CallError::Rejected(kit::Refusal::TooLow(6)));
    assert_eq!(peeked.unwrap(), Answer::Balance(6));
    assert_eq!(read.unwrap(), 6);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_durable_is_shown_while_the_store_is_held() {
    // The control of the test above: holding the store alone holds up nobody.
    let store = MemoryStore::new();
    let system = open(&store).await;
    let account = ledger(&system, "a");
    account.call(Command::Add(5)).await.unwrap();
    store.faults().hold();
    assert_eq!(account.read(|state| state.balance).await.unwrap(), 5);
    assert_eq!(account.call(Command::Peek).await.unwrap(), Answer::Balance(5));
    store.faults().deliver();
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_that_fails_shows_nothing_of_what_it_held() {
    for (failure, applied) in
        [(Failure::NotApplied, false), (Failure::UnknownLost, false), (Failure::UnknownApplied, true)]
    {
        let store = MemoryStore::new();
        let system = open(&store).await;
        let account = ledger(&system, "a");
        account.call(Command::Add(5)).await.unwrap();
        store.faults().hold();
        store.faults().fail_next(1, failure);
        let held = {
            let account = account.clone();
            let ticket = system.env().session().begin();
            task(async move {
                tokio::join!(
                    account.call_as(&ticket, Command::Add(1)),
                    account.read(|state| state.balance),
                    account.call(Command::Add(1))
                )
            })
        };
        until("the chain failed", || store.faults().held() > 0).await;
        until("everything was looked at", || account.untyped().cell().unwrap().is_idle()).await;
        store.faults().deliver();
        let (call, read, gathering) = held.await.unwrap();
        match (failure, &call) {
            (Failure::NotApplied, Err(CallError::Unavailable(_))) => {}
            (_, Err(CallError::Unknown(context))) => assert!(matches!(context.kind, Doubt::Store(_))),
            other => panic!("{other:?}"),
        }
        assert!(read.is_err(), "{failure:?}: a read of speculative state was released");
        assert!(matches!(gathering, Err(CallError::Unavailable(_) | CallError::Unknown(_))), "{gathering:?}");
        let balance = loop {
            if let Ok(balance) = account.read(|state| state.balance).await {
                break balance;
            }
        };
        let possible: &[i64] = if applied { &[6, 7] } else { &[5] };
        assert!(possible.contains(&balance), "{failure:?}: durable is {balance}");
        stop(system).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_after_unknown_is_applied_once() {
    for failure in [Failure::UnknownLost, Failure::UnknownApplied] {
        let store = MemoryStore::new();
        let system = open(&store).await;
        let account = ledger(&system, "a");
        account.call(Command::Add(5)).await.unwrap();
        store.faults().fail_next(1, failure);
        let ticket = system.env().session().begin();
        let mut answer = account.call_as(&ticket, Command::Add(1)).await;
        assert!(matches!(answer, Err(CallError::Unknown(_))), "{answer:?}");
        while answer.is_err() {
            answer = account.call_as(&ticket, Command::Add(1)).await;
        }
        assert_eq!(answer.unwrap(), Answer::Balance(6), "{failure:?}");
        stop(system).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_share_commits_and_are_answered_in_order() {
    let store = MemoryStore::new();
    let system = open(&store).await;
    let account = ledger(&system, "hot");
    account.call(Command::Add(0)).await.unwrap();
    account.call(Command::Add(1)).await.unwrap();
    let before = system.store_stats();
    store.faults().hold();
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut calls = Vec::new();
    for number in 0..1_000 {
        let (account, order) = (account.clone(), Arc::clone(&order));
        calls.push(task(async move {
            let Answer::Balance(balance) = account.call(Command::Add(1)).await.unwrap() else {
                panic!("another answer")
            };
            order.lock().unwrap().push(balance);
            number
        }));
    }
    until("the first chain is at the store", || store.faults().held() > 0).await;
    store.faults().deliver();
    for call in calls {
        call.await.unwrap();
    }
    let mut balances = order.lock().unwrap().clone();
    balances.sort_unstable();
    assert_eq!(balances, (2..=1_001).collect::<Vec<_>>(), "each transition has one reply");
    let after = system.store_stats();
    assert_eq!(after.entries - before.entries, 1_000);
    let chains = after.applied - before.applied;
    assert!((4..=200).contains(&chains), "chains of at most 256, few of them: {chains}");
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_chain_of_an_entity_is_at_the_store_at_a_time() {
    let store = MemoryStore::new();
    let system = open(&store).await;
    let account = ledger(&system, "a");
    account.call(Command::Add(1)).await.unwrap();
    let before = system.store_stats().applied;
    store.faults().hold();
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let account = account.clone();
            task(async move { account.call(Command::Add(1)).await })
        })
        .collect();
    let cell = account.untyped().cell().unwrap();
    until("all are handled", || {
        cell.stats.accepted.load(std::sync::atomic::Ordering::Relaxed) == 51 && cell.is_idle()
    })
    .await;
    until("a chain was committed", || store.faults().held() > 0).await;
    assert_eq!(system.store_stats().applied - before, 1, "the second chain waits for the first");
    store.faults().deliver();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_changes_nothing_commits_nothing() {
    let store = MemoryStore::new();
    let system = open(&store).await;
    let account = ledger(&system, "a");
    account.call(Command::Add(5)).await.unwrap();
    let before = system.store_stats();
    account.call(Command::Peek).await.unwrap();
    account.call(Command::Add(0)).await.unwrap();
    account.call(Command::Reject).await.unwrap_err();
    assert_eq!(system.store_stats(), before);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_state_changes_nothing() {
    let system = open(&MemoryStore::new()).await;
    let account = ledger(&system, "a");
    account.call(Command::Bound(10)).await.unwrap();
    account.call(Command::Add(9)).await.unwrap();
    let CallError::Refused(refused) = account.call(Command::Add(1)).await.unwrap_err() else {
        panic!("not refused")
    };
    assert_eq!(refused.kind, Refusal::Invalid("balance 10".into()));
    assert_eq!(account.call(Command::Peek).await.unwrap(), Answer::Balance(9));
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_refused_and_changes_nothing() {
    let system = open(&MemoryStore::new()).await;
    let account = ledger(&system, "a");
    account.call(Command::Add(3)).await.unwrap();
    let long = "x".repeat(1 << 20);
    let cases = [
        (Command::Note(long.clone()), "command"),
        (Command::Grow(70_000), "state"),
        (Command::Talk(2 << 20), "reply"),
        (Command::SetTimer { id: "t".repeat(300), due_us: 1, command: Box::new(Command::Peek) }, "timer id"),
    ];
    for (command, expected) in cases {
        let CallError::Refused(refused) = account.call(command).await.unwrap_err() else {
            panic!("{expected} was not refused")
        };
        assert!(matches!(refused.kind, Refusal::TooLarge { ref what, .. } if what == expected), "{refused}");
    }
    // What was refused must not come back with the next entry that carries no change of its own.
    account.call(Command::Send { to: "b".into(), command: Box::new(Command::Add(1)) }).await.unwrap();
    let seen = account.read(|state| (state.balance, state.padding.len())).await.unwrap();
    assert_eq!(seen, (3, 0));
    kill_and_compare(&account, (3, 0)).await;
    stop(system).await;
}

async fn kill_and_compare(account: &stanchion::Address<kit::Ledger>, expected: (i64, usize)) {
    kit::kill(account).await;
    let seen = account.read(|state| (state.balance, state.padding.len())).await.unwrap();
    assert_eq!(seen, expected, "durable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_passes_before_the_run_leaves_no_doubt() {
    let store = MemoryStore::new();
    let system = open(&store).await;
    let account = ledger(&system, "a");
    store.faults().hold();
    // The activation is held, so the command does not run.
    let late = account.clone().with_deadline(Duration::from_millis(20)).call(Command::Add(1)).await;
    let Err(CallError::Unavailable(context)) = late else { panic!("{late:?}") };
    assert_eq!(context.kind, Unavailable::DeadlinePassed);
    store.faults().deliver();
    assert_eq!(account.call(Command::Add(10)).await.unwrap(), Answer::Balance(10), "it never ran");
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_passes_during_the_commit_is_unknown() {
    let store = MemoryStore::new();
    let system = open(&store).await;
    let account = ledger(&system, "a");
    account.call(Command::Add(1)).await.unwrap();
    store.faults().hold();
    let late = account.clone().with_deadline(Duration::from_millis(50));
    let late = task(async move { late.call(Command::Add(1)).await });
    until("it is at the store", || store.faults().held() > 0).await;
    let late = late.await.unwrap();
    let Err(CallError::Unknown(context)) = late else { panic!("{late:?}") };
    assert_eq!(context.kind, Doubt::DeadlinePassed);
    store.faults().deliver();
    assert_eq!(account.call(Command::Peek).await.unwrap(), Answer::Balance(2), "it ran");
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_system_refuses_callers_and_lets_its_own_work_in() {
    let system = open(&MemoryStore::new()).await;
    let (from, to) = (ledger(&system, "a"), ledger(&system, "b"));
    from.call(Command::Add(5)).await.unwrap();
    let sending = from.call(Command::Transfer { to: "b".into(), amount: 5 });
    sending.await.unwrap();
    system.env().start_draining();
    let refused = [
        from.call(Command::Add(1)).await.unwrap_err(),
        from.cast(Command::Add(1)).await.unwrap_err(),
        from.enqueue(Command::Add(1)).await.unwrap_err(),
    ];
    for error in refused {
        let CallError::Unavailable(context) = error else { panic!("{error:?}") };
        assert_eq!(context.kind, Unavailable::Draining);
    }
    kit::until_async("the message arrived", || async { to.read(|state| state.balance).await == Ok(5) }).await;
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_keeps_what_was_acknowledged() {
    let store = MemoryStore::new();
    let system = open(&store).await;
    for key in ["a", "b", "c"] {
        ledger(&system, key).call(Command::Add(7)).await.unwrap();
    }
    let store_after = store.reopen();
    crash(system).await;
    let system = open(&store_after).await;
    for key in ["a", "b", "c"] {
        assert_eq!(ledger(&system, key).call(Command::Peek).await.unwrap(), Answer::Balance(7));
    }
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_behind_a_full_chain_is_handled_without_another_call() {
    let store = MemoryStore::new();
    let system = open(&store).await;
    let account = ledger(&system, "a");
    store.faults().hold();
    for _ in 0..600 {
        account.cast(Command::Add(1)).await.unwrap();
    }
    store.faults().deliver();
    until("the mailbox is empty", || account.untyped().cell().unwrap().is_idle()).await;
    assert_eq!(account.call(Command::Peek).await.unwrap(), Answer::Balance(600));
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_was_only_looked_at_does_not_exist() {
    let system = open(&MemoryStore::new()).await;
    let from = ledger(&system, "from");
    assert_eq!(from.read(|state| state.balance).await.unwrap(), 0);
    assert!(!system.exists("ledger", "from").await.unwrap());
    from.call(Command::Add(1)).await.unwrap();
    assert!(system.exists("ledger", "from").await.unwrap());
    stop(system).await;
}
