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
        breaker::{BreakerOpen, BreakerPermit, FORCED_OPEN_LOOK, FailureClass, Outcome},
        retry::RetryCause,
    },
    task::CancelToken,
};

/// Code of jobs given back because their breaker is open.
pub const JOB_BREAKER_OPEN: &str = "job.breaker_open";
/// Shortest wait for a breaker, whatever the activity asks for: giving a job back is an entry.
const BREAKER_WAIT_MIN: Duration = Duration::from_millis(10);
/// Code of jobs given back because their agent ends.
pub const JOB_DRAINED: &str = "job.drained";

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
        if matches!(result, Some(Ok(_))) {
            listed.succeeded();
        }
        let refused = |result: &&Result<Bytes, Failure>| result.as_ref().is_err_and(is_refused);
        if let Some(result) = result.as_ref().filter(|result| !refused(result)) {
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
            Some(Err(failure)) if is_refused(failure) => Outcome::Ignored,
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
    behind_breaker(&Failure::from(open.clone()))
}

/// Whether a breaker did not let the activity make its call: no attempt that failed.
fn is_refused(failure: &Failure) -> bool {
    failure.code == BreakerOpen::CODE && failure.retryable
}

fn behind_breaker(failure: &Failure) -> Verdict {
    let wait = failure.retry_after_ms.map_or(FORCED_OPEN_LOOK, Duration::from_millis).max(BREAKER_WAIT_MIN);
    let after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    Verdict::Released { code: JOB_BREAKER_OPEN, after_ms }
}

fn verdict(result: Option<Result<Bytes, Failure>>, stopped: Option<Stop>, task: &Task) -> Verdict {
    match (result, stopped) {
        (_, Some(Stop::Lost)) => Verdict::Nothing,
        (Some(Ok(output)), _) => Verdict::Done(output),
        (Some(Err(failure)), None) => match is_refused(&failure) && !task.takes_as_final(&failure) {
            true => behind_breaker(&failure),
            false => Verdict::failed(failure, task.settings.retry.clone()),
        },
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
