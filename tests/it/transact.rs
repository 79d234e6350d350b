//! Several agents, one commit; and one after another under its honest name.

use stanchion::{
    SerialOperations, System, Transact,
    error::{FailureKind, Refusal},
    ids::Version,
    port::memory::{Failure, MemoryStore},
};

use crate::kit::{Answer, Command, crash, kill, ledger, open, stop, task, until};

async fn balances(system: &System, keys: &[&str]) -> Vec<i64> {
    let mut balances = Vec::new();
    for key in keys {
        let account = ledger(system, key);
        balances.push(loop {
            if let Ok(balance) = account.read(|state| state.balance).await {
                break balance;
            }
            tokio::task::yield_now().await;
        });
    }
    balances
}

async fn versions(system: &System, keys: &[&str]) -> Vec<Version> {
    let mut versions = Vec::new();
    for key in keys {
        let loaded = crate::kit::stored(system, &ledger(system, key)).await;
        versions.push(loaded.head().unwrap().version);
    }
    versions
}

fn transfer(system: &System, from: &str, to: &str, amount: i64) -> Transact {
    let mut transact = Transact::new();
    transact.add(&ledger(system, from), &Command::Take(amount));
    transact.add(&ledger(system, to), &Command::Add(amount));
    transact
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_applies_all_in_one_commit() {
    let store = MemoryStore::new();
    let system = open(&store).await;
    let (a, b) = (ledger(&system, "a"), ledger(&system, "b"));
    a.call(Command::Add(10)).await.unwrap();
    b.call(Command::Add(1)).await.unwrap();
    let before = system.store_stats().commits;
    let mut transact = Transact::new();
    let taken = transact.add(&a, &Command::Take(4));
    let added = transact.add(&b, &Command::Add(4));
    let peeked = transact.add(&a, &Command::Peek);
    let replies = system.transact(transact).await.unwrap();
    assert_eq!(replies.get(&taken), Some(Answer::Balance(6)));
    assert_eq!(replies.get(&added), Some(Answer::Balance(5)));
    assert_eq!(replies.get(&peeked), Some(Answer::Balance(6)));
    assert_eq!(system.store_stats().commits - before, 1);
    let reopened = store.reopen();
    crash(system).await;
    let system = open(&reopened).await;
    assert_eq!(balances(&system, &["a", "b"]).await, [6, 5]);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejection_inside_leaves_every_version_as_it_was() {
    let system = open(&MemoryStore::new()).await;
    for key in ["a", "b"] {
        ledger(&system, key).call(Command::Add(1)).await.unwrap();
    }
    let before = versions(&system, &["a", "b"]).await;
    let mut transact = Transact::new();
    transact.add(&ledger(&system, "a"), &Command::Add(5));
    transact.add(&ledger(&system, "b"), &Command::Add(5));
    transact.add(&ledger(&system, "b"), &Command::Take(100));
    let failure = system.transact(transact).await.unwrap_err();
    assert!(matches!(failure.kind, FailureKind::Rejected(_)), "{failure:?}");
    assert_eq!(&*failure.entity.key, "b");
    assert_eq!(balances(&system, &["a", "b"]).await, [1, 1]);
    assert_eq!(versions(&system, &["a", "b"]).await, before);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_commit_of_a_transaction_applies_nothing() {
    let store = MemoryStore::new();
    let system = open(&store).await;
    for key in ["a", "b"] {
        ledger(&system, key).call(Command::Add(10)).await.unwrap();
    }
    store.faults().fail_next(1, Failure::NotApplied);
    let failure = system.transact(transfer(&system, "a", "b", 5)).await.unwrap_err();
    assert!(matches!(failure.kind, FailureKind::Unavailable(_)), "{failure:?}");
    assert_eq!(balances(&system, &["a", "b"]).await, [10, 10]);
    system.transact(transfer(&system, "a", "b", 5)).await.unwrap();
    assert_eq!(balances(&system, &["a", "b"]).await, [5, 15]);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opposite_transfers_neither_wait_for_each_other_nor_make_money() {
    let system = std::sync::Arc::new(open(&MemoryStore::new()).await);
    let keys = ["a", "b", "c"];
    for key in keys {
        ledger(&system, key).call(Command::Add(1_000)).await.unwrap();
    }
    let callers: Vec<_> = (0..6)
        .map(|caller| {
            let system = std::sync::Arc::clone(&system);
            task(async move {
                for n in 0..50 {
                    let (from, to) = (keys[(caller + n) % 3], keys[(caller + n + 1 + caller % 2) % 3]);
                    let transact = transfer(&system, from, to, 1);
                    match system.transact(transact).await {
                        Ok(_)
                        | Err(stanchion::error::CallFailure { kind: FailureKind::Unavailable(_), .. }) => {}
                        Err(other) => panic!("{other:?}"),
                    }
                    // Plain calls in between: a chain in flight must not hold up a transaction for ever.
                    ledger(&system, from).call(Command::Peek).await.unwrap();
                    let _ = ledger(&system, to).cast(Command::Note("x".into())).await;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(balances(&system, &keys).await.iter().sum::<i64>(), 3_000);
    stop(std::sync::Arc::into_inner(system).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_waits_for_a_chain_in_flight_and_then_runs() {
    let store = MemoryStore::new();
    let system = std::sync::Arc::new(open(&store).await);
    for key in ["a", "b"] {
        ledger(&system, key).call(Command::Add(10)).await.unwrap();
    }
    store.faults().hold();
    let call = {
        let account = ledger(&system, "a");
        task(async move { account.call(Command::Add(1)).await })
    };
    until("the chain is at the store", || store.faults().held() > 0).await;
    let transaction = {
        let system = std::sync::Arc::clone(&system);
        task(async move { system.transact(transfer(&system, "a", "b", 5)).await.map(drop) })
    };
    until("its part waits", || !ledger(&system, "a").untyped().cell().unwrap().is_idle()).await;
    store.faults().deliver();
    call.await.unwrap().unwrap();
    transaction.await.unwrap().unwrap();
    assert_eq!(balances(&system, &["a", "b"]).await, [6, 15]);
    stop(std::sync::Arc::into_inner(system).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_a_prepared_entity_applies_nothing() {
    let store = MemoryStore::new();
    let system = std::sync::Arc::new(open(&store).await);
    let a = ledger(&system, "a");
    a.call(Command::Add(10)).await.unwrap();
    store.faults().hold();
    // `b` was never active: its activation is held, so the transaction stands between prepare and commit.
    let transaction = {
        let system = std::sync::Arc::clone(&system);
        task(async move { system.transact(transfer(&system, "a", "b", 5)).await.map(drop) })
    };
    until("b is asked", || !ledger(&system, "b").untyped().cell().unwrap().is_idle()).await;
    kill(&a).await;
    store.faults().deliver();
    a.read(|state| state.balance).await.ok();
    match transaction.await.unwrap() {
        Ok(()) => assert_eq!(balances(&system, &["a", "b"]).await, [5, 5], "committed before the successor"),
        Err(failure) => {
            assert!(matches!(failure.kind, FailureKind::Unavailable(_)), "{failure:?}");
            assert_eq!(balances(&system, &["a", "b"]).await, [10, 0]);
        }
    }
    stop(std::sync::Arc::into_inner(system).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_is_dropped_frees_what_it_prepared() {
    let store = MemoryStore::new();
    let system = open(&store).await;
    let a = ledger(&system, "a");
    a.call(Command::Add(10)).await.unwrap();
    store.faults().hold();
    {
        let transaction = system.transact(transfer(&system, "a", "b", 5));
        tokio::pin!(transaction);
        let asked = until("b is asked", || !ledger(&system, "b").untyped().cell().unwrap().is_idle());
        tokio::select! {
            _ = &mut transaction => panic!("the store is held"),
            () = asked => {}
        }
    }
    store.faults().deliver();
    assert_eq!(balances(&system, &["a", "b"]).await, [10, 0]);
    assert_eq!(a.call(Command::Add(1)).await.unwrap(), Answer::Balance(11));
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_commands_or_an_unknown_kind_apply_nothing() {
    let system = open(&MemoryStore::new()).await;
    let a = ledger(&system, "a");
    a.call(Command::Add(1)).await.unwrap();
    let mut many = Transact::new();
    for _ in 0..257 {
        let _ = many.add(&a, &Command::Add(1));
    }
    let failure = system.transact(many).await.unwrap_err();
    assert!(matches!(failure.kind, FailureKind::Refused(Refusal::TooLarge { .. })), "{failure:?}");
    let mut stranger = stanchion_actors::entity::Transaction::new();
    stranger.add(a.untyped().name().clone(), rmp_serde::to_vec_named(&Command::Add(1)).unwrap().into());
    stranger.add(stanchion::ids::Name::new("stranger", "x").unwrap(), bytes::Bytes::new());
    let failure = stranger.run(system.env()).await.unwrap_err();
    assert!(matches!(failure.kind, FailureKind::Refused(Refusal::UnknownKind(_))), "{failure:?}");
    assert_eq!(balances(&system, &["a"]).await, [1]);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_operations_report_how_far_they_came() {
    let system = open(&MemoryStore::new()).await;
    let (a, b) = (ledger(&system, "a"), ledger(&system, "b"));
    let mut serial = SerialOperations::new();
    serial.add(&a, &Command::Add(1));
    serial.add(&b, &Command::Add(2));
    serial.add(&a, &Command::Take(100));
    serial.add(&b, &Command::Add(100));
    let stopped = serial.run().await.unwrap_err();
    assert_eq!((stopped.applied.len(), stopped.failed.0), (2, 2));
    assert!(matches!(stopped.failed.1.kind, FailureKind::Rejected(_)));
    assert_eq!(balances(&system, &["a", "b"]).await, [1, 2]);
    stop(system).await;
}
