//! The same command again: answered from the record, joined, refused; never applied twice.

use stanchion::{
    error::{CallError, Refusal},
    ids::{CommandId, Origin},
    port::memory::MemoryStore,
};

use crate::kit::{Answer, Command, crash, ledger, open, stop, stored, task, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_is_answered_from_the_record_also_after_a_restart() {
    let store = MemoryStore::new();
    let system = open(&store).await;
    let account = ledger(&system, "a");
    let session = system.env().session();
    let ticket = session.begin();
    assert_eq!(account.call_as(&ticket, Command::Add(1)).await.unwrap(), Answer::Balance(1));
    account.call(Command::Add(10)).await.unwrap();
    assert_eq!(account.call_as(&ticket, Command::Add(1)).await.unwrap(), Answer::Balance(1));
    let reopened = store.reopen();
    crash(system).await;
    let system = open(&reopened).await;
    let account = ledger(&system, "a");
    assert_eq!(account.call_as(&ticket, Command::Add(1)).await.unwrap(), Answer::Balance(1));
    assert_eq!(account.call(Command::Peek).await.unwrap(), Answer::Balance(11));
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_after_many_other_commands_is_not_applied_again() {
    const OTHERS: u64 = 20_000;
    let system = open(&MemoryStore::new()).await;
    let account = ledger(&system, "a");
    let ticket = system.env().session().begin();
    account.call_as(&ticket, Command::Add(1)).await.unwrap();
    // Commands of other sessions, so that nothing holds their answers.
    let payload = bytes::Bytes::from(rmp_serde::to_vec_named(&Command::Add(1)).unwrap());
    let callers = (0..4_u128).map(|caller| {
        let (untyped, payload) = (account.untyped().clone(), payload.clone());
        task(async move {
            let origin = Origin::Session(uuid_of(caller));
            for seq in 1..=OTHERS / 4 {
                let id = CommandId { origin, seq };
                untyped.call_under(id, seq, payload.clone(), Default::default()).await.unwrap();
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    assert_eq!(account.call_as(&ticket, Command::Add(1)).await.unwrap(), Answer::Balance(1));
    let expected = i64::try_from(OTHERS).unwrap() + 1;
    assert_eq!(account.call(Command::Peek).await.unwrap(), Answer::Balance(expected));
    let remembered = stored(&system, &account).await.answers.len();
    assert!(remembered <= 5 * 17, "memory is bounded by what is in flight: {remembered}");
    stop(system).await;
}

fn uuid_of(number: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(number + 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settled_command_is_expired_and_never_applied() {
    let system = open(&MemoryStore::new()).await;
    let account = ledger(&system, "a");
    let untyped = account.untyped();
    let origin = Origin::Session(uuid_of(7));
    let payload = bytes::Bytes::from(rmp_serde::to_vec_named(&Command::Add(1)).unwrap());
    for seq in 1..=100 {
        let id = CommandId { origin, seq };
        untyped.call_under(id, seq, payload.clone(), Default::default()).await.unwrap();
    }
    let old = CommandId { origin, seq: 1 };
    let failure = untyped.call_under(old, 100, payload, Default::default()).await.unwrap_err();
    assert_eq!(failure.kind, stanchion::error::FailureKind::Refused(Refusal::Expired));
    assert_eq!(account.call(Command::Peek).await.unwrap(), Answer::Balance(100));
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_id_with_another_payload_is_a_conflict() {
    let system = open(&MemoryStore::new()).await;
    let account = ledger(&system, "a");
    let ticket = system.env().session().begin();
    account.call_as(&ticket, Command::Add(1)).await.unwrap();
    let CallError::Refused(context) = account.call_as(&ticket, Command::Add(2)).await.unwrap_err() else {
        panic!("not refused")
    };
    assert_eq!(context.kind, Refusal::IdConflict);
    assert_eq!(account.call(Command::Peek).await.unwrap(), Answer::Balance(1));
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_in_flight_joins_the_first() {
    let store = MemoryStore::new();
    let system = open(&store).await;
    let account = ledger(&system, "a");
    account.call(Command::Add(1)).await.unwrap();
    store.faults().hold();
    let joined = {
        let (account, ticket) = (account.clone(), system.env().session().begin());
        task(async move {
            let again = |_| account.call_as(&ticket, Command::Add(1));
            futures_util::future::join_all((0..20).map(again)).await
        })
    };
    until("the first is at the store", || store.faults().held() > 0).await;
    until("all were looked at", || account.untyped().cell().unwrap().is_idle()).await;
    assert!(!joined.is_finished());
    store.faults().deliver();
    for answer in joined.await.unwrap() {
        assert_eq!(answer.unwrap(), Answer::Balance(2));
    }
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_was_rejected_may_be_asked_again_under_its_ticket() {
    let system = open(&MemoryStore::new()).await;
    let account = ledger(&system, "a");
    let ticket = system.env().session().begin();
    account.call_as(&ticket, Command::Take(1)).await.unwrap_err();
    account.call(Command::Add(1)).await.unwrap();
    assert_eq!(account.call_as(&ticket, Command::Take(1)).await.unwrap(), Answer::Balance(0));
    stop(system).await;
}
