//! Extends the leases of jobs that run, and learns which of them to stop.

use std::{collections::BTreeMap, sync::PoisonError, time::Duration};

use super::{engine::Engine, shared::Stop};
use crate::queue::{Extend, JobId, QUEUE_BATCH_MAX, QueueRefusal, Settled};

impl Engine {
    /// Extends at a third of the lease, and at once when somebody cancels a job; as long as it is polled.
    pub(super) async fn extend(&self) {
        let every = Duration::from_millis(self.shared.config.lease_ms / 3);
        let mut cancellations = self.bell.cancellations();
        loop {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                _ = cancellations.changed() => {}
            }
            for (partition, extends) in self.leases() {
                for chunk in extends.chunks(QUEUE_BATCH_MAX) {
                    self.extend_some(partition, chunk).await;
                }
            }
        }
    }

    fn leases(&self) -> BTreeMap<u16, Vec<Extend>> {
        let mut leases: BTreeMap<u16, Vec<Extend>> = BTreeMap::new();
        for (id, job) in self.shared.running().iter() {
            let note = job.progress.lock().unwrap_or_else(PoisonError::into_inner).note.clone();
            let by_ms = self.shared.config.lease_ms;
            let extend = Extend { job: id.seq, fence: job.fence, by_ms, progress: None, note };
            leases.entry(id.partition).or_default().push(extend);
        }
        leases
    }

    async fn extend_some(&self, partition: u16, extends: &[Extend]) {
        match self.queue.extend(partition, extends.to_vec()).await {
            Ok(extended) => {
                for (extend, extended) in extends.iter().zip(extended) {
                    let id = JobId { partition, seq: extend.job };
                    match extended {
                        Ok(Settled::Leased { cancel: true, .. }) => self.shared.stop(id, Stop::Cancelled),
                        Err(QueueRefusal::LeaseLost) => self.shared.stop(id, Stop::Lost),
                        Ok(_) | Err(_) => {}
                    }
                }
            }
            // The next turn comes before the leases run out.
            Err(error) => self.vital.degraded(error.to_string()),
        }
    }
}
