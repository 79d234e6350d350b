//! A workflow run behind bytes: the engine as an entity.

mod record;

use std::{any::Any, sync::Arc};

use bytes::Bytes;

use super::{
    command::{RUN_INPUT_MAX_BYTES, RUN_KIND, RunCard, RunCommand, RunRefusal, RunReply},
    definition::{DefinitionHash, ValidDefinition},
    registry::Definitions,
    run::{AttemptId, OutputRow, RunEvent, RunInput, RunState, TimerId, UNDO},
};
use crate::{
    entity::{
        Completion, Decided, EntityOptions, Input, Kind, Machine, NotAccepted, Placing, Recorder, Restored,
        Style, TimerRequest, Unreadable,
    },
    env::Waking,
    error::Refusal,
    store::{Change, History, ROW_MAX_BYTES, RowOp, Timer, decode, encode},
};

/// Key of the row that says what the run was started with.
pub(crate) const CARD_ROW: &[u8] = b"card";
/// Key of the row of the run's output.
pub(crate) const OUTPUT_ROW: &[u8] = b"output";
/// Most bytes of a card, and of the command that brings it, beside the run's input: above all its definition's name.
const CARD_MAX_BYTES: usize = 4 * 1_024;
/// Schema version of runs.
const SCHEMA: u16 = 1;
/// Id of the timer by which a decision that was cut goes on.
const CONTINUE: &str = "continue";

/// Key of the row of a step's output.
pub(crate) fn step_row(step: u32) -> Bytes {
    let mut key = b"s".to_vec();
    key.extend_from_slice(&step.to_be_bytes());
    Bytes::from(key)
}

/// The kind of workflow runs. `workers`, if given, is the number of workers of runs that are taken up again. A run
/// that is not taken up starts nothing; it notes that whoever takes it up has to.
#[must_use]
pub fn run_kind(definitions: Arc<Definitions>, workers: Option<u32>, waking: Waking) -> Kind {
    let options = EntityOptions {
        state_max_bytes: ROW_MAX_BYTES,
        row_max_bytes: RUN_INPUT_MAX_BYTES + CARD_MAX_BYTES,
        command_max_bytes: RUN_INPUT_MAX_BYTES + CARD_MAX_BYTES,
        ..EntityOptions::default()
    };
    Kind {
        name: Arc::from(RUN_KIND),
        schema: SCHEMA,
        history: History::Forever,
        feed: false,
        style: Style::Events,
        is_run: true,
        options,
        machine: Arc::new(move |name| {
            let (definitions, held) = (Arc::clone(&definitions), !waking.takes_up(name));
            Box::new(RunMachine { definitions, workers, held, run: None, card: None, sound: true })
        }),
        render: Arc::new(crate::agent::render),
    }
}

/// A run that has its definition.
pub struct LiveRun {
    /// Its definition.
    pub definition: Arc<ValidDefinition>,
    /// Where it stands.
    pub state: RunState,
}

struct RunMachine {
    definitions: Arc<Definitions>,
    workers: Option<u32>,
    /// Nobody here performs what would start.
    held: bool,
    card: Option<RunCard>,
    run: Option<LiveRun>,
    /// False while the engine moves: a panic, or a fact that does not encode, leaves the state between two events.
    sound: bool,
}

impl Machine for RunMachine {
    fn prelude(&self) -> Option<Bytes> {
        Some(Bytes::from_static(CARD_ROW))
    }

    fn restore_prelude(&mut self, row: &[u8]) -> Result<Option<[u8; 32]>, Unreadable> {
        let card: RunCard = decode(row).map_err(|e| Unreadable(e.to_string()))?;
        let hash = card.hash().ok_or_else(|| Unreadable("its definition's hash is damaged".into()))?;
        self.card = Some(card);
        Ok(Some(*hash.as_bytes()))
    }

    fn restore_definition(&mut self, bytes: &[u8]) -> Result<(), Unreadable> {
        let hash = self.card.as_ref().and_then(RunCard::hash);
        let hash = hash.ok_or_else(|| Unreadable("it has no definition".into()))?;
        let definition = self.definitions.read(&hash, bytes).map_err(|e| Unreadable(e.to_string()))?;
        self.run = Some(LiveRun { definition, state: RunState::new() });
        Ok(())
    }

    fn restore(&mut self, stored: &Restored<'_>) -> Result<(), Unreadable> {
        let Some(run) = &mut self.run else {
            let empty = stored.state.is_none() && stored.events.is_empty();
            return if empty { Ok(()) } else { Err(Unreadable("its card is missing".into())) };
        };
        run.state = restore_state(&run.definition, stored)?;
        if let Some(card) = &self.card {
            run.state.restore_input(card.input.clone());
        }
        Ok(())
    }

    fn rows_needed(&self) -> Vec<Bytes> {
        let Some(run) = &self.run else { return Vec::new() };
        run.state.outputs_needed(&run.definition).into_iter().map(step_row).collect()
    }

