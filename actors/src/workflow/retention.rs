//! Removes runs that ended long enough ago.

use std::{sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::{command::RUN_KIND, run::RunStatus};
use crate::{
    entity::{PurgeError, purge},
    env::Env,
    health::{Counter, Vital},
    ids::{Name, Timestamp},
    store::{ListQuery, StoreError},
    task::ActorGuard,
};

/// How a run can have ended.
const ENDED: [RunStatus; 4] =
    [RunStatus::Completed, RunStatus::Failed, RunStatus::Cancelled, RunStatus::Compensated];
/// Runs looked at, at most, before others have their turn.
const PAGE: usize = 256;
/// Wait between two pages.
const PAUSE: Duration = Duration::from_millis(20);
/// Shortest and longest wait between two looks at all ended runs.
const LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

/// Messages of the actor.
#[derive(Debug)]
pub enum RetentionMsg {
    /// Time has passed.
    Tick,
}

#[cfg(feature = "cluster")]
impl ractor::Message for RetentionMsg {}

/// Removes runs that ended long enough ago, page by page.
#[derive(Debug)]
pub struct RetentionActor;

/// What the actor is started with.
#[derive(Clone)]
pub struct RetentionArgs {
    /// The environment.
    pub env: Arc<Env>,
    /// How long a run is kept after its last entry.
    pub keep: Duration,
}

/// State of the actor.
pub struct RetentionState {
    args: RetentionArgs,
    /// Where the next page begins: a place in [`ENDED`], and the run before.
    at: (usize, Option<Name>),
    removed: Counter,
    failed: Counter,
    _vital: Vital,
    _counted: ActorGuard,
}

impl Actor for RetentionActor {
    type Msg = RetentionMsg;
    type State = RetentionState;
    type Arguments = RetentionArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<RetentionMsg>,
        args: RetentionArgs,
    ) -> Result<RetentionState, ActorProcessingErr> {
        myself.cast(RetentionMsg::Tick)?;
        let vital = args.env.vitals().begin("retention");
        vital.up();
        Ok(RetentionState {
            removed: vital.counter("removed"),
            failed: vital.counter("failed"),
            _counted: args.env.tasks().actor("retention"),
            _vital: vital,
            at: (0, None),
            args,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<RetentionMsg>,
        message: RetentionMsg,
        state: &mut RetentionState,
    ) -> Result<(), ActorProcessingErr> {
        let RetentionMsg::Tick = message;
        let wait = match state.page().await {
            Ok(true) => PAUSE,
            Ok(false) => look_every(state.args.keep),
            Err(error) => {
                tracing::warn!(%error, "ended runs could not be read");
                LOOK.0
            }
        };
        state.args.env.later(wait, move || drop(myself.cast(RetentionMsg::Tick)));
        Ok(())
    }
}

/// Runs go at most a tenth of their time late.
fn look_every(keep: Duration) -> Duration {
    (keep / 10).clamp(LOOK.0, LOOK.1)
}

/// Whether a run whose last entry was at `ended` has been kept long enough.
fn is_over(ended: Timestamp, keep: Duration, now: Timestamp) -> bool {
    ended.after(keep) <= now
}

impl RetentionState {
    /// Removes what is over of one page; answers whether there is another one.
    async fn page(&mut self) -> Result<bool, StoreError> {
        let env = &self.args.env;
        let Some(status) = ENDED.get(self.at.0).filter(|_| !env.is_draining()) else {
            self.at = (0, None);
            return Ok(false);
        };
        let query = ListQuery {
            kind: Some(RUN_KIND.to_owned()),
            status: Some(status.name().to_owned()),
            after: self.at.1.take(),
        };
        let page = env.store().current().list(query, PAGE).await?;
        for listed in &page {
            if !is_over(listed.head.updated, self.args.keep, env.now()) {
                continue;
            }
            match purge(env, &listed.head.name).await {
                Ok(_) => self.removed.add(1),
                // It was retried meanwhile, or is asked something: it is looked at again.
                Err(error @ (PurgeError::Busy { .. } | PurgeError::Failed(_))) => {
                    self.failed.add(1);
                    tracing::debug!(run = %listed.head.name, %error, "an ended run is not removed");
                }
            }
        }
        self.at = match page.last() {
            Some(last) if page.len() == PAGE => (self.at.0, Some(last.head.name.clone())),
            _ => (self.at.0 + 1, None),
        };
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_over_when_it_was_kept_as_long_as_asked() {
        let (ended, keep) = (Timestamp(5_000_000), Duration::from_secs(10));
        assert!(!is_over(ended, keep, Timestamp(14_999_999)));
        assert!(is_over(ended, keep, Timestamp(15_000_000)));
        assert!(is_over(ended, Duration::ZERO, ended));
    }

    #[test]
    fn looks_follow_the_time_kept_within_bounds() {
        assert_eq!(look_every(Duration::ZERO), LOOK.0);
        assert_eq!(look_every(Duration::from_secs(600)), Duration::from_secs(60));
        assert_eq!(look_every(Duration::MAX), LOOK.1);
    }
}
