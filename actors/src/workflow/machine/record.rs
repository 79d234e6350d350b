//! Between the words of the engine and those of entities: effects, timers and rows out, completions in.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::{OUTPUT_ROW, encoded, step_row};
use crate::{
    entity::{EffectRequest, Failure, NotAccepted, Recorder, TimerRequest},
    ids::Timestamp,
    store::{RowOp, Timer, decode},
    workflow::{
        definition::ValidDefinition,
        run::{self, AttemptId, AttemptResult, Decision, RowKey, RunEffect, UNDO},
    },
};

/// Records rows, effects and timers; answers the encoded events.
pub(super) fn record(
    definition: &ValidDefinition,
    decision: Decision,
    ended: Option<AttemptId>,
    recorder: &mut Recorder,
) -> Result<Vec<Bytes>, NotAccepted> {
    for row in decision.rows {
        recorder.row(RowOp { key: row_key(row.key), value: Some(Bytes::from(row.bytes)) });
    }
    for effect in decision.effects {
        match effect {
            RunEffect::StartAttempt { attempt, activity, input, timeout, requires } => {
                // An attempt whose timeout is below the resolution of a millisecond still has one.
                let least = Duration::from_millis(1);
                recorder.effect(EffectRequest::Start {
                    id: effect_id(definition, attempt),
                    activity: activity.into(),
                    attempt: attempt.attempt,
                    input: Bytes::from(encoded(&input)?),
                    timeout: timeout.map_or(Duration::ZERO, |timeout| timeout.max(least)),
                    requires,
                });
            }
            RunEffect::CancelAttempt(attempt) if Some(attempt) == ended => {}
            RunEffect::CancelAttempt(attempt) => {
                recorder.effect(EffectRequest::Cancel { id: effect_id(definition, attempt) });
            }
            RunEffect::SetTimer { timer, due_us } => {
                let (id, due) = (timer.to_u64().to_string(), Timestamp(due_us));
                recorder.timer(TimerRequest::Set(Timer { id, due, payload: Bytes::new() }));
            }
            RunEffect::ClearTimer(timer) => recorder.timer(TimerRequest::Clear(timer.to_u64().to_string())),
        }
    }
    decision.events.iter().map(|event| encoded(event).map(Bytes::from)).collect()
}

fn row_key(key: RowKey) -> Bytes {
    match key {
        RowKey::Step(step) => step_row(step),
        RowKey::Run => Bytes::from_static(OUTPUT_ROW),
    }
}

fn effect_id(definition: &ValidDefinition, attempt: AttemptId) -> String {
    let step = definition.step_id(attempt.step);
    if attempt.undo { format!("{step}{UNDO}") } else { step.to_owned() }
}

pub(super) fn output_of(output: &[u8]) -> AttemptResult {
    match decode::<Value>(output) {
        Ok(value) => AttemptResult::Completed(value),
        Err(e) => {
            let message = format!("the output has no JSON form: {e}");
            AttemptResult::Failed(run::Failure::permanent("activity.bad_output", message))
        }
    }
}

pub(super) fn failed(failure: &Failure) -> AttemptResult {
    match failure.code.as_str() {
        Failure::TIMED_OUT => AttemptResult::TimedOut,
        Failure::PANICKED => AttemptResult::Panicked(failure.message.clone()),
        Failure::CANCELLED => AttemptResult::Cancelled,
        _ => AttemptResult::Failed(run::Failure {
            code: failure.code.clone(),
            message: failure.message.clone(),
            retryable: failure.retryable,
            retry_after_ms: failure.retry_after_ms,
        }),
    }
}
