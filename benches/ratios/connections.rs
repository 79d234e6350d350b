//! Two upstreams of one system: what a thousand calls of a second in flight at one of them do to the other, and to who
//! looks at the state of all.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use stanchion::{
    System,
    connect::http::{Http, HttpRequest, Upstream, UpstreamOptions},
    port::memory::MemoryStore,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{Lab, drive::quantile};

/// Calls in flight at the slow upstream.
const SLOW: u32 = 1_000;
/// How long each takes.
const SLOW_FOR: Duration = Duration::from_secs(1);
/// Callers of the quick upstream, each with a pause after each call: what is measured is not its own crowd.
const QUICK: u32 = 8;
const PAUSE: Duration = Duration::from_millis(2);
/// Pairs of cells, without and with the slow calls; the median pair counts.
const PAIRS: usize = 5;

/// Answers every request after this time.
async fn server(after: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(stream, after));
        }
    });
    address
}

async fn connection(mut stream: TcpStream, after: Duration) {
    let (mut buffer, mut seen) = ([0; 1_024], Vec::new());
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        seen.extend_from_slice(&buffer[..read]);
        if seen.ends_with(b"\r\n\r\n") {
            seen.clear();
            tokio::time::sleep(after).await;
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
                return;
            }
        }
    }
}

/// Milliseconds of the calls of the quick upstream, sorted.
async fn quick(upstream: &Upstream, seconds: f64) -> Vec<f32> {
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let lanes: Vec<_> = (0..QUICK)
        .map(|_| {
            let upstream = upstream.clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                while Instant::now() < until {
                    let began = Instant::now();
                    upstream.call(HttpRequest::get("x")).await.expect("an answer");
                    times.push(began.elapsed().as_secs_f32() * 1e3);
                    tokio::time::sleep(PAUSE).await;
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for lane in lanes {
        times.extend(lane.await.expect("a caller"));
    }
    times.sort_by(f32::total_cmp);
    times
}

/// Keeps the slow upstream full until told to stop.
fn slow(upstream: &Upstream, stop: &Arc<AtomicBool>, answered: &Arc<AtomicU64>) {
    for _ in 0..SLOW {
        let (upstream, stop, answered) = (upstream.clone(), Arc::clone(stop), Arc::clone(answered));
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                upstream.call(HttpRequest::get("x")).await.expect("an answer");
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

/// Rows `isolation_quick_p99_ratio` and `isolation_status_max_ms`.
pub async fn run(lab: &Lab) {
    if !lab.wants("isolation_quick_p99_ratio") && !lab.wants("isolation_status_max_ms") {
        return;
    }
    let system = System::builder().open_on(MemoryStore::new()).await.expect("a system");
    let http = Http::of(system.env());
    let of = |address, size| UpstreamOptions {
        size,
        max_waiting: SLOW,
        ..UpstreamOptions::of(format!("http://{address}"))
    };
    let slow_one = http.register("slow", &of(server(SLOW_FOR).await, SLOW)).expect("an upstream");
    let quick_one = http.register("quick", &of(server(Duration::ZERO).await, QUICK)).expect("an upstream");
    let seconds = lab.seconds / 2.0;
    quick(&quick_one, seconds / 5.0).await;
    let (mut pairs, mut looks) = (Vec::new(), Vec::new());
    let answered = Arc::new(AtomicU64::new(0));
    for _ in 0..PAIRS {
        let alone = quick(&quick_one, seconds).await;
        let stop = Arc::new(AtomicBool::new(false));
        slow(&slow_one, &stop, &answered);
        while slow_one.stats().pool.in_use < SLOW {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let watch = async {
            let until = Instant::now() + Duration::from_secs_f64(seconds);
            while Instant::now() < until {
                let began = Instant::now();
                assert!(!system.health().is_empty() && !http.stats().is_empty());
                looks.push(began.elapsed().as_secs_f32() * 1e3);
                tokio::time::sleep(PAUSE).await;
            }
        };
        let (beside, ()) = tokio::join!(quick(&quick_one, seconds), watch);
        stop.store(true, Ordering::Relaxed);
        while slow_one.stats().pool.in_use > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        pairs.push((
            quantile(&alone, 0.99),
            quantile(&beside, 0.99),
            quantile(&alone, 0.5),
            quantile(&beside, 0.5),
        ));
    }
    pairs.sort_by(|one, other| (one.1 / one.0).total_cmp(&(other.1 / other.0)));
    let (alone, beside, alone_p50, beside_p50) = pairs[PAIRS / 2];
    let raw = [
        ("alone_p50_ms", alone_p50),
        ("alone_p99_ms", alone),
        ("beside_p50_ms", beside_p50),
        ("beside_p99_ms", beside),
        ("slow_answered", answered.load(Ordering::Relaxed) as f64),
    ];
    lab.report.at_most("isolation_quick_p99_ratio", beside / alone, 2.0, &raw);
    looks.sort_by(f32::total_cmp);
    let raw = [("p50_ms", quantile(&looks, 0.5)), ("p99_ms", quantile(&looks, 0.99))];
    lab.report.at_most("isolation_status_max_ms", quantile(&looks, 1.0), 10.0, &raw);
    drop((slow_one, quick_one, http));
    let _ = system.stop(Duration::from_secs(5)).await;
}
