//! One job, from its lease to what is told of it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;

use super::{
    engine::{Engine, Listed},
    settle::{Ended, Verdict},
    shared::{Stop, Task},
};
use crate::{
    entity::{ActivityCtx, Failure, Progress, run_attempt},
    ids::Cause,
    queue::Work,
    resilience::{
        breaker::{BreakerOpen, BreakerPermit, FailureClass, Outcome},
        retry::RetryCause,
    },
    task::CancelToken,
};

/// Code of jobs given back because their breaker is open.
pub const JOB_BREAKER_OPEN: &str = "job.breaker_open";
/// Code of jobs given back because their agent ends.
pub const JOB_DRAINED: &str = "job.drained";
/// How long a job waits while the probes of its breaker run.
const WHILE_PROBED: Duration = Duration::from_millis(200);

impl Engine {
    /// Runs the job to its end.
    pub(super) async fn run(
        &self,
        work: Work,
        listed: Listed,
        cancel: CancelToken,
        progress: Arc<Mutex<Progress>>,
    ) -> Ended {
        let fence = work.lease.fence;
        let id = listed.id;
        let Some(task) = self.shared.task_of(&work.lease.kind) else {
            let message = format!("agent {} does no jobs of kind {:?}", self.shared.name(), work.lease.kind);
            let verdict = Verdict::failed(Failure::permanent(Failure::UNREGISTERED, message), None);
            return Ended { listed, fence, verdict };
        };
        let Some(activity) = self.activities.get(&task.settings.activity) else {
            let message = format!("no activity {:?} is registered", task.settings.activity);
            let verdict = Verdict::failed(Failure::permanent(Failure::UNREGISTERED, message), None);
            return Ended { listed, fence, verdict };
        };
        let began = self.env.now();
        let permit = match task.breaker.as_ref().map(|breaker| breaker.acquire(began)).transpose() {
            Ok(permit) => permit,
            Err(open) => return Ended { listed, fence, verdict: given_back(&open) },
        };
        let ctx = ActivityCtx {
            idempotency_key: work.idempotency_key,
            attempt: work.lease.attempt,
            cancel,
            cause: Cause::default(),
            progress,
        };
        let timeout_ms = shorter(task.settings.timeout_ms, work.lease.timeout_ms);
        let result = run_attempt(activity.as_ref(), ctx, work.payload, timeout_ms).await;
        if let Some(permit) = permit {
            self.tell_breaker(permit, &result, began);
        }
        let stopped = self.shared.running().get(&id).and_then(|job| job.stopped);
        if let Some(result) = &result {
            listed.judged(result.is_ok(), self.env.now());
            self.judge(result.is_ok()).await;
        }
        Ended { listed, fence, verdict: verdict(result, stopped, task) }
    }

    fn tell_breaker(
        &self,
        permit: BreakerPermit,
        result: &Option<Result<Bytes, Failure>>,
        began: crate::ids::Timestamp,
    ) {
        let outcome = match result {
            Some(Ok(_)) => Outcome::Success,
            Some(Err(failure)) if failure.code != Failure::CANCELLED => {
                Outcome::Failure(failure.class().unwrap_or(FailureClass::Application))
            }
            Some(Err(_)) | None => Outcome::Ignored,
        };
        let now = self.env.now();
        permit.finish_with(outcome, now.since(began), self.env.next_seed(), now);
    }
}

fn given_back(open: &BreakerOpen) -> Verdict {
    let after = open.retry_after.unwrap_or(WHILE_PROBED);
    let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    Verdict::Released { code: JOB_BREAKER_OPEN, after_ms }
}

fn verdict(result: Option<Result<Bytes, Failure>>, stopped: Option<Stop>, task: &Task) -> Verdict {
    match (result, stopped) {
        (_, Some(Stop::Lost)) => Verdict::Nothing,
        (Some(Ok(output)), _) => Verdict::Done(output),
        (Some(Err(failure)), None) => Verdict::failed(failure, task.settings.retry.clone()),
        (_, Some(Stop::Drained)) | (None, None) => Verdict::Released { code: JOB_DRAINED, after_ms: 0 },
        (_, Some(Stop::Cancelled)) => {
            let failure = Failure::permanent(Failure::CANCELLED, "cancelled while it ran");
            Verdict::failed(failure, None)
        }
    }
}

/// The shorter of two limits, of which 0 is none.
fn shorter(one: u64, other: u64) -> u64 {
    match (one, other) {
        (0, limit) | (limit, 0) => limit,
        (one, other) => one.min(other),
    }
}
