//! What a link does with what the peer sends.

use bytes::Bytes;

use super::{
    Link,
    event::{End, Fault, LinkEvent, LinkState, Request},
    inbound::Whole,
};
use crate::cluster::frame::{Frame, Head, Hello, Kind, Lane, Nack, NackReason, Packet};

impl Link {
    /// Takes what the peer sent. After a fault the stream is to be closed.
    pub(crate) fn receive(&mut self, packet: Packet, now_us: u64) -> Result<(), Fault> {
        let Packet { head, frames } = packet;
        let late_us = self.transit.excess_us(head.sent_us, now_us);
        self.take_head(&head)?;
        for frame in frames {
            self.take_frame(frame, late_us, now_us)?;
        }
        self.heard_us = now_us;
        if self.stream.as_ref().is_some_and(|stream| stream.heard_hello) {
            self.turn(LinkState::Up);
        }
        Ok(())
    }

    fn take_head(&mut self, head: &Head) -> Result<(), Fault> {
        if head.ack >= self.next_seq {
            return Err(Fault::Ack);
        }
        while self.unacked.front().is_some_and(|sent| sent.frame.seq <= head.ack) {
            if let Some(sent) = self.unacked.pop_front() {
                self.unacked_bytes = self.unacked_bytes.saturating_sub(sent.frame.body.len());
                self.resent = self.resent.saturating_sub(1);
            }
        }
        self.requests.grant(head.requests);
        self.answers.grant(head.answers);
        Ok(())
    }

    fn take_frame(&mut self, frame: Frame, late_us: u64, now_us: u64) -> Result<(), Fault> {
        let heard = self.stream.as_ref().is_some_and(|stream| stream.heard_hello);
        if (frame.kind == Kind::Hello) == heard {
            return Err(Fault::Greeting);
        }
        match frame.kind {
            Kind::Hello => self.greet(&frame.body),
            Kind::Goodbye => {
                self.events.push_back(LinkEvent::Goodbye);
                Ok(())
            }
            Kind::Call
            | Kind::Cast
            | Kind::Reply
            | Kind::Nack
            | Kind::Durable
            | Kind::Gossip
            | Kind::Void => self.take_numbered(frame, late_us, now_us),
        }
    }

    fn greet(&mut self, body: &[u8]) -> Result<(), Fault> {
        let hello: Hello = stanchion_actors::store::decode(body).map_err(|_| Fault::Greeting)?;
        self.peer_message_max = usize::try_from(hello.message_max_bytes).unwrap_or(usize::MAX);
        if let Some(stream) = &mut self.stream {
            stream.heard_hello = true;
        }
        self.events.push_back(LinkEvent::Greeted(hello));
        Ok(())
    }

    fn take_numbered(&mut self, frame: Frame, late_us: u64, now_us: u64) -> Result<(), Fault> {
        if frame.seq <= self.last_received {
            self.stats.duplicates += 1;
            self.owe_ack(now_us);
            return Ok(());
        }
        if frame.seq != self.last_received + 1 {
            return Err(Fault::Gap);
        }
        let deadline_us = frame.deadline_us.map(|left| now_us.saturating_add(left.saturating_sub(late_us)));
        let message_max = self.limits.message_max_bytes;
        let seq = frame.seq;
        let whole = match frame.kind.lane() {
            Some(Lane::Requests) => self.requests_in.accept(frame, deadline_us, message_max)?,
            Some(Lane::Answers) => self.answers_in.accept(frame, None, message_max)?,
            None => {
                self.requests_in.withdrawn(frame.id, frame.total)?;
                None
            }
        };
        self.last_received = seq;
        self.stats.frames_received += 1;
        self.owe_ack(now_us);
        if let Some(whole) = whole {
            self.deliver(whole, now_us);
        }
        Ok(())
    }

    fn owe_ack(&mut self, now_us: u64) {
        self.ack_owed_frames += 1;
        self.ack_owed_us.get_or_insert(now_us);
    }

    fn deliver(&mut self, whole: Whole, now_us: u64) {
        let Whole { kind, id, entity, deadline_us, traceparent, body, cost } = whole;
        match kind {
            Kind::Reply | Kind::Nack => {
                self.answers_in.release(cost);
                self.end_by_answer(kind, id, body);
            }
            _ if deadline_us.is_some_and(|deadline| deadline <= now_us) => {
                self.stats.expired_in += 1;
                self.handling.insert(id, cost);
                if matches!(kind, Kind::Call | Kind::Durable) {
                    self.answer(id, Err(Nack::new(NackReason::Expired, "the deadline passed under way")));
                } else {
                    self.finished(id);
                }
            }
            _ => {
                self.handling.insert(id, cost);
                let request = Request { kind, id, entity, deadline_us, traceparent, body };
                self.events.push_back(LinkEvent::Request(request));
            }
        }
    }

    fn end_by_answer(&mut self, kind: Kind, id: u64, body: Bytes) {
        if self.open.remove(&id).is_none() {
            return;
        }
        let unreadable = || Nack::new(NackReason::Unknown, "the refusal cannot be read");
        let end = match kind {
            Kind::Reply => End::Reply(body),
            _ => End::Nack(stanchion_actors::store::decode(&body).unwrap_or_else(|_| unreadable())),
        };
        self.events.push_back(LinkEvent::Ended(id, end));
    }
}
