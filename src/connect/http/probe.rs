//! The tasks of an upstream: one asks how it fares, one closes what is idle for too long.

use std::{
    sync::{Arc, Weak, atomic::AtomicBool},
    time::Duration,
};

use bytes::Bytes;
use hyper::{HeaderMap, Method};
use stanchion_actors::task::{SpawnError, TaskScope};
use tokio::time::{Instant, sleep, timeout};

use super::{
    options::ProbeOptions,
    path::within,
    upstream::{Shared, UpstreamHealth},
};

/// Longest and shortest time between two looks at idle connections.
const REAP_EVERY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(10));

/// Starts the tasks. They end with the scope, and when the upstream is dropped.
pub(super) fn start(shared: &Arc<Shared>, scope: &TaskScope) -> Result<(), SpawnError> {
    let pool = shared.options.pool;
    let age = [pool.idle_timeout, pool.max_lifetime].into_iter().flatten().min();
    let every = age.map_or(REAP_EVERY.1, |age| (age / 4).clamp(REAP_EVERY.0, REAP_EVERY.1));
    scope.spawn("http.reaper", reap(Arc::downgrade(shared), every))?;
    if let Some(probe) = shared.options.probe.clone() {
        scope.spawn("http.probe", watch(Arc::downgrade(shared), probe))?;
    }
    Ok(())
}

async fn reap(shared: Weak<Shared>, every: Duration) {
    loop {
        sleep(every).await;
        let Some(shared) = shared.upgrade() else { return };
        shared.pool.reap();
        shared.counts.gauge(&shared.pool.stats());
    }
}

async fn watch(shared: Weak<Shared>, options: ProbeOptions) {
    let interval = Duration::from_millis(options.interval_ms);
    let within = Duration::from_millis(options.timeout_ms.min(options.interval_ms));
    loop {
        let Some(upstream) = shared.upgrade() else { return };
        upstream.probe(&options.path, within).await;
        // Found down, only time helps; found up, a request that fails is heard at once.
        let up = matches!(*upstream.health.borrow(), UpstreamHealth::Up);
        let suspicion = async {
            if up {
                upstream.suspicion.notified().await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        // Holds the upstream for one interval at most, and its scope ends this task before that.
        tokio::select! {
            () = sleep(interval) => {}
            () = suspicion => {}
        }
    }
}

impl Shared {
    /// Asks once, twice if an idle connection did not answer, and tells what became of it.
    async fn probe(&self, path: &str, within_time: Duration) {
        self.pool.reap();
        let first = self.ask(path, within_time).await;
        let finding = match first {
            Finding::Bad(_) => {
                // Connections that were idle may be dead while the upstream lives.
                self.pool.evict_idle();
                self.ask(path, within_time).await
            }
            Finding::Good | Finding::Busy => first,
        };
        match finding {
            Finding::Good => self.tell(UpstreamHealth::Up),
            Finding::Bad(cause) => {
                self.counts.probe_failed();
                self.tell(UpstreamHealth::Down { cause: Arc::from(cause), since: Instant::now() });
                self.pool.evict_idle();
            }
            // Requests occupy every connection: their ends say how it fares.
            Finding::Busy => {}
        }
    }

    fn tell(&self, health: UpstreamHealth) {
        let was_up = matches!(*self.health.borrow(), UpstreamHealth::Up);
        match (&health, was_up) {
            (UpstreamHealth::Up, true) | (UpstreamHealth::Down { .. }, false) => return,
            (UpstreamHealth::Up, false) => tracing::info!(upstream = %self.name, "upstream is up"),
            (UpstreamHealth::Down { cause, .. }, true) => {
                tracing::warn!(upstream = %self.name, %cause, "upstream is down");
            }
        }
        self.counts.tell(&health);
        self.health.send_replace(health);
    }

    async fn ask(&self, path: &str, within_time: Duration) -> Finding {
        let work = async {
            let Ok(url) = within(&self.options.base, path) else { return Finding::Busy };
            let conn = match self.spare().await {
                Ok(Some(conn)) => conn,
                Ok(None) => return Finding::Busy,
                Err(error) => return Finding::Bad(error.to_string()),
            };
            let request = self.request(Method::GET, &url, HeaderMap::new(), Bytes::new());
            match self.exchange(conn, request, &AtomicBool::new(false)).await {
                Ok(response) if response.status.is_server_error() => {
                    Finding::Bad(format!("status {}", response.status.as_u16()))
                }
                Ok(_) => Finding::Good,
                Err(error) => Finding::Bad(error.to_string()),
            }
        };
        let found = timeout(within_time, work).await;
        found.unwrap_or_else(|_| Finding::Bad(format!("no answer to a probe within {within_time:?}")))
    }
}

enum Finding {
    Good,
    Busy,
    Bad(String),
}
