//! Event-sourced entities: the change is a list of events, folded by `evolve`.

use std::{any::Any, sync::Arc};

use bytes::Bytes;

use super::{
    Ctx, Data, Invalid, NoUpcast,
    machine::{malformed, render, upcast},
};
use crate::{
    entity::{
        Completion, Decided, EntityOptions, Input, Kind, Machine, NotAccepted, Recorder, Restored, Style,
        Unreadable,
    },
    error::Refusal,
    store::{Change, History, decode, encode},
};

/// What an event-sourced entity decided: events, and the reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<E, R> {
    /// Facts, in order; none: nothing changed.
    pub events: Vec<E>,
    /// The reply, sent when the events are durable.
    pub reply: R,
}

/// A durable entity whose entries carry events; its full state is stored at intervals.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not event-sourced",
    note = "implement `stanchion::EventSourced` for it: a KIND, its types, `decide` and `evolve`"
)]
pub trait EventSourced: Default + Data {
    /// Name of the kind, as for agents.
    const KIND: &'static str;
    /// Schema version of state and events.
    const VERSION: u16 = 1;
    /// How long old entries can be read back.
    const HISTORY: History = History::Forever;
    /// Whether its entries have places in the feed, as for agents.
    const FEED: bool = false;

    /// What it is asked.
    type Command: Data;
    /// What it answers.
    type Reply: Data;
    /// Why it refuses.
    type Rejection: Data + std::error::Error;
    /// What has happened.
    type Event: Data;

    /// Decides on a command. Sync and pure, as [`super::Agent::handle`].
    ///
    /// # Errors
    /// A rejection: nothing has happened.
    fn decide(
        &self,
        command: Self::Command,
        ctx: &mut Ctx<'_>,
    ) -> Result<Decision<Self::Event, Self::Reply>, Self::Rejection>;

    /// Folds an event into the state; total and infallible.
    fn evolve(&mut self, event: &Self::Event);

    /// Decides on the end of an effect, or a message that came back.
    fn completed(&self, _done: Completion, _ctx: &mut Ctx<'_>) -> Vec<Self::Event> {
        Vec::new()
    }

    /// Checks the folded state before it is stored as a snapshot. Facts cannot be undone: reject in
    /// [`EventSourced::decide`] what must not happen.
    ///
    /// # Errors
    /// What is wrong: no snapshot is stored, the events are.
    fn validate(&self) -> Result<(), Invalid> {
        Ok(())
    }

    /// Takes a stored state from schema version `from` to `from + 1`.
    ///
    /// # Errors
    /// [`NoUpcast`]: the entity is quarantined.
    fn upcast_state(from: u16, _stored: serde_json::Value) -> Result<serde_json::Value, NoUpcast> {
        Err(NoUpcast { from, to: Self::VERSION })
    }

    /// Takes a stored event from schema version `from` to `from + 1`.
    ///
    /// # Errors
    /// [`NoUpcast`]: the entity is quarantined.
    fn upcast_event(from: u16, _stored: serde_json::Value) -> Result<serde_json::Value, NoUpcast> {
        Err(NoUpcast { from, to: Self::VERSION })
    }
}

/// The kind of an event-sourced type.
#[must_use]
pub fn event_sourced_kind<S: EventSourced + Sync>(options: EntityOptions) -> Kind
where
    S::Event: Sync,
{
    Kind {
        name: Arc::from(S::KIND),
        schema: S::VERSION,
        history: S::HISTORY,
        feed: S::FEED,
        style: Style::Events,
        is_run: false,
        options,
        machine: Arc::new(|_| Box::new(SourcedMachine::<S> { state: S::default(), staged: Vec::new() })),
        render: Arc::new(render),
    }
}

struct SourcedMachine<S: EventSourced> {
    state: S,
    staged: Vec<S::Event>,
}

impl<S: EventSourced + Sync> Machine for SourcedMachine<S>
where
    S::Event: Sync,
{
    fn restore(&mut self, stored: &Restored<'_>) -> Result<(), Unreadable> {
        if let Some((schema, bytes)) = stored.state {
            self.state = upcast_or_decode(schema, S::VERSION, bytes, S::upcast_state)?;
        }
        for (schema, bytes) in &stored.events {
            let event: S::Event = upcast_or_decode(*schema, S::VERSION, bytes, S::upcast_event)?;
            self.state.evolve(&event);
        }
        Ok(())
    }

    fn decide(&mut self, input: &Input<'_>, recorder: &mut Recorder) -> Result<Decided, NotAccepted> {
        self.staged.clear();
        let mut ctx = Ctx::new(recorder);
        let (events, reply) = match input {
            Input::Command(payload) => self.command(payload, &mut ctx)?,
            Input::Timer(timer) => self.command(&timer.payload, &mut ctx)?,
            Input::Completion(done) => (self.state.completed((*done).clone(), &mut ctx), Bytes::new()),
            Input::Placing { .. } | Input::Recovered { .. } | Input::CrashLooped(_) | Input::Continue => {
                (Vec::new(), Bytes::new())
            }
        };
        if events.is_empty() {
            return Ok(Decided { change: None, reply, more: false });
        }
        let encoded: Result<Vec<Bytes>, _> =
            events.iter().map(|event| encode(event).map(Bytes::from)).collect();
        let change = Change::Events { events: encoded.map_err(malformed)?, snapshot: None };
        self.staged = events;
        Ok(Decided { change: Some(change), reply, more: false })
    }

    fn accept(&mut self) {
        for event in std::mem::take(&mut self.staged) {
            self.state.evolve(&event);
        }
    }

    fn snapshot(&self) -> Result<Bytes, Refusal> {
        self.state.validate().map_err(|invalid| Refusal::Invalid(invalid.0))?;
        encode(&self.state).map(Bytes::from).map_err(|e| Refusal::Malformed(e.to_string()))
    }

    fn state(&self) -> &dyn Any {
        &self.state
    }
}

impl<S: EventSourced> SourcedMachine<S> {
    fn command(&self, payload: &[u8], ctx: &mut Ctx<'_>) -> Result<(Vec<S::Event>, Bytes), NotAccepted> {
        let command = decode::<S::Command>(payload).map_err(malformed)?;
        match self.state.decide(command, ctx) {
            Ok(Decision { events, reply }) => Ok((events, Bytes::from(encode(&reply).map_err(malformed)?))),
            Err(rejection) => Err(NotAccepted::Rejected(Bytes::from(encode(&rejection).map_err(malformed)?))),
        }
    }
}

fn upcast_or_decode<T: serde::de::DeserializeOwned>(
    schema: u16,
    to: u16,
    bytes: &[u8],
    step: impl Fn(u16, serde_json::Value) -> Result<serde_json::Value, NoUpcast>,
) -> Result<T, Unreadable> {
    if schema == to {
        return decode(bytes).map_err(|e| Unreadable(e.to_string()));
    }
    upcast(schema, to, bytes, step)
}
