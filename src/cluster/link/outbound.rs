//! What waits to be sent in one lane: in order per entity, large messages in pieces between the others.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use crate::cluster::frame::{Credit, Frame, Kind};

/// How many waiting messages are looked at for one that may pass a large one.
const SCAN_MAX: usize = 64;

/// One message on its way out.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) id: u64,
    pub(super) entity: Option<Arc<str>>,
    /// On our own clock.
    pub(super) deadline_us: Option<u64>,
    pub(super) traceparent: Option<Arc<str>>,
    pub(super) body: Bytes,
    /// Bytes of the body that are sent.
    sent: usize,
}

impl Message {
    pub(super) fn new(kind: Kind, id: u64, body: Bytes) -> Self {
        Self { kind, id, entity: None, deadline_us: None, traceparent: None, body, sent: 0 }
    }

    pub(super) fn bytes(&self) -> usize {
        self.body.len() + self.entity.as_ref().map_or(0, |entity| entity.len())
    }

    pub(super) fn is_expired(&self, now_us: u64) -> bool {
        self.deadline_us.is_some_and(|deadline| deadline <= now_us)
    }

    /// The next frame of it, without a number.
    fn piece(&self, piece_bytes: usize, now_us: u64) -> Frame {
        let end = self.body.len().min(self.sent.saturating_add(piece_bytes));
        let more = end < self.body.len();
        let mut frame = Frame { more, ..Frame::new(self.kind, self.id, self.body.slice(self.sent..end)) };
        if self.sent == 0 {
            frame.entity.clone_from(&self.entity);
            frame.traceparent.clone_from(&self.traceparent);
            frame.deadline_us = self.deadline_us.map(|deadline| deadline.saturating_sub(now_us));
            frame.total = more.then_some(self.body.len() as u64);
        }
        frame
    }
}

/// A frame taken from the lane.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) frame: Frame,
    /// On our own clock.
    pub(super) deadline_us: Option<u64>,
    /// Whether this was the last piece of its message.
    pub(super) complete: bool,
}

/// One lane of a link, outwards.
#[derive(Debug, Default)]
pub(super) struct LaneOut {
    /// By id, which is the order of offering for requests.
    waiting: BTreeMap<u64, Message>,
    /// The one message that is being sent in pieces.
    large: Option<Message>,
    large_next: bool,
    granted: Credit,
    used: Credit,
    bytes: usize,
}

impl LaneOut {
    /// Bytes of the messages that are not wholly sent.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn messages(&self) -> usize {
        self.waiting.len() + usize::from(self.large.is_some())
    }

    pub(super) fn push(&mut self, message: Message) {
        self.bytes += message.bytes();
        if let Some(old) = self.waiting.insert(message.id, message) {
            self.bytes = self.bytes.saturating_sub(old.bytes());
        }
    }

    /// Takes over what the peer grants; it only grows.
    pub(super) fn grant(&mut self, granted: Credit) {
        self.granted.bytes = self.granted.bytes.max(granted.bytes);
        self.granted.frames = self.granted.frames.max(granted.frames);
    }

    /// Removes message `id` if it is not wholly sent; `true` beside it when pieces of it are out.
    pub(super) fn remove(&mut self, id: u64) -> Option<(Message, bool)> {
        let found = match self.waiting.remove(&id) {
            Some(message) => (message, false),
            None => (self.large.take_if(|large| large.id == id)?, true),
        };
        self.bytes = self.bytes.saturating_sub(found.0.bytes());
        Some(found)
    }

    /// Removes everything that is not wholly sent.
    pub(super) fn drain(&mut self) -> Vec<(Message, bool)> {
        self.bytes = 0;
        let large = self.large.take().map(|large| (large, true));
        let waiting = std::mem::take(&mut self.waiting).into_values().map(|message| (message, false));
        large.into_iter().chain(waiting).collect()
    }

    /// Messages whose deadline is over before they were begun.
    pub(super) fn take_expired(&mut self, now_us: u64) -> Vec<Message> {
        let expired = self.waiting.values().take(SCAN_MAX).filter(|message| message.is_expired(now_us));
        let ids: Vec<u64> = expired.map(|message| message.id).collect();
        ids.into_iter().filter_map(|id| self.remove(id)).map(|(message, _)| message).collect()
    }

    /// The next frame, if there is one that credit and order allow.
    pub(super) fn take(&mut self, piece_bytes: usize, now_us: u64) -> Option<Taken> {
        let large_first = self.large_next;
        self.large_next = !self.large_next;
        if large_first {
            self.take_large(piece_bytes, now_us).or_else(|| self.take_waiting(piece_bytes, now_us))
        } else {
            self.take_waiting(piece_bytes, now_us).or_else(|| self.take_large(piece_bytes, now_us))
        }
    }

    fn take_large(&mut self, piece_bytes: usize, now_us: u64) -> Option<Taken> {
        let frame = self.large.as_ref()?.piece(piece_bytes, now_us);
        if !self.pays(&frame) {
            return None;
        }
        let mut large = self.large.take()?;
        large.sent += frame.body.len();
        let complete = !frame.more;
        if complete {
            self.bytes = self.bytes.saturating_sub(large.bytes());
        } else {
            self.large = Some(large);
        }
        Some(Taken { frame, deadline_us: None, complete })
    }

    fn take_waiting(&mut self, piece_bytes: usize, now_us: u64) -> Option<Taken> {
        let id = self.next_waiting(piece_bytes)?;
        let frame = self.waiting.get(&id)?.piece(piece_bytes, now_us);
        if !self.pays(&frame) {
            return None;
        }
        let mut message = self.waiting.remove(&id)?;
        let deadline_us = message.deadline_us;
        let complete = !frame.more;
        if complete {
            self.bytes = self.bytes.saturating_sub(message.bytes());
        } else {
            message.sent = frame.body.len();
            self.large = Some(message);
        }
        Some(Taken { frame, deadline_us, complete })
    }

    /// The first waiting message that overtakes none of its own entity.
    fn next_waiting(&self, piece_bytes: usize) -> Option<u64> {
        let Some(large) = &self.large else {
            return self.waiting.keys().next().copied();
        };
        let mut held: Vec<&Option<Arc<str>>> = vec![&large.entity];
        for message in self.waiting.values().take(SCAN_MAX) {
            if held.contains(&&message.entity) {
                continue;
            }
            if message.body.len() <= piece_bytes {
                return Some(message.id);
            }
            held.push(&message.entity);
        }
        None
    }

    /// Spends credit for `frame`, if there is enough.
    fn pays(&mut self, frame: &Frame) -> bool {
        let bytes = self.used.bytes.saturating_add(frame.cost());
        let frames = self.used.frames.saturating_add(1);
        let enough = bytes <= self.granted.bytes && frames <= self.granted.frames;
        if enough {
            self.used = Credit { bytes, frames };
        }
        enough
    }
}
