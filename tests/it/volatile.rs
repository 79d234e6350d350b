//! Volatile actors: addresses, policies and supervision without a store.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use stanchion::{
    MailboxOptions, MailboxPolicy, Never, OpenError, System, Volatile, VolatileAddress, VolatileCtx,
    error::{CallError, Doubt, Unavailable},
};

use crate::kit::{stop, task, until};

/// Counts; waits, panics and rejects when told.
#[derive(Default)]
struct Tally(u64);

enum Ask {
    Add(u64),
    Panic,
    Reject,
    /// Runs until the other side is dropped or speaks.
    Wait(std::sync::mpsc::Receiver<()>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("as told")]
struct AsTold;

impl Volatile for Tally {
    const KIND: &'static str = "tally";
    type Command = Ask;
    type Reply = u64;
    type Rejection = AsTold;

    fn handle(&mut self, ask: Ask, ctx: &mut VolatileCtx<'_>) -> Result<u64, AsTold> {
        assert!(!ctx.key().is_empty() && ctx.now().0 > 0);
        match ask {
            Ask::Add(amount) => self.0 += amount,
            Ask::Panic => panic!("as told"),
            Ask::Reject => return Err(AsTold),
            Ask::Wait(go) => drop(go.recv()),
        }
        Ok(self.0)
    }
}

async fn open(mailbox: MailboxOptions) -> (System, VolatileAddress<Tally>) {
    let system = System::builder().volatile::<Tally>(mailbox).open_memory().await.unwrap();
    let tally = system.volatile::<Tally>("t").unwrap();
    (system, tally)
}

fn options(capacity: usize, policy: MailboxPolicy) -> MailboxOptions {
    MailboxOptions { capacity, policy, ..MailboxOptions::default() }
}

/// Keeps the actor in a handler until the answer is dropped.
async fn busy(tally: &VolatileAddress<Tally>) -> std::sync::mpsc::Sender<()> {
    let (go, wait) = std::sync::mpsc::channel();
    tally.cast(Ask::Wait(wait)).await.unwrap();
    // A mailbox of one place admits the next one only when the first has begun.
    until("it waits", || tally.stats().accepted.load(Relaxed) > 0 && tally.life().is_some()).await;
    go
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_and_casts_are_handled_in_order_and_nothing_is_stored() {
    let (system, tally) = open(MailboxOptions::default()).await;
    for n in 1..=100 {
        tally.cast(Ask::Add(1)).await.unwrap();
        assert_eq!(tally.call(Ask::Add(0)).await.unwrap(), n);
    }
    assert_eq!(tally.call(Ask::Reject).await.unwrap_err(), CallError::Rejected(AsTold));
    assert_eq!(system.volatile::<Tally>("other").unwrap().call(Ask::Add(7)).await.unwrap(), 7);
    assert_eq!(system.store_stats().commits, 0);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_starts_it_anew_and_loses_nobody_who_waits() {
    let (system, tally) = open(MailboxOptions::default()).await;
    tally.call(Ask::Add(5)).await.unwrap();
    let go = busy(&tally).await;
    let waiting: Vec<_> = [Ask::Panic, Ask::Add(1), Ask::Add(1)]
        .into_iter()
        .map(|ask| {
            let tally = tally.clone();
            let before = tally.stats().accepted.load(Relaxed);
            (before, task(async move { tally.call(ask).await }))
        })
        .map(|(_, call)| call)
        .collect();
    until("all wait", || tally.stats().accepted.load(Relaxed) == 5).await;
    drop(go);
    let mut outcomes = Vec::new();
    for call in waiting {
        outcomes.push(call.await.unwrap());
    }
    let lost = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Err(CallError::Unknown(context)) if context.kind == Doubt::Lost));
    assert_eq!(lost.count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 2, "{outcomes:?}");
    assert!(tally.call(Ask::Add(0)).await.unwrap() <= 2, "the state is fresh");
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_crashes_too_often_is_blocked_alone() {
    let (system, tally) = open(MailboxOptions::default()).await;
    for _ in 0..4 {
        let CallError::Unknown(context) = tally.call(Ask::Panic).await.unwrap_err() else {
            panic!("a panic has no answer")
        };
        assert_eq!(context.kind, Doubt::Lost);
    }
    let CallError::Unavailable(context) = tally.call(Ask::Add(1)).await.unwrap_err() else {
        panic!("not blocked")
    };
    assert!(matches!(context.kind, Unavailable::CrashLoop(_)), "{context}");
    assert_eq!(system.volatile::<Tally>("other").unwrap().call(Ask::Add(7)).await.unwrap(), 7);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_supervisor_may_be_killed() {
    let (system, tally) = open(MailboxOptions::default()).await;
    tally.call(Ask::Add(5)).await.unwrap();
    let place = || system.env().volatiles().supervisor().actor().unwrap();
    let actor = place();
    actor.kill();
    until("there is a new one", || place().get_id() != actor.get_id()).await;
    assert!(tally.call(Ask::Add(1)).await.unwrap() <= 6);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_send_is_handled_refused_or_dropped() {
    use MailboxPolicy as Policy;
    const SENDS: u64 = 20_000;
    let block = Policy::Block(Duration::from_secs(30));
    for policy in [Policy::Reject, Policy::DropOldest, Policy::DropNewest, Policy::Shed, block] {
        let (system, tally) = open(options(16, policy)).await;
        let producers: Vec<_> = (0..4_u8)
            .map(|producer| {
                let tally = tally.clone().with_priority(producer);
                task(async move {
                    for _ in 0..SENDS / 4 {
                        let _ = tally.cast(Ask::Add(1)).await;
                    }
                })
            })
            .collect();
        for producer in producers {
            producer.await.unwrap();
        }
        let mut calls = 0;
        let total = loop {
            calls += 1;
            if let Ok(total) = tally.call(Ask::Add(0)).await {
                break total;
            }
        };
        let stats = tally.stats();
        let [accepted, rejected, oldest, newest, shed] =
            [&stats.accepted, &stats.rejected, &stats.dropped_oldest, &stats.dropped_newest, &stats.shed]
                .map(|count| count.load(Relaxed));
        assert_eq!(accepted + rejected + newest, SENDS + calls, "{policy:?}");
        // The call that was answered adds nothing, and everything before it was handled.
        assert_eq!(total, accepted - oldest - shed - 1, "{policy:?}");
        if matches!(policy, Policy::Block(_)) {
            assert_eq!(total, SENDS);
        }
        stop(system).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_says_whether_the_command_began() {
    let (system, tally) = open(MailboxOptions::default()).await;
    let go = busy(&tally).await;
    let late = tally.clone().with_deadline(Duration::from_millis(10)).call(Ask::Add(1)).await;
    let Err(CallError::Unavailable(context)) = late else { panic!("{late:?}") };
    assert_eq!(context.kind, Unavailable::DeadlinePassed);
    drop(go);
    assert_eq!(tally.call(Ask::Add(0)).await.unwrap(), 0, "it never ran");
    let (go, wait) = std::sync::mpsc::channel();
    let late = tally.clone().with_deadline(Duration::from_millis(50)).call(Ask::Wait(wait)).await;
    let Err(CallError::Unknown(context)) = late else { panic!("{late:?}") };
    assert_eq!(context.kind, Doubt::DeadlinePassed);
    drop(go);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_its_kind_is_refused() {
    let twice = System::builder()
        .volatile::<Tally>(MailboxOptions::default())
        .volatile::<Tally>(MailboxOptions::default());
    assert!(matches!(twice.open_memory().await, Err(OpenError::Kind(_))));
    let none = System::builder().volatile::<Tally>(options(0, MailboxPolicy::Reject));
    assert!(matches!(none.open_memory().await, Err(OpenError::Kind(_))));
    let system = System::builder().open_memory().await.unwrap();
    assert!(system.volatile::<Tally>("t").is_err());
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_system_that_stops_tells_those_who_wait() {
    #[derive(Default)]
    struct Idle;
    impl Volatile for Idle {
        const KIND: &'static str = "idle";
        type Command = ();
        type Reply = ();
        type Rejection = Never;
        fn handle(&mut self, (): (), _: &mut VolatileCtx<'_>) -> Result<(), Never> {
            Ok(())
        }
    }
    let system = System::builder().volatile::<Idle>(MailboxOptions::default()).open_memory().await.unwrap();
    let idle = system.volatile::<Idle>("i").unwrap();
    idle.call(()).await.unwrap();
    stop(system).await;
    let CallError::Unavailable(context) = idle.call(()).await.unwrap_err() else { panic!("answered") };
    assert_eq!(context.kind, Unavailable::Draining);
}

/// Ends when it has nothing to do.
#[derive(Default)]
struct Guest(u64);

impl Volatile for Guest {
    const KIND: &'static str = "guest";
    const IDLE_MAX: Option<Duration> = Some(Duration::ZERO);
    type Command = ();
    type Reply = u64;
    type Rejection = Never;
    fn handle(&mut self, (): (), _: &mut VolatileCtx<'_>) -> Result<u64, Never> {
        self.0 += 1;
        Ok(self.0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_actors_end_and_names_that_nobody_holds_are_forgotten() {
    let builder = System::builder().volatile::<Guest>(MailboxOptions::default());
    let system = builder.volatile::<Tally>(MailboxOptions::default()).open_memory().await.unwrap();
    for n in 0..200 {
        assert_eq!(system.volatile::<Guest>(&format!("g{n}")).unwrap().call(()).await.unwrap(), 1);
        drop(system.volatile::<Tally>(&format!("never called {n}")).unwrap());
    }
    let kept = system.volatile::<Guest>("kept").unwrap();
    let tally = system.volatile::<Tally>("t").unwrap();
    tally.call(Ask::Add(3)).await.unwrap();
    drop(tally);
    // The supervisor looks once a second.
    until("two are left", || system.env().volatiles().cells().len() == 2).await;
    assert_eq!(system.volatile::<Tally>("t").unwrap().call(Ask::Add(0)).await.unwrap(), 3, "it lives on");
    assert_eq!(kept.call(()).await.unwrap(), 1, "a held address works on");
    stop(system).await;
}
