//! From what a handler decided and recorded to one entry.

use super::{
    active::{Active, Broken},
    after::After,
    ctx::{EffectRequest, Recorder, Send, TimerRequest},
    machine::{Decided, Style},
};
use crate::{
    error::{FailureKind, Refusal, Unavailable},
    ids::{Cause, Name, Timestamp, Version},
    store::{
        Change, Consumed, DedupOp, Due, Effect, EffectOp, Entry, Head, OutMessage, Parked, ROW_MAX_BYTES,
        Timer, TimerOp,
    },
};

/// What the system itself adds to an entry.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// What the input consumed.
    pub(crate) consumed: Vec<Consumed>,
    /// What is remembered of the command.
    pub(crate) dedup: Vec<DedupOp>,
    /// The timer that fired.
    pub(crate) fired: Option<String>,
    /// The effect that ended.
    pub(crate) ended: Option<String>,
    /// The message that came back, and to whom it was.
    pub(crate) returned: Option<(u64, Name)>,
    /// The input, when nothing could handle it.
    pub(crate) parked: Vec<Parked>,
    /// Trace, correlation, causation.
    pub(crate) cause: Cause,
}

impl Draft {
    pub(crate) fn is_empty(&self) -> bool {
        self.consumed.is_empty()
            && self.dedup.is_empty()
            && self.fired.is_none()
            && self.ended.is_none()
            && self.returned.is_none()
            && self.parked.is_empty()
    }
}

/// Largest sum of what one handling records.
const ENTRY_MAX_BYTES: usize = 4 * ROW_MAX_BYTES;

/// Limits of messages, timers and effects.
fn check_recorded(recorder: &Recorder, payload_max: usize) -> Result<(), FailureKind> {
    let check = |what: &str, bytes: usize, limit: usize| {
        if bytes > limit { Err(too_large(what, bytes, limit)) } else { Ok(()) }
    };
    for send in &recorder.sends {
        check("message", send.payload.len(), payload_max)?;
    }
    for timer in &recorder.timers {
        if let TimerRequest::Set(timer) = timer {
            check("timer id", timer.id.len(), crate::ids::ROW_KEY_MAX_BYTES)?;
            check("timer", timer.payload.len(), payload_max)?;
        }
    }
    for effect in &recorder.effects {
        if let EffectRequest::Start { id, input, .. } = effect {
            check("effect id", id.len(), crate::ids::EFFECT_ID_MAX_BYTES)?;
            check("effect input", input.len(), payload_max)?;
        }
    }
    Ok(())
}

/// Sum of the payloads of what one handling records.
fn entry_bytes(decided: &Decided, recorder: &Recorder) -> usize {
    let change = match &decided.change {
        Some(Change::State(state)) => state.len(),
        Some(Change::Events { events, .. }) => events.iter().map(bytes::Bytes::len).sum(),
        None => 0,
    };
    let rows = recorder.rows.iter().map(|row| row.value.as_ref().map_or(0, bytes::Bytes::len));
    let sends = recorder.sends.iter().map(|send| send.payload.len());
    let timers = recorder.timers.iter().map(|timer| match timer {
        TimerRequest::Set(timer) => timer.payload.len(),
        TimerRequest::Clear(_) => 0,
    });
    let effects = recorder.effects.iter().map(|effect| match effect {
        EffectRequest::Start { input, .. } => input.len(),
        EffectRequest::End { .. } | EffectRequest::Cancel { .. } => 0,
    });
    change + decided.reply.len() + rows.chain(sends).chain(timers).chain(effects).sum::<usize>()
}

fn too_large(what: &str, bytes: usize, limit: usize) -> FailureKind {
    FailureKind::Refused(Refusal::TooLarge { what: what.to_owned(), bytes, limit })
}

