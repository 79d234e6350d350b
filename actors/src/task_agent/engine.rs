//! The work of one life of a task agent: takes jobs, runs them, tells the queue.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{mpsc, watch};

use super::{
    pool::PoolShared,
    record::{Pause, TaskAgentCommand, TaskAgentState},
    settle::Ended,
    shared::{Control, Running, Shared},
};
use crate::{
    agent::Address,
    entity::{Activities, Progress},
    env::Env,
    health::Vital,
    ids::Timestamp,
    queue::{Bell, JobId, LeaseRequest, QUEUE_BATCH_MAX, Queue, Taker, Work},
    resilience::breaker::{Breaker, BreakerState},
    task::{CancelToken, Places, TaskPlace, TaskScope},
};

/// A held agent looks this often, whatever wakes it.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What it waits for is due, and something else is in the way: it looks this soon.
const LOOK_SOON: Duration = Duration::from_millis(20);
/// Pause after the queue did not answer.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// What one life of a task agent works with.
pub(super) struct Engine {
    pub(super) env: Arc<Env>,
    pub(super) shared: Arc<Shared>,
    pub(super) activities: Arc<Activities>,
    pub(super) queue: Queue,
    pub(super) bell: Arc<Bell>,
    pub(super) jobs: TaskScope,
    pub(super) places: Places,
    pub(super) ended: mpsc::Sender<Ended>,
    pub(super) record: Address<TaskAgentState>,
    pub(super) vital: Vital,
}

/// A job in the list of those that run; dropped, it is no longer there.
pub(super) struct Listed {
    shared: Arc<Shared>,
    pub(super) id: JobId,
    fence: u64,
    began: Timestamp,
    env: Arc<Env>,
    /// Whether its attempt succeeded: its pool learns it when it leaves the list.
    succeeded: AtomicBool,
}

impl Listed {
    /// Its attempt has succeeded.
    pub(super) fn succeeded(&self) {
        self.succeeded.store(true, Ordering::Relaxed);
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut running = self.shared.running();
        // The job may be back under another lease already.
        if running.get(&self.id).is_some_and(|job| job.fence == self.fence) {
            running.remove(&self.id);
        }
        drop(running);
        if let Some(pool) = self.shared.pool() {
            let now = self.env.now();
            pool.finished(
                self.shared.name(),
                now.since(self.began),
                self.succeeded.load(Ordering::Relaxed),
                now,
            );
            pool.has_room();
        }
    }
}

/// What may be leased now.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Nothing { until: Option<Timestamp> },
    Jobs { most: usize, kinds: Vec<Arc<str>> },
}

/// What the breakers let through; no kinds: any.
enum Kinds {
    None { until: Option<Timestamp> },
    Of { kinds: Vec<Arc<str>>, probing: bool },
}

impl Engine {
    /// Takes jobs as long as it is polled.
    pub(super) async fn work(self: Arc<Self>) {
        self.begin().await;
        if let Some(pool) = self.shared.pool() {
            return self.work_for(&pool).await;
        }
        let mut control = self.shared.control.subscribe();
        let any_kind = self.shared.tasks.iter().any(|task| task.settings.kind.is_none());
        let mut taker = Taker::new(self.queue.clone(), any_kind);
        loop {
            let place = self.places.take().await;
            let seen = control.borrow_and_update().clone();
            match self.wish(&seen, self.env.now()) {
                Wish::Nothing { until } => {
                    drop(place);
                    self.wait_quietly(&mut control, until).await;
                }
                Wish::Jobs { most, kinds } => self.take(place, most, kinds, &mut taker, &mut control).await,
            }
        }
    }

    /// Takes the jobs that its pool gives it. Those that a former life left are still leased; one whose lease has run out
    /// meanwhile is stopped when it is extended.
    async fn work_for(self: &Arc<Self>, pool: &PoolShared) {
        let Some(given) = pool.given_to(self.shared.name()) else { return };
        let mut given = given.lock().await;
        while let Some(work) = given.recv().await {
            let place = self.places.take().await;
            self.start(work, place);
        }
    }

