//! What arrives in one lane: credit given and taken, large messages put together.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::Fault;
use crate::cluster::frame::{Credit, Frame, Kind};

/// A whole message that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) kind: Kind,
    pub(super) id: u64,
    pub(super) entity: Option<Arc<str>>,
    /// On our own clock.
    pub(super) deadline_us: Option<u64>,
    pub(super) traceparent: Option<Arc<str>>,
    pub(super) body: Bytes,
    /// What is to be released once it is done with.
    pub(super) cost: Credit,
}

/// The pieces of a message so far.
#[derive(Debug)]
struct Partial {
    whole: Whole,
    body: BytesMut,
    total: usize,
}

/// One lane of a link, inwards.
#[derive(Debug, Default)]
pub(super) struct LaneIn {
    received: Credit,
    released: Credit,
    announced: Credit,
    partial: Option<Partial>,
}

impl LaneIn {
    /// What the peer may have sent in all, to be put into a packet.
    pub(super) fn announce(&mut self, window: Credit) -> Credit {
        self.announced = self.limit(window);
        self.announced
    }

    /// Whether so much was released that the peer should hear of it.
    pub(super) fn owes_credit(&self, window: Credit) -> bool {
        let limit = self.limit(window);
        limit.bytes.saturating_sub(self.announced.bytes) > window.bytes / 2
            || limit.frames.saturating_sub(self.announced.frames) > window.frames / 2
    }

    fn limit(&self, window: Credit) -> Credit {
        Credit {
            bytes: self.released.bytes.saturating_add(window.bytes),
            frames: self.released.frames.saturating_add(window.frames),
        }
    }

    /// Gives the peer back what a message held.
    pub(super) fn release(&mut self, cost: Credit) {
        self.released.bytes = self.released.bytes.saturating_add(cost.bytes);
        self.released.frames = self.released.frames.saturating_add(cost.frames);
    }

    /// Bytes held for a message that is not whole.
    pub(super) fn partial_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.body.len())
    }

    /// Forgets the pieces of message `id`; `cost` is what the withdrawn frame took, if it stands for one.
    pub(super) fn withdrawn(&mut self, id: u64, cost: Option<u64>) -> Result<(), Fault> {
        self.partial.take_if(|partial| partial.whole.id == id);
        if let Some(bytes) = cost {
            let cost = Credit { bytes, frames: 1 };
            self.pay(cost)?;
            self.release(cost);
        }
        Ok(())
    }

    fn pay(&mut self, cost: Credit) -> Result<(), Fault> {
        let bytes = self.received.bytes.saturating_add(cost.bytes);
        let frames = self.received.frames.saturating_add(cost.frames);
        if bytes > self.announced.bytes || frames > self.announced.frames {
            return Err(Fault::Credit);
        }
        self.received = Credit { bytes, frames };
        Ok(())
    }

    /// Takes a numbered frame; `deadline_us` is on our own clock.
    pub(super) fn accept(
        &mut self,
        frame: Frame,
        deadline_us: Option<u64>,
        message_max: usize,
    ) -> Result<Option<Whole>, Fault> {
        let cost = Credit { bytes: frame.cost(), frames: 1 };
        self.pay(cost)?;
        match self.partial.take() {
            Some(partial) if partial.whole.id == frame.id => self.join(partial, frame, cost),
            Some(partial) if frame.more => {
                self.partial = Some(partial);
                Err(Fault::Pieces)
            }
            partial => {
                self.partial = partial;
                self.begin(frame, deadline_us, cost, message_max)
            }
        }
    }

    fn begin(
        &mut self,
        frame: Frame,
        deadline_us: Option<u64>,
        cost: Credit,
        message_max: usize,
    ) -> Result<Option<Whole>, Fault> {
        let (kind, id, entity, traceparent) = (frame.kind, frame.id, frame.entity, frame.traceparent);
        let whole = Whole { kind, id, entity, deadline_us, traceparent, body: frame.body, cost };
        if !frame.more {
            return if whole.body.len() > message_max { Err(Fault::Size) } else { Ok(Some(whole)) };
        }
        let total = frame.total.and_then(|total| usize::try_from(total).ok()).ok_or(Fault::Pieces)?;
        if total > message_max {
            return Err(Fault::Size);
        }
        let body = BytesMut::from(whole.body.as_ref());
        self.release(cost);
        let whole = Whole { body: Bytes::new(), cost: Credit::default(), ..whole };
        self.partial = Some(Partial { whole, body, total });
        Ok(None)
    }

    fn join(&mut self, mut partial: Partial, frame: Frame, cost: Credit) -> Result<Option<Whole>, Fault> {
        partial.body.extend_from_slice(&frame.body);
        let (have, total) = (partial.body.len(), partial.total);
        if frame.kind != partial.whole.kind || have > total || (!frame.more && have != total) {
            return Err(Fault::Pieces);
        }
        if frame.more {
            self.release(cost);
            self.partial = Some(partial);
            return Ok(None);
        }
        Ok(Some(Whole { body: partial.body.freeze(), cost, ..partial.whole }))
    }
}
