//! A partition behind bytes: the queue as an entity.

use std::{any::Any, sync::Arc};

use bytes::Bytes;

use super::{
    command::{QUEUE_KIND, QueueCommand, QueueReply},
    partition::Partition,
    refusal::QueueRefusal,
    rows::read_range,
};
use crate::{
    entity::{
        Decided, EntityOptions, Input, Kind, Machine, NotAccepted, Recorder, Restored, Style, TimerRequest,
        Unreadable,
    },
    error::Refusal,
    ids::Timestamp,
    store::{Change, CodecError, History, ROW_MAX_BYTES, RowOp, Timer, decode, encode},
};

/// Schema version of partitions.
const SCHEMA: u16 = 1;
/// Id of the one timer of a partition.
const WAKE: &str = "wake";
/// Largest command: a batch of payloads.
const COMMAND_MAX_BYTES: usize = 2 * ROW_MAX_BYTES;

/// The kind of queue partitions.
#[must_use]
pub fn queue_kind() -> Kind {
    let options = EntityOptions { command_max_bytes: COMMAND_MAX_BYTES, ..EntityOptions::default() };
    Kind {
        name: Arc::from(QUEUE_KIND),
        schema: SCHEMA,
        history: History::None,
        feed: false,
        style: Style::State,
        is_run: false,
        options,
        machine: Arc::new(|_| {
            Box::new(QueueMachine { partition: Partition::default(), fault: None, sound: true })
        }),
        render: Arc::new(crate::agent::render),
    }
}

struct QueueMachine {
    partition: Partition,
    /// The first row that could not be read.
    fault: Option<Unreadable>,
    /// False while the partition changes: a panic then leaves it between two states.
    sound: bool,
}

impl Machine for QueueMachine {
    fn restore(&mut self, stored: &Restored<'_>) -> Result<(), Unreadable> {
        if let Some((_, bytes)) = stored.state {
            self.partition = Partition::restore_fixed(bytes)?;
        }
        Ok(())
    }

    fn rows_range(&self) -> Option<(Bytes, Bytes)> {
        self.partition.exists().then(read_range)
    }

    fn restore_row(&mut self, key: &[u8], value: &[u8]) {
        if let Err(fault) = self.partition.restore_row(key, value) {
            self.fault.get_or_insert(fault);
        }
    }

    fn rows_restored(&mut self) -> Result<(), Unreadable> {
        self.fault.take().map_or(Ok(()), Err)?;
        self.partition.check_sum()
    }

    fn decide(&mut self, input: &Input<'_>, recorder: &mut Recorder) -> Result<Decided, NotAccepted> {
        let now = recorder.now().0;
        self.sound = false;
        let outcome = self.apply(input, now, &mut || draw(recorder));
        self.partition.promote(now);
        let decided = outcome.and_then(|reply| self.record(reply, recorder));
        self.sound = true;
        decided
    }

    fn accept(&mut self) {}

    fn decides_in_place(&self) -> bool {
        true
    }

    fn is_sound(&self) -> bool {
        self.sound
    }

    fn snapshot(&self) -> Result<Bytes, Refusal> {
        self.partition.encode_fixed().map_err(|e| Refusal::Malformed(e.to_string()))
    }

    fn state(&self) -> &dyn Any {
        &self.partition
    }

    fn may_be_removed(&self) -> Result<(), &'static str> {
        Err("is a queue, which is emptied by its own commands")
    }

    fn status(&self) -> String {
        self.partition.word().to_owned()
    }
}

impl QueueMachine {
    /// The reply, if the input has one.
    fn apply(
        &mut self,
        input: &Input<'_>,
        now: i64,
        draw: &mut dyn FnMut() -> f64,
    ) -> Result<Option<QueueReply>, NotAccepted> {
        match input {
            Input::Command(payload) => {
                let command: QueueCommand = decode(payload).map_err(malformed)?;
                self.partition.decide(command, now, draw).map(Some).map_err(|refusal| rejected(&refusal))
            }
            Input::Timer(_) => {
                self.partition.disarm();
                self.partition.sweep(now, draw);
                Ok(None)
            }
            Input::Completion(_)
            | Input::Placing { .. }
            | Input::Recovered { .. }
            | Input::CrashLooped(_)
            | Input::Continue => Ok(None),
        }
    }

    /// Records what changed; nothing when nothing did.
    fn record(&mut self, reply: Option<QueueReply>, recorder: &mut Recorder) -> Result<Decided, NotAccepted> {
        let reply = match reply {
            Some(reply) => Bytes::from(encode(&reply).map_err(malformed)?),
            None => Bytes::new(),
        };
        let Some(rows) = self.partition.take_changes().map_err(malformed)? else {
            return Ok(Decided { change: None, reply, more: false });
        };
        rows.into_iter().for_each(|row: RowOp| recorder.row(row));
        if let Some(due) = self.partition.arm() {
            let timer = Timer { id: WAKE.to_owned(), due: Timestamp(due), payload: Bytes::new() };
            recorder.timer(TimerRequest::Set(timer));
        }
        let state = self.partition.encode_fixed().map_err(malformed)?;
        Ok(Decided { change: Some(Change::State(state)), reply, more: false })
    }
}

fn malformed(fault: CodecError) -> NotAccepted {
    NotAccepted::Refused(Refusal::Malformed(fault.to_string()))
}

fn rejected(refusal: &QueueRefusal) -> NotAccepted {
    encode(refusal).map_or_else(malformed, |bytes| NotAccepted::Rejected(Bytes::from(bytes)))
}

/// A number in `[0, 1)` with 53 random bits.
fn draw(recorder: &mut Recorder) -> f64 {
    (recorder.random() >> 11) as f64 / (1u64 << 53) as f64
}
