//! A receiver that is slower than those who send.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use stanchion::{
    Agent, Ctx, EntityOptions, MailboxPolicy, Never, System, error::CallError, ids::Name, store::StoreOptions,
};

use crate::{history::campaign, life::runtime};

const SENDERS: u64 = 4;
const CAPACITY: usize = 1_024;

/// Takes its time.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Slow(u64);

impl Agent for Slow {
    const KIND: &'static str = "slow";
    type Command = Vec<u8>;
    type Reply = ();
    type Rejection = Never;

    fn handle(&mut self, _: Vec<u8>, _: &mut Ctx<'_>) -> Result<(), Never> {
        self.0 += 1;
        let until = std::time::Instant::now() + Duration::from_micros(20);
        while std::time::Instant::now() < until {
            std::hint::spin_loop();
        }
        Ok(())
    }
}

/// Memory of this process, in bytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

#[derive(Debug, Default)]
struct Sent {
    accepted: AtomicU64,
    rejected: AtomicU64,
    dropped: AtomicU64,
    most: AtomicU64,
}

async fn send(system: &System, sent: &Sent, count: u64) {
    let slow = system.agent::<Slow>("s").unwrap();
    for number in 0..count {
        let counter = match slow.cast(vec![7; 512]).await {
            Ok(()) => &sent.accepted,
            Err(CallError::Unavailable(_)) if number % 2 == 0 => &sent.rejected,
            Err(CallError::Unavailable(_)) => &sent.dropped,
            Err(error) => panic!("{error}"),
        };
        counter.fetch_add(1, Ordering::SeqCst);
        if number.is_multiple_of(1_000) {
            sent.most.fetch_max(resident(), Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
    }
}

const POLICY: &str = "STANCHION_TEST_SLOW_POLICY";
/// Memory may grow by this much, whatever is sent.
const BOUND: u64 = 300 << 20;

/// Runs the senders in a process of their own: memory is counted for a whole process.
fn in_its_own_process(policy: &str) {
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "slow::child_sends_to_a_slow_receiver", "--nocapture"])
        .env(POLICY, policy)
        .status()
        .unwrap();
    assert!(status.success(), "{policy}: {status}");
}

#[test]
fn child_sends_to_a_slow_receiver() {
    let Ok(policy) = std::env::var(POLICY) else { return };
    sends_to_a_slow_receiver(match policy.as_str() {
        "reject" => MailboxPolicy::Reject,
        "block" => MailboxPolicy::Block(Duration::from_secs(60)),
        "drop-oldest" => MailboxPolicy::DropOldest,
        other => panic!("no policy {other}"),
    });
}

fn sends_to_a_slow_receiver(policy: MailboxPolicy) {
    let count = if campaign() { 1_000_000 } else { 50_000 };
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let mut options = EntityOptions::default();
        options.mailbox.capacity = CAPACITY;
        options.mailbox.policy = policy;
        let system = System::builder()
            .agent_with::<Slow>(options)
            .store_options(StoreOptions::default())
            .open(dir.path().join("app.redb"))
            .await
            .unwrap();
        let (system, sent, before) = (Arc::new(system), Arc::new(Sent::default()), resident());
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let (system, sent) = (Arc::clone(&system), Arc::clone(&sent));
                tokio::spawn(async move { send(&system, &sent, count / SENDERS).await })
            })
            .collect();
        for sender in senders {
            sender.await.unwrap();
        }
        let get = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        // Reads wait behind what is in the mailbox.
        let handled = system.agent::<Slow>("s").unwrap().read(|slow| slow.0).await.unwrap();
        let cell = system.env().directory().cell(&Name::new(Slow::KIND, "s").unwrap()).unwrap();
        let evicted = get(&cell.stats.dropped_oldest);
        let (accepted, refused) = (get(&sent.accepted), get(&sent.rejected) + get(&sent.dropped));
        assert_eq!(accepted + refused, count, "every send has its answer");
        let (placed, never) = (get(&cell.stats.accepted), get(&cell.stats.rejected) + get(&cell.stats.dropped_newest));
        assert_eq!(placed + never, count, "every send got a place or was counted as refused");
        assert_eq!(handled + evicted, placed, "what got a place was handled, or dropped and counted");
        // One that is pushed out while its sender still looks is told so, and counted once as dropped.
        assert!(accepted <= placed && refused >= never, "{accepted} of {placed}, {refused} of {never}");
        assert!(get(&sent.most).saturating_sub(before) < BOUND, "memory grew from {before} to {}", get(&sent.most));
        println!(
            "{policy:?}: {count} sends, {handled} handled, {refused} refused, {evicted} dropped, at most {} MiB",
            get(&sent.most) >> 20
        );
        let system = Arc::into_inner(system).unwrap();
        let _report = system.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn sends_to_a_slow_receiver_are_handled_or_refused_and_memory_stays_bounded() {
    in_its_own_process("reject");
}

#[test]
fn sends_that_wait_for_a_slow_receiver_are_all_handled() {
    in_its_own_process("block");
}

#[test]
fn sends_that_push_out_older_ones_are_handled_or_counted() {
    in_its_own_process("drop-oldest");
}
