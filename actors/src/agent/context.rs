//! The context of a handler: typed recording on top of the recorder.

use std::time::Duration;

use bytes::Bytes;

use super::{Activity, Agent, Data};
use crate::{
    entity::{EffectRequest, Recorder, Send, TimerRequest},
    ids::{Cause, Name, NameError, Timestamp, Version},
    store::{CodecError, Timer, encode},
};

/// Why something could not be recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The receiver's name has not the shape of a name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The value does not encode.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// What a handler may use: time, randomness, and a place to record what shall happen once it is durable.
#[derive(Debug)]
pub struct Ctx<'a> {
    recorder: &'a mut Recorder,
}

impl<'a> Ctx<'a> {
    /// A context over a recorder.
    pub fn new(recorder: &'a mut Recorder) -> Self {
        Self { recorder }
    }

    /// Wall time of this handling; the same at every look. It may be before that of the handling before.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.recorder.now()
    }

    /// A random number.
    pub fn random(&mut self) -> u64 {
        self.recorder.random()
    }

    /// The entity's key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.recorder.name().key
    }

    /// Version before this handling.
    #[must_use]
    pub fn version(&self) -> Version {
        self.recorder.version()
    }

    /// Where the command comes from.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        self.recorder.cause()
    }

    /// Sends a command to another agent: delivered at least once and handled once, in the order sent.
    ///
    /// # Errors
    /// [`RecordError`]: nothing was recorded.
    pub fn send<A: Agent>(&mut self, key: &str, command: &A::Command) -> Result<(), RecordError> {
        self.send_to(Name::new(A::KIND, key)?, command, None)
    }

    /// [`Self::send`], returned to this agent's `completed` when not delivered within `life`.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_within<A: Agent>(
        &mut self,
        key: &str,
        command: &A::Command,
        life: Duration,
    ) -> Result<(), RecordError> {
        self.send_to(Name::new(A::KIND, key)?, command, Some(life))
    }

    /// [`Self::send`] to an agent on a node of the cluster: stored with this handling, delivered when that node is within
    /// reach, at least once, in the order sent, and handled once.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_on<A: Agent>(
        &mut self,
        node: &str,
        key: &str,
        command: &A::Command,
    ) -> Result<(), RecordError> {
        self.send_to(Name::new(A::KIND, key)?.on(node)?, command, None)
    }

    fn send_to<C: Data>(
        &mut self,
        to: Name,
        command: &C,
        expires_after: Option<Duration>,
    ) -> Result<(), RecordError> {
        let payload = Bytes::from(encode(command)?);
        self.recorder.send(Send { to, payload, expires_after });
        Ok(())
    }

    /// Sets a durable timer: at `due` or later the agent handles `command`. A timer of this id is replaced.
    ///
    /// # Errors
    /// [`RecordError::Codec`].
    pub fn set_timer<C: Data>(
        &mut self,
        id: impl Into<String>,
        due: Timestamp,
        command: &C,
    ) -> Result<(), RecordError> {
        let payload = Bytes::from(encode(command)?);
        self.recorder.timer(TimerRequest::Set(Timer { id: id.into(), due, payload }));
        Ok(())
    }

    /// Clears a timer, if it is set.
    pub fn clear_timer(&mut self, id: impl Into<String>) {
        self.recorder.timer(TimerRequest::Clear(id.into()));
    }

    /// Starts an activity once this handling is durable; its end comes to `completed`. Answers the effect's id.
    ///
    /// # Errors
    /// [`RecordError::Codec`].
    pub fn start<V: Activity>(&mut self, input: &V::Input) -> Result<String, RecordError> {
        self.start_within::<V>(input, Duration::ZERO)
    }

    /// [`Self::start`] with a limit of each attempt; zero: none.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_within<V: Activity>(
        &mut self,
        input: &V::Input,
        timeout: Duration,
    ) -> Result<String, RecordError> {
        let input = Bytes::from(encode(input)?);
        let id = self.recorder.next_effect_id();
        let activity = V::NAME.to_owned();
        self.recorder.effect(EffectRequest::Start {
            id: id.clone(),
            activity,
            attempt: 1,
            input,
            timeout,
            requires: Vec::new(),
        });
        Ok(id)
    }

    /// Stops an effect: it is over, and its end does not come to `completed`.
    pub fn cancel(&mut self, effect: impl Into<String>) {
        self.recorder.effect(EffectRequest::Cancel { id: effect.into() });
    }
}