    /// Learns whether it is paused, and takes back what an earlier life of the process holds.
    async fn begin(&self) {
        let name = &self.shared.config.name;
        let life = u64::try_from(self.env.began().0).unwrap_or(0);
        loop {
            let begun = async {
                // Read and put in force like a change: one that is acknowledged meanwhile stays.
                let one = self.shared.changing.lock().await;
                let pause = self.record.read(|state| state.pause().cloned()).await;
                let pause = pause.map_err(|error| error.to_string())?;
                self.shared.control.send_modify(|control| control.pause = pause);
                drop(one);
                self.queue.release_worker(name, life).await.map_err(|error| error.to_string())
            };
            match begun.await {
                Ok(_released) => return self.vital.up(),
                Err(why) => self.vital.degraded(why),
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }

    fn wish(&self, control: &Control, now: Timestamp) -> Wish {
        if control.draining {
            return Wish::Nothing { until: None };
        }
        let mut most = self.places.free().saturating_add(1).min(QUEUE_BATCH_MAX);
        if let Some(pause) = &control.pause {
            let Some(probe_at) = pause.probe_at else { return Wish::Nothing { until: None } };
            if probe_at > now || !self.shared.running().is_empty() {
                return Wish::Nothing { until: Some(probe_at) };
            }
            most = 1;
        }
        match self.kinds(now) {
            Kinds::None { until } => Wish::Nothing { until },
            Kinds::Of { kinds, probing } => Wish::Jobs { most: if probing { 1 } else { most }, kinds },
        }
    }

    /// Which kinds of jobs the breakers let through.
    fn kinds(&self, now: Timestamp) -> Kinds {
        let (mut kinds, mut any, mut probing, mut opens) = (Vec::new(), false, false, None);
        for task in &self.shared.tasks {
            match task.breaker.as_ref().map(Breaker::state) {
                Some(BreakerState::ForcedOpen) => continue,
                Some(BreakerState::Open { until }) if until > now => {
                    opens = opens.into_iter().chain([until]).min();
                    continue;
                }
                Some(BreakerState::Open { .. } | BreakerState::HalfOpen { .. }) => probing = true,
                Some(BreakerState::Closed | BreakerState::Disabled) | None => {}
            }
            match &task.settings.kind {
                Some(kind) => kinds.push(Arc::from(kind.as_str())),
                None => any = true,
            }
        }
        match any {
            // Jobs of kinds whose breaker is open may come, too: they are given back.
            true => Kinds::Of { kinds: Vec::new(), probing },
            false if kinds.is_empty() => Kinds::None { until: opens },
            false => Kinds::Of { kinds, probing },
        }
    }

    /// Leases jobs and starts them, or waits for some.
    async fn take(
        self: &Arc<Self>,
        place: TaskPlace,
        most: usize,
        kinds: Vec<Arc<str>>,
        taker: &mut Taker,
        control: &mut watch::Receiver<Control>,
    ) {
        let request = LeaseRequest {
            worker: Arc::from(self.shared.config.name.as_str()),
            incarnation: u64::try_from(self.env.began().0).unwrap_or(0),
            kinds,
            n: most,
            lease_ms: self.shared.config.lease_ms,
        };
        let taken = match taker.take(request).await {
            Ok(taken) => taken,
            Err(error) => {
                self.vital.degraded(error.to_string());
                return tokio::time::sleep(TRY_AGAIN).await;
            }
        };
        self.vital.up();
        if taken.is_empty() {
            drop(place);
            tokio::select! {
                () = taker.until_ready() => {}
                _ = control.changed() => {}
            }
            return;
        }
        let mut place = Some(place);
        for work in taken {
            match place.take().or_else(|| self.places.try_take()) {
                Some(place) => self.start(work, place),
                // Only a lease of more than was asked for gets here: it runs out.
                None => tracing::warn!(job = %work.id, "no place for a leased job"),
            }
        }
    }

    pub(super) fn start(self: &Arc<Self>, work: Work, place: TaskPlace) {
        let cancel = CancelToken::new();
        let job = Running {
            kind: Arc::clone(&work.lease.kind),
            fence: work.lease.fence,
            attempt: work.lease.attempt,
            since: self.env.now(),
            cancel: cancel.clone(),
            progress: Arc::default(),
            stopped: None,
        };
        let progress: Arc<std::sync::Mutex<Progress>> = Arc::clone(&job.progress);
        self.shared.running().insert(work.id, job);
        let listed = Listed {
            shared: Arc::clone(&self.shared),
            id: work.id,
            fence: work.lease.fence,
            began: self.env.now(),
            env: Arc::clone(&self.env),
            succeeded: AtomicBool::new(false),
        };
        let engine = Arc::clone(self);
        let spawned = self.jobs.spawn("job", async move {
            let ended = engine.run(work, listed, cancel, progress).await;
            drop(place);
            // The one that settles ends with this life of the agent, as this task does.
            let _ = engine.ended.send(ended).await;
        });
        if let Err(error) = spawned {
            tracing::debug!(%error, "job not started: its lease runs out");
        }
    }

    /// Waits without listening for work, so that another agent hears of it.
    async fn wait_quietly(&self, control: &mut watch::Receiver<Control>, until: Option<Timestamp>) {
        let pause = until.map_or(LOOK_EVERY, |at| at.since(self.env.now()).clamp(LOOK_SOON, LOOK_EVERY));
        tokio::select! {
            _ = control.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }

    /// An attempt succeeded, or failed: after a run of failures the agent pauses, after a success it goes on.
    pub(super) async fn judge(&self, succeeded: bool) {
        use Ordering::Relaxed;
        let in_row = if succeeded { 0 } else { self.shared.tallies.in_row.load(Relaxed).saturating_add(1) };
        self.shared.tallies.in_row.store(in_row, Relaxed);
        let Some(auto) = self.shared.config.auto_pause else { return };
        let paused_itself =
            self.shared.control.borrow().pause.as_ref().is_some_and(|pause| pause.probe_at.is_some());
        if succeeded && paused_itself {
            self.change(TaskAgentCommand::Recovered).await;
        } else if !succeeded && in_row >= auto.after_failures {
            let reason = format!("{in_row} failures in a row");
            let cool_down_ms = auto.cool_down_ms;
            self.change(TaskAgentCommand::AutoPause { reason, cool_down_ms }).await;
        }
    }

    async fn change(&self, command: TaskAgentCommand) {
        match change(&self.shared, &self.record, command).await {
            Ok(_pause) => {}
            Err(error) => self.vital.degraded(error.to_string()),
        }
    }
}

/// Changes the pause: on disk, then in force.
pub(super) async fn change(
    shared: &Shared,
    record: &Address<TaskAgentState>,
    command: TaskAgentCommand,
) -> Result<Option<Pause>, crate::error::CallError<super::record::TaskAgentRejection>> {
    let _one = shared.changing.lock().await;
    let pause = record.call(command).await?;
    shared.control.send_modify(|control| control.pause.clone_from(&pause));
    Ok(pause)
}