impl Active {
    /// Whether what was decided may be recorded; asked before it is accepted, so a refusal changes nothing.
    pub(super) fn check_limits(&self, decided: &Decided, recorder: &Recorder) -> Result<(), FailureKind> {
        let options = &self.cell.kind().options;
        match &decided.change {
            Some(Change::State(state)) if state.len() > options.state_max_bytes => {
                return Err(too_large("state", state.len(), options.state_max_bytes));
            }
            Some(Change::Events { events, .. }) => {
                if let Some(event) = events.iter().find(|event| event.len() > ROW_MAX_BYTES) {
                    return Err(too_large("event", event.len(), ROW_MAX_BYTES));
                }
            }
            Some(Change::State(_)) | None => {}
        }
        if decided.reply.len() > ROW_MAX_BYTES {
            return Err(too_large("reply", decided.reply.len(), ROW_MAX_BYTES));
        }
        for row in &recorder.rows {
            if row.key.is_empty() || row.key.len() > crate::ids::ROW_KEY_MAX_BYTES {
                return Err(too_large("row key", row.key.len(), crate::ids::ROW_KEY_MAX_BYTES));
            }
            let bytes = row.value.as_ref().map_or(0, bytes::Bytes::len);
            if bytes > options.row_max_bytes {
                return Err(too_large("row", bytes, options.row_max_bytes));
            }
        }
        check_recorded(recorder, options.command_max_bytes)?;
        let bytes = entry_bytes(decided, recorder);
        if bytes > ENTRY_MAX_BYTES {
            return Err(too_large("entry", bytes, ENTRY_MAX_BYTES));
        }
        let undelivered = self.cell.undelivered();
        if !recorder.sends.is_empty() && undelivered + recorder.sends.len() as u64 > options.outbox_max {
            return Err(FailureKind::Unavailable(Unavailable::OutboxFull(undelivered)));
        }
        Ok(())
    }

    /// Builds the entry after the speculative version and notes what happens once it is durable.
    pub(super) fn entry(
        &mut self,
        change: Option<Change>,
        recorder: Recorder,
        mut draft: Draft,
        now: Timestamp,
    ) -> Result<Entry, Broken> {
        let version = self.version().next();
        let change = self.full_change(change)?;
        let timers = self.timer_ops(draft.fired.take(), recorder.timers, version);
        let effects = self.effect_ops(draft.ended.take(), recorder.effects, version, &draft.cause);
        if let Some((seq, to)) = draft.returned.take() {
            self.returned.insert(seq);
            self.afters.push_back((version, After::Returned(seq, to)));
        }
        let next_message = self.head.as_ref().map_or(1, |head| head.next_message);
        let messages = self.messages(recorder.sends, next_message, version, now, &draft.cause);
        let mut dedup = std::mem::take(&mut draft.dedup);
        if !self.forget.is_empty() {
            dedup.splice(..0, self.forget.drain(..));
        }
        let status = self.machine.status();
        let status_before =
            self.head.as_ref().filter(|head| head.status != status).map(|head| head.status.clone());
        if status_before.is_some() {
            self.afters.push_back((version, After::Publish(status.clone())));
        }
        let head = Head {
            name: self.cell.name().clone(),
            schema: self.cell.kind().schema,
            version,
            created: self.head.as_ref().map_or(now, |head| head.created),
            updated: now,
            status,
            next_message: next_message + messages.len() as u64,
            next_effect: recorder.next_effect,
            state_crc: self.state_crc(&change),
            history: self.cell.kind().history,
            feed: self.cell.kind().feed,
        };
        Ok(Entry {
            head,
            change,
            rows: recorder.rows,
            messages,
            timers,
            effects,
            dedup,
            consumed: draft.consumed,
            parked: draft.parked,
            status_before,
            cause: draft.cause,
        })
    }

    fn state_crc(&self, change: &Change) -> u32 {
        let before = self.head.as_ref().map_or(0, |head| head.state_crc);
        change.state().map_or(before, |state| crc32c::crc32c(state))
    }