    fn restore_row(&mut self, key: &[u8], value: &[u8]) {
        let step = key.strip_prefix(b"s").and_then(|step| <[u8; 4]>::try_from(step).ok());
        if let (Some(run), Some(step), Ok(value)) = (&mut self.run, step, OutputRow::decode(value)) {
            run.state.restore_output(u32::from_be_bytes(step), value);
        }
    }

    fn decide(&mut self, input: &Input<'_>, recorder: &mut Recorder) -> Result<Decided, NotAccepted> {
        let (input, start) = match input {
            Input::Command(payload) => {
                let command = decode::<RunCommand>(payload)
                    .map_err(|e| NotAccepted::Refused(Refusal::Malformed(e.to_string())))?;
                match self.command(command)? {
                    Told::Input(input) => (input, false),
                    Told::Start(input) => (input, true),
                    Told::Known(reply) => return unchanged(&reply),
                }
            }
            Input::Completion(completion) => match self.attempt_ended(completion) {
                Some(input) => (input, false),
                None => return Ok(Decided::nothing()),
            },
            Input::Placing { effect, attempt, placing } => match (self.attempt_of(effect, *attempt), placing)
            {
                (Some(attempt), Placing::Awaited) => (RunInput::CapabilityAwaited { attempt }, false),
                (Some(attempt), Placing::Found) => (RunInput::CapabilityFound { attempt }, false),
                (None, _) => return Ok(Decided::nothing()),
            },
            Input::Timer(timer) if timer.id == CONTINUE => (RunInput::Continue, false),
            Input::Timer(timer) => match timer.id.parse().ok().and_then(TimerId::from_u64) {
                Some(timer) => (RunInput::TimerFired { timer }, false),
                None => return Ok(Decided::nothing()),
            },
            Input::Recovered { first } => match self.recovered(*first) {
                Some(input) => (input, false),
                None => return Ok(Decided::nothing()),
            },
            Input::Continue => (RunInput::Continue, false),
            Input::CrashLooped(why) => (RunInput::CrashLooped { reason: (*why).to_owned() }, false),
        };
        self.advance(input, start, recorder)
    }

    fn accept(&mut self) {}

    fn decides_in_place(&self) -> bool {
        true
    }

    fn is_sound(&self) -> bool {
        self.sound
    }

    fn snapshot(&self) -> Result<Bytes, Refusal> {
        Ok(self.run.as_ref().map_or_else(Bytes::new, |run| Bytes::from(run.state.snapshot())))
    }

    fn state(&self) -> &dyn Any {
        &self.run
    }

    fn may_be_removed(&self) -> Result<(), &'static str> {
        let ended = self.run.as_ref().is_none_or(|run| run.state.status().is_terminal());
        if ended { Ok(()) } else { Err("has not ended: cancel it first") }
    }

    fn status(&self) -> String {
        self.run.as_ref().map_or_else(String::new, |run| run.state.status().name().to_owned())
    }
}

/// What a command comes to.
enum Told {
    Input(RunInput),
    Start(RunInput),
    Known(RunReply),
}

impl RunMachine {
    fn command(&mut self, command: RunCommand) -> Result<Told, NotAccepted> {
        let workers = match &command {
            RunCommand::Resume { workers } => *workers,
            _ => None,
        };
        match (command, &self.run) {
            (RunCommand::Start(card), None) => self.open(card),
            (RunCommand::Start(card), Some(run)) => match &self.card {
                Some(known) if known.is_same(&card) => {
                    Ok(Told::Known(RunReply::new(run.state.status(), true)))
                }
                Some(known) => {
                    Err(refuse(&RunRefusal::AlreadyExists { definition: known.definition.clone() }))
                }
                None => Err(refuse(&RunRefusal::Unknown)),
            },
            (_, None) => Err(refuse(&RunRefusal::Unknown)),
            (RunCommand::Pause, Some(_)) => Ok(Told::Input(RunInput::Pause)),
            (RunCommand::Resume { .. }, Some(_)) => Ok(Told::Input(RunInput::Resume { workers })),
            (RunCommand::Cancel, Some(_)) => Ok(Told::Input(RunInput::Cancel)),
            (RunCommand::Retry { step }, Some(run)) => {
                let number = match &step {
                    None => None,
                    Some(id) => match run.definition.step_number(id) {
                        Some(number) => Some(number),
                        None => return Err(refuse(&RunRefusal::UnknownStep(id.clone()))),
                    },
                };
                Ok(Told::Input(RunInput::Retry { step: number }))
            }
        }
    }

    fn open(&mut self, card: RunCard) -> Result<Told, NotAccepted> {
        let known = card.hash().and_then(|hash: DefinitionHash| self.definitions.find(&hash));
        let Some(definition) = known else { return Err(refuse(&RunRefusal::UnknownDefinition)) };
        let input = RunInput::Start { input: card.input.clone(), workers: card.workers };
        self.run = Some(LiveRun { definition, state: RunState::new() });
        self.card = Some(card);
        Ok(Told::Start(input))
    }

