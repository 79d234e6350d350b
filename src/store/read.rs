//! Reader threads: disk reads never block an asynchronous worker.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use futures_util::future::BoxFuture;
use stanchion_actors::store::StoreError;
use stanchion_sync::{Drain, HandOff, Refused};
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// The readers of one store.
pub(crate) struct Readers {
    queues: Vec<Arc<HandOff<Job>>>,
    next: AtomicUsize,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Readers {
    /// Starts `threads` readers with a bounded queue each.
    pub(crate) fn start(name: &str, threads: usize, queue_items: usize) -> std::io::Result<Self> {
        let (mut queues, mut handles) = (Vec::new(), Vec::new());
        for _ in 0..threads.max(1) {
            let queue = Arc::new(HandOff::<Job>::new(queue_items, usize::MAX));
            let of_thread = queue.clone();
            let builder = std::thread::Builder::new().name(name.into());
            handles.push(builder.spawn(move || serve(&of_thread))?);
            queues.push(queue);
        }
        Ok(Self { queues, next: AtomicUsize::new(0), threads: Mutex::new(handles) })
    }

    /// Runs `read` on a reader thread.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (answer, waiting) = oneshot::channel();
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.queues.len().max(1);
        let job: Job = Box::new(move || drop(answer.send(read())));
        let refused = self.queues.get(at).map(|queue| queue.push(job, 0));
        Box::pin(async move {
            match refused {
                Some(Ok(())) => {}
                Some(Err(Refused::Full(_))) => {
                    return Err(StoreError::NotApplied("the read queue is full".into()));
                }
                Some(Err(Refused::Closed(_))) | None => {
                    return Err(StoreError::Fatal("the store is closed".into()));
                }
            }
            waiting.await.unwrap_or_else(|_| Err(StoreError::NotApplied("the read panicked".into())))
        })
    }

    /// Finishes what is queued and ends the threads.
    pub(crate) fn stop(&self) {
        for queue in &self.queues {
            queue.close();
        }
        let handles = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for handle in handles {
            let _ = handle.join();
        }
    }
}

fn serve(queue: &HandOff<Job>) {
    let mut jobs = Vec::new();
    while queue.drain(1, usize::MAX, &mut jobs) != Drain::Closed {
        for job in jobs.drain(..) {
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a read of the store panicked");
            }
        }
    }
}
