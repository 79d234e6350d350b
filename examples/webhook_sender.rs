//! Sends web hooks: jobs in a durable queue, a task agent that does them, every call behind its layers, and dead
//! letters for what no attempt mends.
//!
//! The receiver is this process's own: it is out of order for the first requests, and never knows `/gone`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use stanchion::{
    Activity, ActivityCtx, Failure, System,
    adapter::{Bounded, CallCtx},
    clock::SystemClock,
    connect::http::{Http, HttpAdapter, HttpRequest, UpstreamOptions},
    queue::{DeadFilter, NewJob, QueueConfig},
    resilience::{
        protected::{Protected, ProtectedCtx, ProtectedErrorKind},
        retry::{RetryCause, RetryPolicy},
    },
    task_agent::TaskAgentConfig,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

const OPTIONS: &str = r#"{
    "timeout": {"attempt_ms": 2000},
    "retry": {"max_attempts": 2, "initial_interval_ms": 5},
    "budget": {},
    "breaker": {"sliding_window_size": 5, "minimum_number_of_calls": 5, "wait_duration_in_open_state_ms": 100,
                "permitted_number_of_calls_in_half_open_state": 1},
    "bulkhead": {"max_concurrent": 4}
}"#;

/// One web hook.
#[derive(Clone, Serialize, Deserialize)]
struct Hook {
    path: String,
    number: u32,
}

/// Sends one. The job's id is the idempotency key: the receiver sees the same one in every attempt.
#[derive(Clone)]
struct Send {
    service: Protected,
    receiver: Bounded<HttpAdapter>,
}

impl Activity for Send {
    const NAME: &'static str = "send_hook";
    type Input = Hook;
    type Output = u16;

    async fn run(&self, ctx: ActivityCtx, hook: Hook) -> Result<u16, Failure> {
        let request = HttpRequest::post(&hook.path, hook.number.to_string());
        let call = CallCtx { idempotency_key: Some(ctx.idempotency_key), ..CallCtx::default() };
        let caller = ProtectedCtx::new("hooks", "post");
        match self.service.call_adapter(&caller, &self.receiver, &request, &call).await {
            Ok(answer) => Ok(answer.value.status.as_u16()),
            // Nothing was sent: the job waits as long as the layer says.
            Err(error) if matches!(error.kind, ProtectedErrorKind::Refused { .. }) => Err(Failure {
                retry_after_ms: error
                    .retry_after()
                    .map(|after| u64::try_from(after.as_millis()).unwrap_or(0) + 1),
                ..Failure::retryable("refused", error.to_string())
            }),
            Err(error) if error.may_retry() => Err(Failure::retryable("receiver", error.to_string())),
            Err(error) => Err(Failure::permanent("receiver", error.to_string())),
        }
    }
}

/// The other side.
#[derive(Default)]
struct Receiver {
    asked: AtomicU32,
    received: AtomicU32,
}

impl Receiver {
    fn answer(&self, head: &str) -> &'static str {
        let asked = self.asked.fetch_add(1, SeqCst);
        if head.starts_with("POST /gone") {
            return "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
        }
        if asked < 10 {
            return "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        }
        self.received.fetch_add(1, SeqCst);
        "HTTP/1.1 204 No Content\r\n\r\n"
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(Arc::clone(&self).connection(stream));
        }
    }

    async fn connection(self: Arc<Self>, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            let head = String::from_utf8_lossy(&head).to_lowercase().replacen("post", "POST", 1);
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
            stream.read_exact(&mut vec![0; length]).await?;
            stream.write_all(self.answer(&head).as_bytes()).await?;
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let receiver = Arc::new(Receiver::default());
    let mut server = JoinSet::new();
    server.spawn(Arc::clone(&receiver).serve(listener));

    let scope = stanchion::task::TaskScope::root("webhook_sender");
    let http = Http::new(&scope);
    let upstream = http.register("receiver", &UpstreamOptions::of(&url))?;
    let adapter = Bounded::new(HttpAdapter::new(upstream, Arc::new(SystemClock)), Arc::new(SystemClock))?;
    let service = Protected::new("receiver", serde_json::from_str(OPTIONS)?, Arc::new(SystemClock))?;
    let send = Send { service: service.clone(), receiver: adapter };

    let system = System::builder().activity(send).open_memory().await?;
    let queue = system.queue("hooks")?;
    let retry = RetryPolicy { max_attempts: 1_000, maximum_interval_ms: Some(100), ..RetryPolicy::fixed(20) };
    queue.configure(QueueConfig { retry, ..QueueConfig::default() }).await?;
    let hooks =
        (0..20).map(|number| Hook { path: (if number == 7 { "gone" } else { "hook" }).to_owned(), number });
    let jobs: Result<Vec<_>, _> = hooks.map(|hook| NewJob::with_input("hook", &hook)).collect();
    // Answered when they are stored: from here on each is sent, whatever happens.
    let enqueued = queue.enqueue(jobs?).await?;
    assert_eq!(enqueued.len(), 20);
    let config = TaskAgentConfig { concurrency: 4, ..TaskAgentConfig::new("sender", "hooks", "send_hook") };
    system.task_agents().start(config).await?;
    loop {
        let stats = queue.stats().await?;
        if stats.live() == 0 {
            assert_eq!((stats.done, stats.dead), (19, 1));
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{} hooks received, one is a dead letter", receiver.received.load(SeqCst));
    assert_eq!(receiver.received.load(SeqCst), 19);

    // While the receiver was out of order it was asked by probes only, not by twenty jobs with all their retries.
    let opened = service.transitions().len();
    assert!(opened > 0 && receiver.asked.load(SeqCst) < 60, "{}", receiver.asked.load(SeqCst));
    println!("while it was out of order the breaker kept the others away");

    // The dead letter is looked at, and purged.
    let purged = queue.dead_purge(&DeadFilter { all: true, ..DeadFilter::default() }).await?;
    assert_eq!((purged, queue.stats().await?.purged), (1, 1));
    let _ = system.stop(Duration::from_secs(1)).await?;
    Ok(())
}
