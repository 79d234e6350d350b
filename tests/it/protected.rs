//! Services outside behind their layers, in a running system.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use stanchion::{
    Activity, ActivityCtx, Failure, System,
    clock::ManualClock,
    error::Coded,
    ids::Timestamp,
    policies::{PolicyState, SavedPolicy},
    port::memory::MemoryStore,
    queue::{NewJob, QueueConfig},
    resilience::{
        breaker::{SavedState, StateName},
        limiter::LimitKey,
        protected::{
            Layer, Protected, ProtectedCtx, ProtectedErrorKind, ProtectedOptions, ProtectedSettings,
        },
        retry::RetryPolicy,
    },
    task_agent::TaskAgentConfig,
};
use tokio::sync::Notify;

use crate::kit::{crash, stop, until, until_async};

fn settings(document: &str) -> ProtectedSettings {
    serde_json::from_str(document).unwrap()
}

#[tokio::test]
async fn a_system_has_the_services_of_a_document_and_no_others() {
    let system = System::builder().open_memory().await.unwrap();
    system.services().configure(&settings(r#"{"mail": {"breaker": {}}, "search": {}}"#)).unwrap();
    let mail = system.protected("mail").unwrap();
    let sent = mail.call(&ProtectedCtx::new("agent-7", "send"), async |_| Ok::<_, Failure>("sent")).await;
    assert_eq!(sent.unwrap().value, "sent");
    assert_eq!(
        system.protected("mial").unwrap_err().to_string(),
        r#"no service is named "mial": configure it first"#
    );
    let calls: Vec<_> =
        system.services().stats().iter().map(|stats| (stats.service.to_string(), stats.calls)).collect();
    assert_eq!(calls, [("mail".to_owned(), 1), ("search".to_owned(), 0)]);
    // Other options in one step: what the breaker knows stays.
    mail.breaker().unwrap().force_open(stanchion::ids::Timestamp(0));
    system.services().configure(&settings(r#"{"mail": {"breaker": {"sliding_window_size": 7}}}"#)).unwrap();
    assert_eq!(mail.breaker().unwrap().state().name(), StateName::ForcedOpen);
    stop(system).await;
}

#[tokio::test]
async fn a_thousand_calls_in_flight_keep_no_look_waiting() {
    let system = System::builder().open_memory().await.unwrap();
    let document = r#"{"slow": {"retry": {}, "breaker": {}, "bulkhead": {"max_concurrent": 1000}}}"#;
    system.services().configure(&settings(document)).unwrap();
    let (slow, gate) = (system.protected("slow").unwrap(), Arc::new(Notify::new()));
    let calls = join_all((0..1_000).map(|_| {
        let (slow, gate) = (slow.clone(), Arc::clone(&gate));
        crate::kit::task(async move {
            let ctx = ProtectedCtx::default();
            slow.call(&ctx, async |_| {
                gate.notified().await;
                Ok::<_, Failure>(())
            })
            .await
        })
    }));
    let look = async {
        until("all calls are in flight", || slow.stats().attempts == 1_000).await;
        let asked = Instant::now();
        let stats = slow.stats();
        let took = asked.elapsed();
        // Whoever took a place before the gate was watched is woken by its own permit.
        until("all calls have ended", || {
            gate.notify_waiters();
            slow.stats().in_flight == 0
        })
        .await;
        (stats.in_flight, took)
    };
    let (ended, (in_flight, took)) = tokio::join!(calls, look);
    assert!(ended.iter().all(|ended| ended.as_ref().is_ok_and(Result::is_ok)));
    assert_eq!(in_flight, 1_000);
    assert!(took < Duration::from_millis(50), "a look took {took:?}");
    stop(system).await;
}

#[derive(Clone)]
struct Hook {
    service: Protected,
    is_up: Arc<AtomicBool>,
    sent: Arc<AtomicU32>,
    reached: Arc<AtomicU32>,
}

impl Activity for Hook {
    const NAME: &'static str = "hook";
    type Input = u32;
    type Output = u32;
    async fn run(&self, _: ActivityCtx, number: u32) -> Result<u32, Failure> {
        let ctx = ProtectedCtx::new("sender", "post");
        let sent = self.service.call(&ctx, async |_| {
            self.reached.fetch_add(1, Ordering::SeqCst);
            match self.is_up.load(Ordering::SeqCst) {
                true => Ok(self.sent.fetch_add(1, Ordering::SeqCst)),
                false => Err(Failure::retryable("down", "connection refused")),
            }
        });
        let sent = sent.await.map_err(|error| match error.kind {
            // The job waits as long as the layer says, and its attempts are not used up by calls that never were.
            ProtectedErrorKind::Refused { .. } => Failure {
                retry_after_ms: error.retry_after().map(|after| after.as_millis() as u64 + 1),
                ..Failure::retryable("refused", error.to_string())
            },
            _ => Failure::retryable("failed", error.to_string()),
        })?;
        Ok(sent.value + number)
    }
}

#[tokio::test]
async fn jobs_of_a_service_that_is_down_reach_it_by_probes_only_and_are_done_when_it_is_back() {
    let (is_up, sent, reached) = <(Arc<AtomicBool>, Arc<AtomicU32>, Arc<AtomicU32>)>::default();
    let options = r#"{"retry": {"max_attempts": 2, "initial_interval_ms": 1}, "budget": {},
        "breaker": {"minimum_number_of_calls": 3, "sliding_window_size": 3, "wait_duration_in_open_state_ms": 40,
                    "permitted_number_of_calls_in_half_open_state": 1}}"#;
    let clock = Arc::new(stanchion::clock::SystemClock);
    let service = Protected::new("hooks", serde_json::from_str(options).unwrap(), clock).unwrap();
    let hook =
        Hook { service: service.clone(), is_up: Arc::clone(&is_up), sent, reached: Arc::clone(&reached) };
    let system = System::builder().activity(hook).open_memory().await.unwrap();
    let queue = system.queue("hooks").unwrap();
    let retry = RetryPolicy {
        max_attempts: 10_000,
        initial_interval_ms: 5,
        backoff_coefficient: 1.0,
        ..RetryPolicy::default()
    };
    queue.configure(QueueConfig { retry, ..QueueConfig::default() }).await.unwrap();
    queue
        .enqueue((0..50_u32).map(|number| NewJob::with_input("", &number).unwrap()).collect())
        .await
        .unwrap();
    let config = TaskAgentConfig { concurrency: 8, ..TaskAgentConfig::new("sender", "hooks", "hook") };
    system.task_agents().start(config).await.unwrap();
    let refused = || service.stats().ended_by(Layer::Breaker);
    until("the breaker has refused a hundred calls", || refused() >= 100).await;
    let rounds = service.transitions().len() as u32;
    // Eight that were in flight together when it opened, twice each at most, then one probe a round.
    assert!(reached.load(Ordering::SeqCst) <= 16 + rounds, "{} in {rounds}", reached.load(Ordering::SeqCst));
    is_up.store(true, Ordering::SeqCst);
    until_async("all jobs are done", || async { queue.stats().await.unwrap().done == 50 }).await;
    assert_eq!(service.breaker().unwrap().state().name(), StateName::Closed);
    assert_eq!(queue.stats().await.unwrap().dead, 0);
    stop(system).await;
}

const KEPT: &str = r#"{"pay": {
    "retry": {"max_attempts": 2},
    "budget": {"ratio": 0.5, "min_retries_per_second": 1},
    "breaker": {"minimum_number_of_calls": 50, "sliding_window_size": 50, "wait_duration_in_open_state_ms": 60000},
    "limiter": {"strategy": {"sliding_window": {"limit": 30, "window_ms": 60000}}},
    "bulkhead": {"max_concurrent": 5}
}}"#;

fn at(seconds: i64) -> Timestamp {
    Timestamp(1_700_000_000_000_000 + seconds * 1_000_000)
}

/// A life of a program with the services of [`KEPT`], at this time.
async fn life(store: &MemoryStore, seconds: i64) -> (System, Protected) {
    let clock = Arc::new(ManualClock::at(at(seconds)));
    let system = System::builder().clock(clock).open_on(store.clone()).await.unwrap();
    system.durable_services().configure(&settings(KEPT)).await.unwrap();
    let pay = system.protected("pay").unwrap();
    (system, pay)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_layers_of_a_service_know_survives_a_crash() {
    let store = MemoryStore::new();
    let (system, pay) = life(&store, 0).await;
    let ctx = ProtectedCtx::new("ann", "charge");
    for _ in 0..10 {
        pay.call(&ctx, async |_| Ok::<_, Failure>(())).await.unwrap();
    }
    // Held for the other side's wait: the breaker and the limiter are not asked.
    let hurried = Failure { retry_after_ms: Some(20_000), ..Failure::retryable("busy", "later") };
    let once = ctx.not_idempotent();
    pay.call(&once, |_| std::future::ready(Err::<(), _>(hurried.clone()))).await.unwrap_err();
    system.breakers().flush().await.unwrap();
    let calls = pay.breaker().unwrap().stats(at(0)).window_calls;
    let used = pay.limiter().unwrap().status(LimitKey::new("ann", "charge"), at(0)).remaining;
    let reopened = store.reopen();
    crash(system).await;

    let (system, pay) = life(&reopened, 5).await;
    assert_eq!(pay.breaker().unwrap().stats(at(5)).window_calls, calls);
    assert_eq!(pay.limiter().unwrap().status(LimitKey::new("ann", "charge"), at(5)).remaining, used);
    assert!(used < 30 && calls >= 10);
    let fresh = system.durable_services().set("fresh", pay.options()).await.unwrap();
    let available = |service: &Protected| service.budget().unwrap().stats(at(5)).available;
    assert!(available(&pay) > available(&fresh), "what was paid in is there");
    let refused = pay.call(&ctx, async |_| Ok::<_, Failure>(())).await.unwrap_err();
    assert_eq!(refused.layer(), Some(Layer::Backoff), "{refused:?}");
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(15)), "what is left of it");
    // A change of state is stored at once, whoever made it.
    pay.breaker().unwrap().force_open(at(5));
    until_async("it is stored", || async {
        let address = system.agent::<PolicyState>("service/pay").unwrap();
        let saved = address.read(|state: &PolicyState| state.saved().cloned()).await.unwrap();
        matches!(saved, Some(SavedPolicy::Service(saved))
            if saved.breaker.as_ref().is_some_and(|breaker| breaker.state == SavedState::ForcedOpen))
    })
    .await;
    let reopened = reopened.reopen();
    crash(system).await;

    let (system, pay) = life(&reopened, 40).await;
    assert_eq!(pay.breaker().unwrap().state().name(), StateName::ForcedOpen);
    // Options are not stored: those of the code hold.
    assert_eq!(pay.options(), settings(KEPT).iter().next().unwrap().1.clone());
    // Known by now: other options change it in place.
    let other = KEPT.replace("\"max_concurrent\": 5", "\"max_concurrent\": 7");
    system.durable_services().configure(&settings(&other)).await.unwrap();
    assert_eq!(pay.bulkhead().unwrap().status().options.max_concurrent, 7);
    assert_eq!(pay.breaker().unwrap().state().name(), StateName::ForcedOpen);
    let loose = ProtectedOptions { limiter_wait_ms: Some(1), ..ProtectedOptions::default() };
    let wrong = system.durable_services().set("pay", loose).await.unwrap_err();
    assert_eq!(wrong.code(), "protected.options");
    // The control: a service that was never stored knows nothing.
    let fresh = system.durable_services().set("other", pay.options()).await.unwrap();
    assert_eq!(fresh.breaker().unwrap().state().name(), StateName::Closed);
    stop(system).await;
}
