//! Activities without effects outside: for tests, traces and first steps.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stanchion_actors::{
    agent::Activity,
    entity::{ActivityCtx, Failure},
};

use super::BAD_INPUT;

/// Longest sleep: ten years of 365 days, in milliseconds.
const SLEEP_MAX_MS: f64 = 3_650.0 * 24.0 * 3_600.0 * 1e3;

/// Does nothing.
#[derive(Clone, Copy, Debug)]
pub struct Noop;

impl Activity for Noop {
    const NAME: &'static str = "noop";
    type Input = Value;
    type Output = Value;

    async fn run(&self, _: ActivityCtx, _: Value) -> Result<Value, Failure> {
        Ok(Value::Null)
    }
}

/// Gives its input back.
#[derive(Clone, Copy, Debug)]
pub struct Echo;

impl Activity for Echo {
    const NAME: &'static str = "echo";
    type Input = Value;
    type Output = Value;

    async fn run(&self, _: ActivityCtx, input: Value) -> Result<Value, Failure> {
        Ok(input)
    }
}

/// Waits.
#[derive(Clone, Copy, Debug)]
pub struct Sleep;

/// Input of [`Sleep`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SleepInput {
    /// Milliseconds, fractions allowed: 0 to ten years.
    pub ms: f64,
}

impl Activity for Sleep {
    const NAME: &'static str = "sleep";
    type Input = SleepInput;
    type Output = Value;

    async fn run(&self, ctx: ActivityCtx, input: SleepInput) -> Result<Value, Failure> {
        if !(0.0..=SLEEP_MAX_MS).contains(&input.ms) {
            let message = format!("ms is {}: use 0 to ten years", input.ms);
            return Err(Failure::permanent(BAD_INPUT, message));
        }
        if input.ms == 0.0 {
            return Ok(Value::Null);
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs_f64(input.ms / 1e3)) => Ok(Value::Null),
            () = ctx.cancel.cancelled() => Err(Failure::retryable(Failure::CANCELLED, "cancelled while it slept")),
        }
    }
}

/// Fails its first attempts.
#[derive(Clone, Copy, Debug)]
pub struct Fail;

/// Input of [`Fail`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailInput {
    /// Attempts that fail, counted by attempt number.
    pub times: u32,
    /// What they say.
    #[serde(default)]
    pub message: String,
}

impl Activity for Fail {
    const NAME: &'static str = "fail";
    type Input = FailInput;
    type Output = Value;

    async fn run(&self, ctx: ActivityCtx, input: FailInput) -> Result<Value, Failure> {
        if ctx.attempt <= input.times {
            return Err(Failure::retryable("fail", input.message));
        }
        Ok(json!({ "attempt": ctx.attempt }))
    }
}
