//! An agent behind bytes.

use std::{any::Any, sync::Arc};

use bytes::Bytes;

use super::{Agent, Ctx};
use crate::{
    entity::{
        Decided, EntityOptions, Input, Kind, Machine, NotAccepted, Recorder, Restored, Style, Unreadable,
    },
    error::Refusal,
    store::{Change, CodecError, decode, encode, encode_sized},
};

/// The kind of an agent type.
#[must_use]
pub fn agent_kind<A: Agent + Sync>(options: EntityOptions) -> Kind {
    Kind {
        name: Arc::from(A::KIND),
        schema: A::VERSION,
        history: A::HISTORY,
        feed: A::FEED,
        style: Style::State,
        is_run: false,
        options,
        machine: Arc::new(|_| Box::new(AgentMachine::<A>::default())),
        render: Arc::new(render),
    }
}

struct AgentMachine<A> {
    state: A,
    /// The state as last stored, to see whether a handling changed anything.
    encoded: Bytes,
    staged: Option<(A, Bytes)>,
}

impl<A: Agent> Default for AgentMachine<A> {
    fn default() -> Self {
        let state = A::default();
        // A default state that does not encode is found at the first command, with a typed refusal.
        let encoded = encode(&state).map(Bytes::from).unwrap_or_default();
        Self { state, encoded, staged: None }
    }
}

impl<A: Agent + Sync> Machine for AgentMachine<A> {
    fn restore(&mut self, stored: &Restored<'_>) -> Result<(), Unreadable> {
        let Some((schema, bytes)) = stored.state else { return Ok(()) };
        self.state = if schema == A::VERSION {
            decode(bytes).map_err(|e| Unreadable(e.to_string()))?
        } else {
            upcast(schema, A::VERSION, bytes, A::upcast)?
        };
        self.encoded = Bytes::from(encode(&self.state).map_err(|e| Unreadable(e.to_string()))?);
        Ok(())
    }

    fn decide(&mut self, input: &Input<'_>, recorder: &mut Recorder) -> Result<Decided, NotAccepted> {
        // What an earlier decision staged and nobody accepted must not be accepted with this one.
        self.staged = None;
        let mut copy = self.state.clone();
        let mut ctx = Ctx::new(recorder);
        let reply = match input {
            Input::Command(payload) => {
                let command = decode::<A::Command>(payload).map_err(malformed)?;
                Bytes::from(answer(copy.handle(command, &mut ctx))?)
            }
            Input::Timer(timer) => {
                let command = decode::<A::Command>(&timer.payload).map_err(malformed)?;
                Bytes::from(answer(copy.handle(command, &mut ctx))?)
            }
            Input::Completion(done) => {
                copy.completed((*done).clone(), &mut ctx);
                Bytes::new()
            }
            Input::Placing { .. } | Input::Recovered { .. } | Input::CrashLooped(_) | Input::Continue => {
                return Ok(Decided::nothing());
            }
        };
        copy.validate().map_err(|invalid| NotAccepted::Refused(Refusal::Invalid(invalid.0)))?;
        // As long as before, or a little longer.
        let encoded = Bytes::from(encode_sized(&copy, self.encoded.len() + 32).map_err(malformed)?);
        if encoded == self.encoded {
            return Ok(Decided { change: None, reply, more: false });
        }
        self.staged = Some((copy, encoded.clone()));
        Ok(Decided { change: Some(Change::State(encoded)), reply, more: false })
    }

    fn accept(&mut self) {
        if let Some((state, encoded)) = self.staged.take() {
            self.state = state;
            self.encoded = encoded;
        }
    }

    fn snapshot(&self) -> Result<Bytes, Refusal> {
        Ok(self.encoded.clone())
    }

    fn state(&self) -> &dyn Any {
        &self.state
    }
}

/// Encodes a reply or a rejection.
pub(super) fn answer<R: serde::Serialize, J: serde::Serialize>(
    result: Result<R, J>,
) -> Result<Vec<u8>, NotAccepted> {
    match result {
        Ok(reply) => encode(&reply).map_err(malformed),
        Err(rejection) => Err(NotAccepted::Rejected(Bytes::from(encode(&rejection).map_err(malformed)?))),
    }
}

pub(super) fn malformed(error: CodecError) -> NotAccepted {
    NotAccepted::Refused(Refusal::Malformed(error.to_string()))
}

/// Takes a stored value through the upcasters up to `to`.
pub(super) fn upcast<T: serde::de::DeserializeOwned>(
    mut schema: u16,
    to: u16,
    bytes: &[u8],
    step: impl Fn(u16, serde_json::Value) -> Result<serde_json::Value, super::NoUpcast>,
) -> Result<T, Unreadable> {
    let mut value: serde_json::Value = decode(bytes).map_err(|e| Unreadable(e.to_string()))?;
    while schema < to {
        value = step(schema, value).map_err(|e| Unreadable(e.to_string()))?;
        schema += 1;
    }
    serde_json::from_value(value).map_err(|e| Unreadable(format!("upcast to version {to}: {e}")))
}

/// Renders any stored MessagePack as JSON, for people.
///
/// # Errors
/// [`Unreadable`] when it is not MessagePack, or has no JSON form.
pub fn render(_schema: u16, bytes: &[u8]) -> Result<serde_json::Value, Unreadable> {
    decode(bytes).map_err(|e| Unreadable(e.to_string()))
}
