//! Persistent queues through a system, on both stores, against a clock set by hand.

use std::{
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use futures_util::future::join_all;
use stanchion::{
    Failure, System,
    clock::ManualClock,
    ids::Timestamp,
    port::memory::MemoryStore,
    queue::{
        Ack, DeadEdit, DeadFilter, JobEnqueued, JobStatus, LeaseRequest, Nack, NewJob, Queue, QueueConfig,
        QueueError, QueueRefusal, RunAt, Settled, Taker, Work,
    },
};
use stanchion_actors::entity::TimersMsg;

use crate::kit::{crash, stop, task, until_async};

const START: Timestamp = Timestamp(1_800_000_000_000_000);

async fn open_at(store: &MemoryStore, clock: &Arc<ManualClock>) -> System {
    System::builder().clock(clock.clone()).open_on(store.clone()).await.unwrap()
}

fn jobs(n: usize) -> Vec<NewJob> {
    (0..n).map(|number| NewJob::with_input("noop", &serde_json::json!({ "n": number })).unwrap()).collect()
}

fn request(n: usize) -> LeaseRequest {
    LeaseRequest { worker: Arc::from("w"), incarnation: 1, kinds: vec![], n, lease_ms: 30_000 }
}

async fn lease(queue: &Queue, n: usize) -> Vec<Work> {
    queue.lease(request(n)).await.unwrap()
}

async fn ack(queue: &Queue, work: &Work) -> Result<Settled, QueueRefusal> {
    let output = Some(work.payload.clone());
    let acks = vec![Ack { job: work.id.seq, fence: work.lease.fence, output }];
    queue.ack(work.id.partition, acks).await.unwrap().remove(0)
}

async fn nack(queue: &Queue, work: &Work, failure: Failure) -> Result<Settled, QueueRefusal> {
    let nacks = vec![Nack { job: work.id.seq, fence: work.lease.fence, failure, retry: None }];
    queue.nack(work.id.partition, nacks).await.unwrap().remove(0)
}

/// Enqueues, loses the process, works, fails and finishes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_leases_and_pause_survive_a_crash_in_memory() {
    let store = MemoryStore::new();
    let system = System::builder().open_on(store.clone()).await.unwrap();
    let queue = system.queue("mail").unwrap();
    assert_eq!(queue.stats().await, Err(QueueError::Refused(QueueRefusal::UnknownQueue)));
    let enqueued = queue.enqueue(jobs(600)).await.unwrap();
    assert_eq!(enqueued.len(), 600);
    let held = lease(&queue, 10).await;
    assert_eq!(held[3].payload, jobs(4)[3].payload);
    queue.pause().await.unwrap();
    let reopened = store.reopen();
    crash(system).await;

    let system = System::builder().open_on(reopened).await.unwrap();
    let queue = system.queue("mail").unwrap();
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.pending, stats.in_flight, stats.paused), (590, 10, true));
    assert_eq!(lease(&queue, 1).await, vec![], "still paused");
    queue.resume().await.unwrap();
    assert_eq!(ack(&queue, &held[0]).await, Ok(Settled::Done), "the lease outlived the process");
    assert_eq!(queue.release_worker("w", 2).await.unwrap(), 9);
    assert_eq!(ack(&queue, &held[1]).await, Err(QueueRefusal::LeaseLost));
    let mut seen = vec![held[0].id.seq];
    loop {
        let work = lease(&queue, 256).await;
        if work.is_empty() {
            break;
        }
        for one in &work {
            assert_eq!(ack(&queue, one).await, Ok(Settled::Done));
            seen.push(one.id.seq);
        }
    }
    assert_eq!(seen, (1..=600).collect::<Vec<_>>(), "each once, in order");
    let stats = queue.drain(Duration::from_secs(5)).await.unwrap();
    assert!(stats.is_conserved() && stats.done == 600 && stats.live() == 0);
    let view = queue.job(held[3].id).await.unwrap();
    assert_eq!(
        (view.status, view.output, view.payload),
        (JobStatus::Done, Some(held[3].payload.clone()), None)
    );
    assert_eq!(
        queue.enqueue(jobs(1)).await,
        Err(QueueError::Refused(QueueRefusal::Draining)),
        "until it is resumed"
    );
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_leases_and_pause_survive_a_restart_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.redb");
    let system = System::builder().open(&path).await.unwrap();
    let queue = system.queue("mail").unwrap();
    queue.enqueue(jobs(600)).await.unwrap();
    let held = lease(&queue, 10).await;
    queue.pause().await.unwrap();
    stop(system).await;
    let system = System::builder().open(&path).await.unwrap();
    let queue = system.queue("mail").unwrap();
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.pending, stats.in_flight, stats.paused), (590, 10, true));
    assert_eq!(ack(&queue, &held[9]).await, Ok(Settled::Done));
    assert_eq!(queue.list(Some(JobStatus::InFlight), None, 99).await.unwrap().len(), 9);
    let after = queue.list(Some(JobStatus::Pending), Some(held[9].id), 300).await.unwrap();
    assert_eq!((after.len(), after[0].id.seq), (300, 11));
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delays_and_leases_end_by_the_clock_and_not_before() {
    let (store, clock) = (MemoryStore::new(), Arc::new(ManualClock::at(START)));
    let system = open_at(&store, &clock).await;
    let queue = system.queue("q").unwrap();
    let delayed = NewJob { run_at: RunAt::After(60_000), ..jobs(1).remove(0) };
    queue.enqueue(vec![delayed]).await.unwrap();
    clock.advance(Duration::from_micros(59_999_999));
    assert_eq!(lease(&queue, 1).await, vec![]);
    clock.advance(Duration::from_micros(1));
    let first = lease(&queue, 1).await;
    assert_eq!(first.len(), 1);
    clock.advance(Duration::from_micros(29_999_999));
    assert_eq!(lease(&queue, 1).await, vec![]);
    crash(system).await;

    let system = open_at(&store.reopen(), &clock).await;
    let queue = system.queue("q").unwrap();
    clock.advance(Duration::from_micros(1));
    // Nobody asks for work: the durable timer takes the lease back.
    until_async("the lease is back", || async {
        if let Some(timers) = system.env().services().timers.actor() {
            let _ = timers.cast(TimersMsg::Tick);
        }
        queue.stats().await.unwrap().pending == 1
    })
    .await;
    assert_eq!(queue.stats().await.unwrap().lost, 1);
    let second = lease(&queue, 1).await;
    assert_eq!((second[0].id, second[0].lease.attempt), (first[0].id, 2));
    assert_eq!(second[0].idempotency_key, first[0].idempotency_key);
    assert_eq!(ack(&queue, &first[0]).await, Err(QueueRefusal::LeaseLost));
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_listed_edited_requeued_and_purged() {
    let store = MemoryStore::new();
    let system = System::builder().open_on(store.clone()).await.unwrap();
    let queue = system.queue("q").unwrap();
    queue.enqueue(jobs(3)).await.unwrap();
    for work in lease(&queue, 3).await {
        assert_eq!(nack(&queue, &work, Failure::permanent("mail.bounced", "no")).await, Ok(Settled::Dead));
    }
    let dead = queue.list(Some(JobStatus::Dead), None, 9).await.unwrap();
    assert_eq!(dead.len(), 3);
    let edit = DeadEdit { job: 1, payload: Some("new".into()), ..DeadEdit::default() };
    queue.dead_edit(0, edit).await.unwrap();
    let none = queue.dead_purge(&DeadFilter::default()).await;
    assert_eq!(none, Err(QueueError::Refused(QueueRefusal::NoFilter)));
    let first = DeadFilter { jobs: vec![1], ..DeadFilter::default() };
    assert_eq!(queue.dead_requeue(&first).await.unwrap(), 1);
    assert_eq!(lease(&queue, 9).await[0].payload, "new");
    let bounced = DeadFilter { code: Some("mail.bounced".into()), ..DeadFilter::default() };
    assert_eq!(queue.dead_purge(&bounced).await.unwrap(), 2);
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.dead, stats.purged, stats.in_flight, stats.is_conserved()), (0, 2, 1, true));
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_keep_the_order_of_a_key_and_change_only_when_empty() {
    let store = MemoryStore::new();
    let system = System::builder().open_on(store.clone()).await.unwrap();
    let queue = system.queue("q").unwrap();
    let stale = system.queue("q").unwrap();
    assert_eq!(stale.partitions().await.unwrap(), 1);
    queue.configure(QueueConfig { partitions: 4, ..QueueConfig::default() }).await.unwrap();
    let keyed = |number: usize| {
        let key: Arc<str> = Arc::from(format!("k{}", number % 7));
        NewJob { key: Some(key), ..NewJob::new("noop", number.to_string()) }
    };
    let enqueued = stale.enqueue((0..100).map(keyed).collect()).await.unwrap();
    assert!(enqueued.iter().any(|job| job.id().partition > 0), "a stale handle learns of them");
    let refused = queue.configure(QueueConfig { partitions: 2, ..QueueConfig::default() }).await;
    assert!(matches!(refused, Err(QueueError::Refused(QueueRefusal::NotEmpty(_)))), "{refused:?}");
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let queue = queue.clone();
            task(async move {
                let mut done = Vec::new();
                while queue.stats().await.unwrap().live() > 0 {
                    for work in lease(&queue, 3).await {
                        done.push((work.lease.key.clone().unwrap(), work.lease.fence, work.payload.clone()));
                        ack(&queue, &work).await.unwrap();
                    }
                }
                done
            })
        })
        .collect();
    let mut done = Vec::new();
    for worker in workers {
        done.extend(worker.await.unwrap());
    }
    done.sort_by_key(|(key, fence, _)| (key.clone(), *fence));
    let order: Vec<_> = done.iter().map(|(key, _, payload)| (key.clone(), payload.clone())).collect();
    let mut expected: Vec<_> = (0..100).map(keyed).map(|job| (job.key.unwrap(), job.payload)).collect();
    expected.sort_by_key(|(key, _)| key.clone());
    assert_eq!(order, expected);
    queue.configure(QueueConfig { partitions: 2, ..QueueConfig::default() }).await.unwrap();
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.partitions, stats.live()), (2, 0));
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_a_large_payload_and_a_strange_name_are_refused() {
    let store = MemoryStore::new();
    let system = System::builder().open_on(store.clone()).await.unwrap();
    assert!(matches!(system.queue("a/b"), Err(QueueError::Name(_))));
    let queue = system.queue("q").unwrap();
    assert_eq!(queue.pause().await, Err(QueueError::Refused(QueueRefusal::UnknownQueue)));
    queue.enqueue(jobs(1_000)).await.unwrap();
    let full = queue.enqueue(jobs(1)).await;
    assert_eq!(full, Err(QueueError::Refused(QueueRefusal::QueueFull { size: 1_000, max: 1_000 })));
    let large = queue.enqueue(vec![NewJob::new("noop", vec![0; 1024 * 1024 + 1])]).await;
    assert!(matches!(large, Err(QueueError::Refused(QueueRefusal::TooLarge { .. }))), "{large:?}");
    let cancelled = queue.cancel("0-7".parse().unwrap(), Duration::ZERO).await.unwrap();
    assert_eq!(cancelled, Settled::Cancelled);
    let largest = queue.enqueue(vec![NewJob::new("noop", vec![0; 1024 * 1024])]).await.unwrap();
    assert!(matches!(largest[0], JobEnqueued::New(_)));
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_queue_did_is_counted_with_its_times_and_by_key() {
    let (store, clock) = (MemoryStore::new(), Arc::new(ManualClock::at(START)));
    let system = open_at(&store, &clock).await;
    let queue = system.queue("q").unwrap();
    let retry = stanchion::resilience::retry::RetryPolicy { initial_interval_ms: 1, ..Default::default() };
    queue.configure(QueueConfig { partitions: 3, retry, ..QueueConfig::default() }).await.unwrap();
    let of = |key: &str| NewJob { key: Some(Arc::from(key)), ..jobs(1).remove(0) };
    queue.enqueue(vec![of("ann"), of("bob"), of("cleo")]).await.unwrap();
    clock.advance(Duration::from_secs(2));
    let work = lease(&queue, 3).await;
    clock.advance(Duration::from_secs(1));
    let by = |key: &str| work.iter().find(|work| work.lease.key.as_deref() == Some(key)).unwrap();
    ack(&queue, by("ann")).await.unwrap();
    nack(&queue, by("bob"), Failure::retryable("x", "")).await.unwrap();
    clock.advance(Duration::from_secs(60));
    assert!(!lease(&queue, 10).await.is_empty(), "what is overdue is taken back");
    let metrics = queue.metrics().await.unwrap();
    let all = &metrics.flow.all;
    assert_eq!(
        (all.started, all.done, all.failed, all.retried, all.expired, all.released),
        (5, 1, 1, 1, 1, 0)
    );
    assert_eq!((all.wait.count(), all.run.count(), all.run.max()), (5, 2, Duration::from_secs(1)));
    let (half, most) = (all.wait.quantile(0.5), all.wait.max());
    assert!(half >= Duration::from_secs(2) && half <= Duration::from_millis(2_500), "{half:?}");
    assert!(most >= Duration::from_secs(59) && most < Duration::from_secs(60), "the retry waited: {most:?}");
    assert_eq!(metrics.flow.keys["ann"].done, 1);
    assert_eq!((metrics.flow.keys["bob"].retried, metrics.flow.keys["cleo"].expired), (1, 1));
    let counters = metrics.counters();
    assert_eq!((counters.count("depth"), counters.count("done"), counters.count("expired")), (2, 1, 1));
    assert_eq!(counters.count("done_per_1000_s"), 0, "it was done more than a minute ago");
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn takers_ask_where_jobs_may_be_and_leave_the_rest_to_the_next() {
    let (store, clock) = (MemoryStore::new(), Arc::new(ManualClock::at(START)));
    let system = open_at(&store, &clock).await;
    let queue = system.queue("q").unwrap();
    queue.configure(QueueConfig { partitions: 8, ..QueueConfig::default() }).await.unwrap();
    let (mut one, mut other) = (Taker::new(queue.clone(), true), Taker::new(queue.clone(), true));
    for taker in [&mut one, &mut other] {
        assert!(taker.take(request(8)).await.unwrap().is_empty(), "nothing is there yet");
    }
    queue.enqueue(jobs(16)).await.unwrap();
    let mut taken = one.take(request(3)).await.unwrap().len();
    assert!((1..=3).contains(&taken), "{taken}");
    while taken < 16 {
        other.until_ready().await;
        taken += other.take(request(5)).await.unwrap().len();
    }
    let mut picky = Taker::new(queue.clone(), false);
    picky.take(request(8)).await.unwrap();
    let delayed = NewJob { run_at: RunAt::After(1_500), ..jobs(1).remove(0) };
    queue.enqueue(vec![delayed]).await.unwrap();
    for taker in [&mut one, &mut picky] {
        assert!(taker.take(request(8)).await.unwrap().is_empty(), "it is not due");
    }
    clock.advance(Duration::from_millis(1_500));
    assert_eq!(picky.take(request(8)).await.unwrap().len(), 1, "its time is known, and nobody rang");
    stop(system).await;
}

/// On one thread, so that all callers have asked before the first one's jobs are looked at.
#[tokio::test]
async fn jobs_enqueued_at_once_share_entries_and_each_caller_has_its_own_answer() {
    let store = MemoryStore::new();
    let system = System::builder().open_on(store.clone()).await.unwrap();
    let queue = system.queue("q").unwrap();
    queue.configure(QueueConfig { max: 150, ..QueueConfig::default() }).await.unwrap();
    assert_eq!(queue.partitions().await.unwrap(), 1);
    let before = system.store_stats().entries;
    let enqueue = |jobs| {
        let queue = queue.clone();
        async move { queue.enqueue(jobs).await }
    };
    // All have begun before the first one is answered.
    store.faults().hold();
    let mut all = Box::pin(join_all((0..100).map(|_| enqueue(jobs(1)))));
    assert!(all.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    store.faults().deliver();
    let answers = all.await;
    let mut ids: Vec<_> = answers.into_iter().map(|answer| answer.unwrap()[0].id().seq).collect();
    assert!(ids.is_sorted(), "in the order in which they came");
    ids.dedup();
    assert_eq!(ids.len(), 100);
    let entries = system.store_stats().entries - before;
    assert!(entries <= 3, "one for the first, and those that came meanwhile together: {entries}");

    // What one of them asks for in vain is refused to it alone.
    let large = vec![NewJob::new("noop", vec![0; 1024 * 1024 + 1])];
    let wishes = (0..60).map(|n| if n == 30 { large.clone() } else { jobs(1) });
    let answers = join_all(wishes.map(enqueue)).await;
    for (n, answer) in answers.iter().enumerate() {
        match answer {
            Err(QueueError::Refused(QueueRefusal::TooLarge { .. })) => assert_eq!(n, 30),
            Err(QueueError::Refused(QueueRefusal::QueueFull { size: 150, max: 150 })) => assert!(n > 50),
            Err(error) => panic!("{n}: {error}"),
            Ok(enqueued) => assert!(n != 30 && n <= 50 && enqueued.len() == 1, "{n}"),
        }
    }
    let stats = queue.stats().await.unwrap();
    assert!(stats.is_conserved() && stats.pending == 150, "{stats:?}");
    stop(system).await;
}

#[tokio::test]
async fn who_goes_away_while_it_enqueues_keeps_nobody_waiting() {
    let store = MemoryStore::new();
    let system = System::builder().open_on(store.clone()).await.unwrap();
    let queue = system.queue("q").unwrap();
    queue.configure(QueueConfig::default()).await.unwrap();
    assert_eq!(queue.partitions().await.unwrap(), 1);
    for _ in 0..50 {
        let (first, second) = (queue.clone(), queue.clone());
        let mut first = Box::pin(async move { first.enqueue(jobs(1)).await });
        let mut second = Box::pin(async move { second.enqueue(jobs(1)).await });
        // Both have begun, in this order; then the first one is gone.
        let mut nobody = Context::from_waker(Waker::noop());
        store.faults().hold();
        assert!(first.as_mut().poll(&mut nobody).is_pending());
        assert!(second.as_mut().poll(&mut nobody).is_pending());
        drop(first);
        store.faults().deliver();
        assert_eq!(second.await.unwrap().len(), 1);
    }
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taker_learns_of_more_partitions_and_of_fewer() {
    let system = System::builder().open_on(MemoryStore::new()).await.unwrap();
    let (queue, workers) = (system.queue("q").unwrap(), system.queue("q").unwrap());
    queue.configure(QueueConfig::default()).await.unwrap();
    let mut taker = Taker::new(workers, true);
    assert!(taker.take(request(8)).await.unwrap().is_empty());
    for partitions in [64, 2] {
        queue.configure(QueueConfig { partitions, ..QueueConfig::default() }).await.unwrap();
        queue.enqueue(jobs(128)).await.unwrap();
        let mut taken = 0;
        while taken < 128 {
            for work in taker.take(request(64)).await.unwrap() {
                ack(&queue, &work).await.unwrap();
                taken += 1;
            }
        }
    }
    stop(system).await;
}
