//! Mailbox policies: every command is handled, refused or dropped, and each is counted.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use stanchion::{
    Address, EntityOptions, MailboxOptions, MailboxPolicy, OpenError, System,
    error::{CallError, Unavailable},
    port::memory::MemoryStore,
};

use crate::kit::{Answer, Command, Ledger, Outcome, ledger, stop, task, until, with};

fn options(capacity: usize, policy: MailboxPolicy) -> EntityOptions {
    let mut options = EntityOptions::default();
    options.mailbox = MailboxOptions { capacity, policy, ..MailboxOptions::default() };
    options
}

/// A system whose ledger `a` cannot be activated before the store delivers.
async fn stalled(capacity: usize, policy: MailboxPolicy) -> (System, MemoryStore, Address<Ledger>) {
    let store = MemoryStore::new();
    let system = with(options(capacity, policy)).open_on(store.clone()).await.unwrap();
    store.faults().hold();
    let account = ledger(&system, "a");
    (system, store, account)
}

/// Calls one after another, each in the mailbox (or refused) before the next begins.
async fn calls(account: &Address<Ledger>, commands: impl Iterator<Item = (u64, u8)>) -> Vec<(u64, Outcome)> {
    let mut pending = Vec::new();
    let stats = &account.untyped().cell().unwrap().stats;
    let counted =
        || stats.accepted.load(Relaxed) + stats.rejected.load(Relaxed) + stats.dropped_newest.load(Relaxed);
    for (number, priority) in commands {
        let before = counted();
        let account = account.clone().with_priority(priority);
        pending.push(task(async move { (number, account.call(Command::See(number)).await) }));
        until("the call was counted", || counted() > before).await;
    }
    let mut outcomes = Vec::new();
    // The store is let go by now or by the caller's own task.
    for call in pending {
        outcomes.push(call.await.unwrap());
    }
    outcomes
}

