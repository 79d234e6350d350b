//! Messages between entities: exactly one effect, in order, or back to the sender.

use std::time::Duration;

use stanchion::{
    Address, EntityOptions, System,
    clock::{Clock, ManualClock},
    error::{CallError, Unavailable},
    ids::Timestamp,
    port::memory::MemoryStore,
};

use crate::kit::{
    Answer, Command, Ledger, builder, crash, kill, ledger, open, stop, stored, until, until_async, with,
};

async fn settled(system: &System, sender: &Address<Ledger>) {
    until("the sender has nothing undelivered", || sender.untyped().cell().unwrap().undelivered() == 0).await;
    assert_eq!(stored(system, sender).await.messages, vec![], "nothing is left in the store");
}

async fn seen(address: &Address<Ledger>) -> Vec<u64> {
    loop {
        if let Ok(seen) = address.read(|state| state.seen.clone()).await {
            return seen;
        }
        tokio::task::yield_now().await;
    }
}

async fn retried(address: &Address<Ledger>, system: &System, command: Command) {
    let ticket = system.env().session().begin();
    while let Err(error) = address.call_as(&ticket, command.clone()).await {
        assert!(matches!(error, CallError::Unavailable(_) | CallError::Unknown(_)), "{error:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_arrive_once_and_in_order_whoever_is_killed() {
    const MESSAGES: u64 = 2_000;
    let system = open(&MemoryStore::new()).await;
    let (from, to) = (ledger(&system, "from"), ledger(&system, "to"));
    let outbox = || system.env().services().outbox.actor().unwrap();
    for round in 0..20 {
        let (first, last) = (round * MESSAGES / 20, (round + 1) * MESSAGES / 20);
        retried(&from, &system, Command::SendEach { to: "to".into(), from: first, to_number: last }).await;
        match round % 7 {
            1 => kill(&to).await,
            3 => kill(&from).await,
            5 => {
                let actor = outbox();
                actor.kill();
                until("there is a new outbox", || outbox().get_id() != actor.get_id()).await;
            }
            _ => {}
        }
    }
    until_async("all have arrived", || async { seen(&to).await.len() as u64 >= MESSAGES }).await;
    settled(&system, &from).await;
    assert_eq!(seen(&to).await, (0..MESSAGES).collect::<Vec<_>>());
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_is_neither_lost_nor_made_by_refused_transfers() {
    let system = open(&MemoryStore::new()).await;
    let (from, to) = (ledger(&system, "from"), ledger(&system, "to"));
    from.call(Command::Add(1_000)).await.unwrap();
    // The receiver holds at most 99; transfers beyond come back.
    to.call(Command::Bound(100)).await.unwrap();
    for _ in 0..40 {
        from.call(Command::Transfer { to: "to".into(), amount: 7 }).await.unwrap();
    }
    settled(&system, &from).await;
    let (there, here) =
        (to.read(|state| state.balance).await.unwrap(), from.read(|state| state.balance).await.unwrap());
    assert_eq!((there, here), (98, 902));
    let returned = from.read(|state| state.notes.len()).await.unwrap();
    assert_eq!(returned, 26);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_messages_come_back_once_whoever_is_killed() {
    let system = open(&MemoryStore::new()).await;
    let (from, to) = (ledger(&system, "from"), ledger(&system, "to"));
    from.call(Command::Add(1_000)).await.unwrap();
    to.call(Command::Bound(100)).await.unwrap();
    let outbox = || system.env().services().outbox.actor().unwrap();
    for round in 0..60 {
        retried(&from, &system, Command::Transfer { to: "to".into(), amount: 7 }).await;
        match round % 9 {
            2 if round < 20 => kill(&to).await,
            4 if round < 20 => kill(&from).await,
            6 if round < 20 => {
                let actor = outbox();
                actor.kill();
                until("there is a new outbox", || outbox().get_id() != actor.get_id()).await;
            }
            _ => {}
        }
    }
    settled(&system, &from).await;
    let (there, here) =
        (to.read(|state| state.balance).await.unwrap(), from.read(|state| state.balance).await.unwrap());
    assert_eq!((there, here), (98, 902));
    assert_eq!(from.read(|state| state.notes.len()).await.unwrap(), 46);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_message_holds_up_those_after_it_until_its_return_is_durable() {
    // A receiver knows what it consumed by one number. Were the message after a refused one consumed first, a
    // crash before the return would make the refused one look consumed.
    let store = MemoryStore::new();
    let system = open(&store).await;
    let (from, to) = (ledger(&system, "from"), ledger(&system, "to"));
    to.call(Command::Add(1)).await.unwrap();
    let send = |command| Command::Send { to: "to".into(), command: Box::new(command) };
    from.call(send(Command::Reject)).await.unwrap();
    until_async("it came back", || async { !from.read(|s| s.notes.clone()).await.unwrap().is_empty() }).await;
    from.call(send(Command::See(1))).await.unwrap();
    from.call(send(Command::Reject)).await.unwrap();
    from.call(send(Command::See(2))).await.unwrap();
    settled(&system, &from).await;
    assert_eq!(seen(&to).await, [1, 2]);
    assert_eq!(from.read(|state| state.notes.len()).await.unwrap(), 2);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_to_an_unknown_kind_comes_back() {
    let system = open(&MemoryStore::new()).await;
    let from = ledger(&system, "from");
    for _ in 0..3 {
        from.call(Command::SendStranger).await.unwrap();
    }
    settled(&system, &from).await;
    let notes = from.read(|state| state.notes.clone()).await.unwrap();
    assert_eq!(notes, vec!["returned Refused(UnknownKind(\"stranger\"))"; 3]);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_expires_comes_back_and_one_in_time_does_not() {
    let store = MemoryStore::new();
    let clock = std::sync::Arc::new(ManualClock::at(Timestamp(1_000_000_000_000_000)));
    let system = builder().clock(clock.clone()).open_on(store.clone()).await.unwrap();
    let (from, to) = (ledger(&system, "from"), ledger(&system, "to"));
    let within = |ms| Command::SendWithin { to: "to".into(), command: Box::new(Command::See(ms)), ms };
    // Both are stored while no outbox can deliver them.
    system.root().which_children().await.unwrap();
    from.call(Command::Peek).await.unwrap();
    store.faults().hold();
    let calls = crate::kit::task({
        let (from, clock) = (from.clone(), clock.clone());
        async move {
            let calls = (from.call(within(10)), from.call(within(100_000)));
            let (short, long) = tokio::join!(calls.0, calls.1);
            (short.unwrap(), long.unwrap(), clock.now())
        }
    });
    until("they are at the store", || store.faults().held() > 0).await;
    clock.advance(Duration::from_secs(1));
    store.faults().deliver();
    calls.await.unwrap();
    settled(&system, &from).await;
    assert_eq!(seen(&to).await, [100_000]);
    assert_eq!(from.read(|state| state.notes.clone()).await.unwrap(), ["returned Expired"]);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completion_that_panics_is_parked_and_its_message_is_settled() {
    let system = open(&MemoryStore::new()).await;
    let from = ledger(&system, "from");
    from.call(Command::Send { to: "to".into(), command: Box::new(Command::Panic) }).await.unwrap();
    settled(&system, &from).await;
    assert_eq!(from.call(Command::Add(1)).await.unwrap(), Answer::Balance(1), "the sender goes on");
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_outbox_refuses_new_messages_and_recovers() {
    let store = MemoryStore::new();
    let mut options = EntityOptions::default();
    options.outbox_max = 10;
    let system = with(options).open_on(store.clone()).await.unwrap();
    let (from, to) = (ledger(&system, "from"), ledger(&system, "to"));
    let each = |first, last| Command::SendEach { to: "to".into(), from: first, to_number: last };
    let CallError::Unavailable(context) = from.call(each(0, 11)).await.unwrap_err() else {
        panic!("eleven fit into ten")
    };
    assert_eq!(context.kind, Unavailable::OutboxFull(0));
    for round in 0..20 {
        let ticket = system.env().session().begin();
        while from.call_as(&ticket, each(round * 10, round * 10 + 10)).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
    settled(&system, &from).await;
    assert_eq!(seen(&to).await, (0..200).collect::<Vec<_>>());
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_count_of_undelivered_messages_survives_kills() {
    let system = open(&MemoryStore::new()).await;
    let (from, to) = (ledger(&system, "from"), ledger(&system, "to"));
    for round in 0..3 {
        let (first, last) = (round * 50, round * 50 + 50);
        retried(&from, &system, Command::SendEach { to: "to".into(), from: first, to_number: last }).await;
        kill(&from).await;
    }
    until_async("all have arrived", || async { seen(&to).await.len() == 150 }).await;
    settled(&system, &from).await;
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_delivered_after_a_restart() {
    let store = MemoryStore::new();
    let system = open(&store).await;
    let from = ledger(&system, "from");
    from.call(Command::SendEach { to: "to".into(), from: 0, to_number: 500 }).await.unwrap();
    let reopened = store.reopen();
    crash(system).await;
    let system = open(&reopened).await;
    let (from, to) = (ledger(&system, "from"), ledger(&system, "to"));
    until_async("all have arrived", || async { seen(&to).await.len() >= 500 }).await;
    settled(&system, &from).await;
    assert_eq!(seen(&to).await, (0..500).collect::<Vec<_>>());
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_delivered_after_a_restart_on_redb() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.redb");
    for round in 0..3_u64 {
        let system = builder().open(&path).await.unwrap();
        let (from, to) = (ledger(&system, "from"), ledger(&system, "to"));
        let (first, last) = (round * 100, round * 100 + 100);
        from.call(Command::SendEach { to: "to".into(), from: first, to_number: last }).await.unwrap();
        if round == 2 {
            until_async("all have arrived", || async { seen(&to).await.len() >= 300 }).await;
            settled(&system, &from).await;
            assert_eq!(seen(&to).await, (0..300).collect::<Vec<_>>());
        }
        stop(system).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_receiver_of_many_messages_has_a_bounded_mailbox() {
    const MESSAGES: u64 = 5_000;
    many_to_one(MESSAGES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: 100 000 messages"]
async fn a_slow_receiver_of_a_hundred_thousand_messages_has_a_bounded_mailbox() {
    many_to_one(100_000).await;
}

/// Messages to one receiver from ten senders; the numbers are added up, so the state stays small.
async fn many_to_one(messages: u64) {
    let mut options = EntityOptions::default();
    options.outbox_max = 20_000;
    let system = with(options).open_on(MemoryStore::new()).await.unwrap();
    let to = ledger(&system, "to");
    let senders: Vec<_> = (0..10).map(|n| ledger(&system, &format!("from-{n}"))).collect();
    for _ in 0..messages / 10 / 50 {
        for sender in &senders {
            for _ in 0..50 {
                let command = Box::new(Command::Add(1));
                sender.cast(Command::Send { to: "to".into(), command }).await.unwrap();
            }
        }
    }
    let total = i64::try_from(messages).unwrap();
    until_async("all have arrived", || async { to.read(|state| state.balance).await == Ok(total) }).await;
    for sender in &senders {
        settled(&system, sender).await;
    }
    stop(system).await;
}

#[cfg(feature = "testing")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_consumed_while_its_sender_reads_the_store_is_not_counted_for_ever() {
    // The sender read that it was pending, the receiver consumed it, then the sender counted it: nobody would settle
    // it any more, and the outbox was the fuller for it until the next activation.
    let late = std::sync::Arc::new(crate::kit::Late::default());
    let system = builder()
        .wrap_store({
            let late = std::sync::Arc::clone(&late);
            std::sync::Arc::new(move |inner| {
                let late = std::sync::Arc::clone(&late);
                std::sync::Arc::new(crate::kit::LateLoads { inner, late })
            })
        })
        .open_memory()
        .await
        .unwrap();
    let from = ledger(&system, "from");
    from.call(Command::Add(1)).await.unwrap();
    late.hold(true);
    from.call(Command::Send { to: "to".into(), command: Box::new(Command::See(1)) }).await.unwrap();
    until("the receiver begins", || late.waiting() == 1).await;
    from.untyped().cell().unwrap().push_internal(stanchion_actors::entity::Item::Reoffer);
    until("the sender has read", || late.waiting() == 2).await;
    late.answer_first();
    until("it is consumed", || from.untyped().cell().unwrap().undelivered() == 0).await;
    late.hold(false);
    late.answer_first();
    from.call(Command::Add(1)).await.unwrap();
    settled(&system, &from).await;
    stop(system).await;
}
