//! Takes jobs for a worker: asks the partitions that may have some, all at once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;

use super::{
    bells::{Bell, Desk},
    command::LeaseRequest,
    config::QUEUE_PARTITIONS_MAX,
    error::QueueError,
    handle::Queue,
    names::Work,
};
use crate::ids::Timestamp;

/// Every partition is asked this often, whatever it is known to have.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Takes jobs of one queue for one worker.
#[derive(Debug)]
pub struct Taker {
    queue: Queue,
    desk: Arc<Desk>,
    /// Rings as long as somebody holds it.
    _bell: Arc<Bell>,
    /// When all partitions are asked again.
    all_at: Timestamp,
    /// When a partition may have a job by itself: a delay, a rate or a lease is over.
    next: BTreeMap<u16, Timestamp>,
}

/// Marks that were taken; those of partitions that were not asked, or may have more, are put back.
struct Marks<'a> {
    desk: &'a Desk,
    left: u64,
}

impl Drop for Marks<'_> {
    fn drop(&mut self) {
        self.desk.mark(self.left);
    }
}

pub(super) fn bit(partition: u16) -> u64 {
    const { assert!(QUEUE_PARTITIONS_MAX <= 64, "a bit for each partition") };
    1_u64.checked_shl(u32::from(partition)).unwrap_or(0)
}

/// The bits of all partitions of a queue that has so many.
fn below(count: u16) -> u64 {
    bit(count).wrapping_sub(1)
}

impl Taker {
    /// One that has not looked yet. `any_kind`: whether its worker takes jobs of any kind.
    #[must_use]
    pub fn new(queue: Queue, any_kind: bool) -> Self {
        let bell = queue.env.bells().of(&queue.name);
        Self { queue, desk: bell.desk(any_kind), _bell: bell, all_at: Timestamp(0), next: BTreeMap::new() }
    }

    /// The queue.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Leases jobs where there may be some, at most `request.n`, and reads their payloads; none: nothing was found there.
    ///
    /// # Errors
    /// [`QueueError`].
    ///
    /// # Cancel safety
    /// Dropped while it waits, jobs may be leased; they come back when the lease runs out.
    pub async fn take(&mut self, request: LeaseRequest) -> Result<Vec<Work>, QueueError> {
        let now = self.queue.now();
        let mut count = self.queue.partitions().await?;
        let mut marks = Marks { desk: &self.desk, left: self.desk.take() };
        let all = self.all_at <= now;
        if all || marks.left & !below(count) != 0 {
            // Others may have changed their number.
            count = self.queue.partitions_anew().await?;
            self.next.retain(|partition, _| *partition < count);
        }
        if all {
            marks.left = u64::MAX;
            self.all_at = now.after(LOOK_EVERY);
        }
        self.next
            .iter()
            .filter(|(_, at)| **at <= now)
            .for_each(|(partition, _)| marks.left |= bit(*partition));
        let first = u16::try_from(self.queue.next_turn() % u64::from(count.max(1))).unwrap_or(0);
        let in_turn = (first..count).chain(0..first).filter(|partition| marks.left & bit(*partition) != 0);
        let asked: Vec<u16> = in_turn.take(request.n).collect();
        marks.left &= below(count);
        let share = request.n.checked_div(asked.len()).unwrap_or(0);
        let asks = asked.into_iter().map(|partition| {
            let request = LeaseRequest { n: share, ..request.clone() };
            let queue = &self.queue;
            async move { (partition, queue.lease_in(partition, request).await) }
        });
        let (mut work, mut fault) = (Vec::new(), None);
        for (partition, leased) in join_all(asks).await {
            match leased {
                Ok(leased) => {
                    if leased.granted < share {
                        marks.left &= !bit(partition);
                    }
                    self.next.remove(&partition);
                    self.next.extend(leased.next.map(|at| (partition, at)));
                    work.extend(leased.work);
                }
                // Still marked.
                Err(error) => fault = Some(error),
            }
        }
        match fault {
            Some(error) if work.is_empty() => Err(error),
            Some(_) | None => Ok(work),
        }
    }

    /// Waits until there may be work.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn until_ready(&self) {
        let next = self.next.values().copied().chain([self.all_at]).min().unwrap_or(self.all_at);
        tokio::select! {
            () = self.desk.marked() => {}
            () = tokio::time::sleep(next.since(self.queue.now())) => {}
        }
    }
}
