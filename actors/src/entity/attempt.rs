//! One attempt of an activity: what it knows, and how it ends.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};

use super::{active::panic_text, machine::Failure};
use crate::{ids::Cause, task::CancelToken};

/// What an activity knows of its attempt.
#[derive(Clone, Debug)]
pub struct ActivityCtx {
    /// The same for all attempts: give it to the outside, so that a repeated attempt is recognised.
    pub idempotency_key: String,
    /// Attempt, from 1.
    pub attempt: u32,
    /// Asked to stop.
    pub cancel: CancelToken,
    /// Trace, correlation, causation.
    pub cause: Cause,
    pub(crate) progress: Arc<Mutex<Progress>>,
}

/// The last sign of life of an attempt.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Signs given so far.
    pub beats: u64,
    /// What the activity said last.
    pub note: Option<String>,
}

impl ActivityCtx {
    /// What an attempt knows that was begun on behalf of another node.
    #[must_use]
    pub fn new(idempotency_key: String, attempt: u32, cancel: CancelToken, cause: Cause) -> Self {
        Self { idempotency_key, attempt, cancel, cause, progress: Arc::default() }
    }

    /// Says that the attempt lives, and how far it is. Volatile: not stored.
    pub fn heartbeat(&self, note: impl Into<String>) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.beats += 1;
        progress.note = Some(note.into());
    }
}

/// An activity over bytes.
pub trait DynActivity: Send + Sync + 'static {
    /// Runs one attempt.
    fn run(&self, ctx: ActivityCtx, input: Bytes) -> BoxFuture<'static, Result<Bytes, Failure>>;
}

/// Activities by name.
pub type Activities = HashMap<String, Arc<dyn DynActivity>>;

/// An attempt that was cancelled may clean up this long; then it is dropped.
const CANCEL_GRACE: Duration = Duration::from_secs(5);

/// Runs one attempt to its end; `None` when it was cancelled, for then nobody waits for its end.
pub(crate) async fn run_attempt(
    activity: &dyn DynActivity,
    ctx: ActivityCtx,
    input: Bytes,
    timeout_ms: u64,
) -> Option<Result<Bytes, Failure>> {
    let (cancel, number) = (ctx.cancel.clone(), ctx.attempt);
    let attempt = AssertUnwindSafe(async { activity.run(ctx, input).await }).catch_unwind();
    let limit = match timeout_ms {
        0 => Duration::from_secs(u64::from(u32::MAX)),
        ms => Duration::from_millis(ms),
    };
    tokio::pin!(attempt);
    tokio::select! {
        ended = &mut attempt => Some(ended.unwrap_or_else(|panic| {
            Err(Failure::retryable(Failure::PANICKED, panic_text(panic.as_ref())))
        })),
        () = tokio::time::sleep(limit) => {
            cancel.cancel();
            let _ = tokio::time::timeout(CANCEL_GRACE, &mut attempt).await;
            let message = format!("attempt {number} ran over {limit:?}");
            Some(Err(Failure::retryable(Failure::TIMED_OUT, message)))
        }
        () = cancel.cancelled() => {
            let _ = tokio::time::timeout(CANCEL_GRACE, &mut attempt).await;
            None
        }
    }
}