/// Numbers that were handled, refused as full, and dropped.
fn sorted(outcomes: &[(u64, Outcome)]) -> (Vec<u64>, Vec<u64>, Vec<u64>) {
    let (mut handled, mut full, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
    for (number, outcome) in outcomes {
        match outcome {
            Ok(_) => handled.push(*number),
            Err(CallError::Unavailable(context)) => match &context.kind {
                Unavailable::Full { capacity: 4 } => full.push(*number),
                Unavailable::Dropped => dropped.push(*number),
                other => panic!("{other:?}"),
            },
            Err(other) => panic!("{other:?}"),
        }
    }
    (handled, full, dropped)
}

/// Sends ten commands into a mailbox of four, lets go, and gives what became of each.
async fn ten_into_four(
    policy: MailboxPolicy,
    priority: impl Fn(u64) -> u8,
) -> (Vec<u64>, Vec<u64>, Vec<u64>, [u64; 5]) {
    let (system, store, account) = stalled(4, policy).await;
    let caller = {
        let (account, commands) =
            (account.clone(), (0..10).map(|n| (n, priority(n))).collect::<Vec<_>>().into_iter());
        task(async move { calls(&account, commands).await })
    };
    let cell = account.untyped().cell().unwrap();
    let counts = || {
        let s = &cell.stats;
        [&s.accepted, &s.rejected, &s.dropped_oldest, &s.dropped_newest, &s.shed].map(|c| c.load(Relaxed))
    };
    until("all are counted", || {
        let [accepted, rejected, _, newest, _] = counts();
        accepted + rejected + newest == 10
    })
    .await;
    store.faults().deliver();
    let outcomes = caller.await.unwrap();
    let (handled, full, dropped) = sorted(&outcomes);
    let counts = counts();
    assert_eq!(handled.len() as u64, counts[0] - counts[2] - counts[4], "{counts:?}");
    let seen = account.read(|state| state.seen.clone()).await.unwrap();
    assert_eq!(seen, handled);
    stop(system).await;
    (handled, full, dropped, counts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reject_refuses_the_new_ones() {
    let (handled, full, dropped, counts) = ten_into_four(MailboxPolicy::Reject, |_| 0).await;
    assert_eq!((handled, full, dropped), (vec![0, 1, 2, 3], vec![4, 5, 6, 7, 8, 9], vec![]));
    assert_eq!(counts, [4, 6, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drop_newest_drops_the_new_ones() {
    let (handled, full, dropped, counts) = ten_into_four(MailboxPolicy::DropNewest, |_| 0).await;
    assert_eq!((handled, full, dropped), (vec![0, 1, 2, 3], vec![], vec![4, 5, 6, 7, 8, 9]));
    assert_eq!(counts, [4, 0, 0, 6, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drop_oldest_drops_those_that_wait_longest() {
    let (handled, full, dropped, counts) = ten_into_four(MailboxPolicy::DropOldest, |_| 0).await;
    assert_eq!((handled, full, dropped), (vec![6, 7, 8, 9], vec![], vec![0, 1, 2, 3, 4, 5]));
    assert_eq!(counts, [10, 0, 6, 0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shed_keeps_the_most_important() {
    let priorities = [5, 1, 9, 3, 2, 9, 1, 4, 9, 0];
    let (handled, full, dropped, counts) =
        ten_into_four(MailboxPolicy::Shed, |n| priorities[usize::try_from(n).unwrap()]).await;
    assert_eq!((handled, full, dropped), (vec![0, 2, 5, 8], vec![], vec![1, 3, 4, 6, 7, 9]));
    assert_eq!(counts, [8, 0, 0, 2, 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn block_waits_for_a_place_in_turn() {
    let (system, store, account) = stalled(4, MailboxPolicy::Block(Duration::from_secs(30))).await;
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let account = account.clone();
            task(async move { account.call(Command::Add(1)).await })
        })
        .collect();
    let cell = account.untyped().cell().unwrap();
    until("the mailbox is full", || cell.stats.accepted.load(Relaxed) == 4).await;
    store.faults().deliver();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    assert_eq!(account.call(Command::Peek).await.unwrap(), Answer::Balance(100));
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn block_refuses_when_its_time_is_over() {
    let (system, store, account) = stalled(1, MailboxPolicy::Block(Duration::from_millis(10))).await;
    let first = {
        let account = account.clone();
        task(async move { account.call(Command::Add(1)).await })
    };
    let cell = account.untyped().cell().unwrap();
    until("the mailbox is full", || cell.stats.accepted.load(Relaxed) == 1).await;
    let CallError::Unavailable(context) = account.call(Command::Add(1)).await.unwrap_err() else {
        panic!("not refused")
    };
    assert_eq!(context.kind, Unavailable::Full { capacity: 1 });
    store.faults().deliver();
    first.await.unwrap().unwrap();
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_that_do_not_hold_are_refused_at_build() {
    let mut critical = options(4, MailboxPolicy::DropOldest);
    critical.mailbox.critical = true;
    let mut shed = options(4, MailboxPolicy::Shed);
    shed.mailbox.critical = true;
    let none = options(0, MailboxPolicy::Reject);
    let many = options(1_000_001, MailboxPolicy::Reject);
    for refused in [critical, shed, none, many] {
        let opened = with(refused).open_memory().await;
        assert!(matches!(opened, Err(OpenError::Kind(_))), "{opened:?}");
    }
    let mut good = options(4, MailboxPolicy::Reject);
    good.mailbox.critical = true;
    stop(with(good).open_memory().await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_sends_each_is_delivered_refused_or_dropped() {
    every_send_is_accounted_for(20_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: a million sends for each policy"]
async fn of_a_million_sends_each_is_delivered_refused_or_dropped() {
    every_send_is_accounted_for(1_000_000).await;
}

async fn every_send_is_accounted_for(sends: u64) {
    use MailboxPolicy as Policy;
    let block = Policy::Block(Duration::from_secs(30));
    for policy in [Policy::Reject, Policy::DropOldest, Policy::DropNewest, Policy::Shed, block] {
        let system = with(options(64, policy)).open_memory().await.unwrap();
        let account = ledger(&system, "a");
        let producers: Vec<_> = (0..4_u8)
            .map(|producer| {
                let account = account.clone().with_priority(producer);
                task(async move {
                    let mut refused = 0_u64;
                    for _ in 0..sends / 4 {
                        refused += u64::from(account.cast(Command::Add(1)).await.is_err());
                    }
                    refused
                })
            })
            .collect();
        for producer in producers {
            producer.await.unwrap();
        }
        let cell = account.untyped().cell().unwrap();
        until("all are handled", || cell.is_idle()).await;
        let handled = account.read(|state| state.balance).await.unwrap();
        let stats = &cell.stats;
        let [accepted, rejected, oldest, newest, shed] =
            [&stats.accepted, &stats.rejected, &stats.dropped_oldest, &stats.dropped_newest, &stats.shed]
                .map(|count| count.load(Relaxed));
        assert_eq!(accepted + rejected + newest, sends, "{policy:?}");
        assert_eq!(u64::try_from(handled).unwrap() + oldest + shed + rejected + newest, sends, "{policy:?}");
        stop(system).await;
    }
}