    fn recovered(&self, first: bool) -> Option<RunInput> {
        let run = self.run.as_ref()?;
        let counts = run.state.counts(&run.definition);
        let status = run.state.status();
        let lost = counts.running > 0
            || run.state.awaits_capability()
            || matches!(status.name(), "compensating" | "cancelling");
        if status.is_terminal() || matches!(status.name(), "pending" | "parked") {
            return None;
        }
        if !(first || lost) {
            // A decision that was cut may be left; else this decides nothing.
            return Some(RunInput::Continue);
        }
        Some(RunInput::Recovered { workers: self.workers })
    }

    fn attempt_ended(&self, completion: &Completion) -> Option<RunInput> {
        let (effect, attempt, result) = match completion {
            Completion::Succeeded { effect, attempt, output } => {
                (effect, *attempt, record::output_of(output))
            }
            Completion::Failed { effect, attempt, failure } => (effect, *attempt, record::failed(failure)),
            Completion::Returned { .. } => return None,
        };
        Some(RunInput::AttemptEnded { attempt: self.attempt_of(effect, attempt)?, result })
    }

    /// Which attempt an effect is.
    fn attempt_of(&self, effect: &str, attempt: u32) -> Option<AttemptId> {
        let run = self.run.as_ref()?;
        let (step, undo) = match run.definition.step_number(effect) {
            Some(step) => (step, false),
            None => (run.definition.step_number(effect.strip_suffix(UNDO)?)?, true),
        };
        Some(AttemptId { step, attempt, undo })
    }

    fn advance(
        &mut self,
        input: RunInput,
        start: bool,
        recorder: &mut Recorder,
    ) -> Result<Decided, NotAccepted> {
        let Some(run) = &mut self.run else { return Err(refuse(&RunRefusal::Unknown)) };
        let ended = match &input {
            RunInput::AttemptEnded { attempt, .. } => Some(*attempt),
            _ => None,
        };
        let continued = matches!(input, RunInput::Continue);
        self.sound = false;
        let now = recorder.now().0;
        run.state.hold(self.held);
        let decision = run.state.advance(&run.definition, input, now, &mut || draw(recorder));
        let decision = match decision {
            Ok(decision) => decision,
            Err(rejection) => {
                self.sound = true;
                if start {
                    (self.run, self.card) = (None, None);
                }
                return Err(refuse(&RunRefusal::from(rejection)));
            }
        };
        if start && let Some(card) = &self.card {
            let value = Some(Bytes::from(encoded(card)?));
            recorder.row(RowOp { key: Bytes::from_static(CARD_ROW), value });
        }
        let reply = Bytes::from(encoded(&RunReply::new(run.state.status(), false))?);
        if decision.events.is_empty() && decision.effects.is_empty() && decision.rows.is_empty() {
            self.sound = true;
            return Ok(Decided { change: None, reply, more: false });
        }
        let definition = Arc::clone(&run.definition);
        let more = decision.more;
        if more || decision.held_back {
            // Durable: a process that ends before it went on goes on after it, and one that starts nothing leaves
            // it to the next.
            let timer = Timer { id: CONTINUE.to_owned(), due: recorder.now(), payload: Bytes::new() };
            recorder.timer(TimerRequest::Set(timer));
        } else if continued {
            recorder.timer(TimerRequest::Clear(CONTINUE.to_owned()));
        }
        let events = record::record(&definition, decision, ended, recorder)?;
        self.sound = true;
        Ok(Decided { change: Some(Change::Events { events, snapshot: None }), reply, more })
    }
}

/// Folds what is stored into a state. The run's input and outputs are given back afterwards.
pub(crate) fn restore_state(
    definition: &ValidDefinition,
    stored: &Restored<'_>,
) -> Result<RunState, Unreadable> {
    let mut state = match stored.state {
        Some((_, bytes)) => {
            RunState::from_snapshot(definition, bytes).map_err(|e| Unreadable(e.to_string()))?
        }
        None => RunState::new(),
    };
    for (_, bytes) in &stored.events {
        let event: RunEvent = decode(bytes).map_err(|e| Unreadable(e.to_string()))?;
        state.evolve(definition, &event);
    }
    Ok(state)
}

/// A number in `[0, 1)` with 53 random bits.
fn draw(recorder: &mut Recorder) -> f64 {
    (recorder.random() >> 11) as f64 / (1u64 << 53) as f64
}

fn encoded<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, NotAccepted> {
    encode(value).map_err(|e| NotAccepted::Refused(Refusal::Malformed(e.to_string())))
}

fn refuse(refusal: &RunRefusal) -> NotAccepted {
    match encoded(refusal) {
        Ok(bytes) => NotAccepted::Rejected(Bytes::from(bytes)),
        Err(error) => error,
    }
}

fn unchanged(reply: &RunReply) -> Result<Decided, NotAccepted> {
    Ok(Decided { change: None, reply: Bytes::from(encoded(reply)?), more: false })
}
