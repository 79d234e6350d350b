//! A client of an API that allows ten requests in half a second and asks for patience when there are more.
//!
//! The server is this process's own. It counts what it had to refuse: with the limit in front, nothing.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use stanchion::{
    System,
    adapter::{Bounded, CallCtx},
    clock::SystemClock,
    connect::http::{Http, HttpAdapter, HttpRequest, UpstreamOptions},
    resilience::protected::{Layer, ProtectedCtx, ProtectedSettings},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

const SERVICES: &str = r#"{
    "api": {
        "timeout": {"total_ms": 20000, "attempt_ms": 2000},
        "retry": {"max_attempts": 4, "initial_interval_ms": 20, "jitter": "full"},
        "budget": {"ratio": 0.2},
        "breaker": {"sliding_window_size": 20, "minimum_number_of_calls": 10},
        "limiter": {"strategy": {"sliding_window": {"limit": 8, "window_ms": 600}}},
        "limiter_wait_ms": 15000,
        "bulkhead": {"max_concurrent": 4}
    }
}"#;

/// The other side: what it was asked, and whether it is having a bad moment.
#[derive(Default)]
struct Api {
    asked: Mutex<Vec<Instant>>,
    refused: AtomicU32,
    is_busy: AtomicBool,
}

impl Api {
    fn answer(&self) -> &'static str {
        let mut asked = self.asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = Instant::now();
        let recent = asked.iter().filter(|at| now.duration_since(**at) < Duration::from_millis(500)).count();
        if recent >= 10 || self.is_busy.swap(false, SeqCst) {
            self.refused.fetch_add(1, SeqCst);
            return "HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";
        }
        asked.push(now);
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(Arc::clone(&self).connection(stream));
        }
    }

    /// Requests without a body, one after another.
    async fn connection(self: Arc<Self>, mut stream: TcpStream) {
        let mut head = Vec::new();
        while let Ok(byte) = stream.read_u8().await {
            head.push(byte);
            if head.ends_with(b"\r\n\r\n") {
                head.clear();
                if stream.write_all(self.answer().as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let api = Arc::new(Api::default());
    let mut server = JoinSet::new();
    server.spawn(Arc::clone(&api).serve(listener));

    let system = System::builder().open_memory().await?;
    system.services().configure(&serde_json::from_str::<ProtectedSettings>(SERVICES)?)?;
    let service = system.protected("api")?;
    let http = Http::new(system.env().tasks());
    let upstream = http.register("api", &UpstreamOptions::of(&url))?;
    let adapter = Bounded::new(HttpAdapter::new(upstream, Arc::new(SystemClock)), Arc::new(SystemClock))?;

    let (ctx, request, call) =
        (ProtectedCtx::new("example", "list"), HttpRequest::get("items"), CallCtx::default());
    let ask = || service.call_adapter(&ctx, &adapter, &request, &call);

    // Thirty at once: the limiter spreads them, and the other side never has to refuse one.
    let began = Instant::now();
    let answers = join_all((0..30).map(|_| ask())).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer.attempts == 1)));
    assert!(began.elapsed() >= Duration::from_millis(1_500), "30 requests, 8 in 600 ms");
    assert_eq!(api.refused.load(SeqCst), 0);
    println!("30 answers, none refused");

    // A bad moment: one answer asks for a second of patience, and everybody has it.
    tokio::time::sleep(Duration::from_millis(700)).await;
    api.is_busy.store(true, SeqCst);
    let (patient, others) = tokio::join!(ask(), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        ask().await
    });
    assert_eq!(patient?.attempts, 2);
    let Err(refused) = others else { return Err("the other caller was let through".into()) };
    assert_eq!((refused.layer(), refused.attempts), (Some(Layer::Backoff), 0));
    let after = refused.retry_after().unwrap_or_default();
    assert!(after <= Duration::from_millis(750), "{after:?}");
    println!("the other caller was told to wait, and nobody asked meanwhile");

    let stats = service.stats();
    assert_eq!((stats.calls, stats.attempts, api.refused.load(SeqCst)), (32, 32, 1));
    println!("{} calls, {} attempts", stats.calls, stats.attempts);
    let _ = system.stop(Duration::from_secs(1)).await?;
    Ok(())
}