    /// Completes the change: the full state for agents, at intervals a snapshot for event-sourced entities.
    fn full_change(&mut self, change: Option<Change>) -> Result<Change, Broken> {
        let broken = |refusal| Broken(FailureKind::Refused(refusal));
        match (self.cell.kind().style, change) {
            (Style::State, Some(change)) => Ok(change),
            (Style::State, None) => Ok(Change::State(self.machine.snapshot().map_err(broken)?)),
            (Style::Events, change) => {
                let events = match change {
                    Some(Change::Events { events, .. }) => events,
                    Some(Change::State(_)) | None => Vec::new(),
                };
                self.since_checkpoint += 1;
                let mut snapshot = None;
                if self.since_checkpoint >= self.cell.kind().options.snapshot_every {
                    // A state that cannot be stored whole is folded from its events, as before.
                    if let Ok(state) = self.machine.snapshot()
                        && state.len() <= ROW_MAX_BYTES
                    {
                        self.since_checkpoint = 0;
                        snapshot = Some(state);
                    }
                }
                Ok(Change::Events { events, snapshot })
            }
        }
    }

    fn timer_ops(
        &mut self,
        fired: Option<String>,
        requests: Vec<TimerRequest>,
        version: Version,
    ) -> Vec<TimerOp> {
        let mut ops = Vec::new();
        if let Some(id) = fired {
            self.clear_timer(&id, &mut ops);
        }
        for request in requests {
            match request {
                TimerRequest::Clear(id) => self.clear_timer(&id, &mut ops),
                TimerRequest::Set(timer) => {
                    self.clear_timer(&timer.id, &mut ops);
                    self.set_timer(timer, version, &mut ops);
                }
            }
        }
        ops
    }

    fn clear_timer(&mut self, id: &str, ops: &mut Vec<TimerOp>) {
        if let Some(timer) = self.timers.remove(id) {
            ops.push(TimerOp::Clear { id: timer.id, due: timer.due });
        }
    }

    fn set_timer(&mut self, timer: Timer, version: Version, ops: &mut Vec<TimerOp>) {
        let due = Due { due: timer.due, entity: self.entity, timer: timer.id.clone() };
        self.afters.push_back((version, After::Arm(due)));
        self.timers.insert(timer.id.clone(), timer.clone());
        ops.push(TimerOp::Set(timer));
    }

    fn effect_ops(
        &mut self,
        ended: Option<String>,
        requests: Vec<EffectRequest>,
        version: Version,
        cause: &Cause,
    ) -> Vec<EffectOp> {
        let mut ops = Vec::new();
        if let Some(id) = ended {
            self.end_effect(id, &mut ops);
        }
        for request in requests {
            match request {
                EffectRequest::Start { id, activity, attempt, input, timeout, requires } => {
                    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                    let cause = cause.clone();
                    let effect = Effect { id, activity, attempt, input, timeout_ms, requires, cause };
                    self.effects.insert(effect.id.clone(), effect.clone());
                    self.afters.push_back((version, After::Start(effect.clone())));
                    ops.push(EffectOp::Start(effect));
                }
                EffectRequest::End { id } => self.end_effect(id, &mut ops),
                EffectRequest::Cancel { id } => {
                    self.afters.push_back((version, After::Cancel(id.clone())));
                    self.end_effect(id, &mut ops);
                }
            }
        }
        ops
    }

    fn end_effect(&mut self, id: String, ops: &mut Vec<EffectOp>) {
        if self.effects.remove(&id).is_some() {
            ops.push(EffectOp::End { id });
        }
    }

    fn messages(
        &mut self,
        sends: Vec<Send>,
        first: u64,
        version: Version,
        now: Timestamp,
        cause: &Cause,
    ) -> Vec<OutMessage> {
        let messages: Vec<OutMessage> = (first..)
            .zip(sends)
            .map(|(seq, send)| OutMessage {
                seq,
                to: send.to,
                payload: send.payload,
                at: now,
                expires: send.expires_after.map(|life| now.after(life)),
                cause: cause.clone(),
            })
            .collect();
        if !messages.is_empty() {
            self.cell.sent(messages.iter().map(|message| message.seq));
            // With nothing pending before them, the first ones of an activation are all there are.
            let complete = !std::mem::replace(&mut self.offered, true);
            self.afters.push_back((version, After::Deliver(messages.clone(), complete)));
        }
        messages
    }
}
