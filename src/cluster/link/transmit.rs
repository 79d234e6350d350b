//! What a link has to say, packet by packet.

use bytes::Bytes;

use super::{
    Link, Sent, empty,
    event::{End, LinkEvent},
    micros, write,
};
use crate::cluster::frame::{Credit, Frame, Head, Kind, Packet, StreamToken};

impl Link {
    /// The next packet for the stream, if there is something to say. To be asked until there is nothing.
    pub(crate) fn transmit(&mut self, now_us: u64) -> Option<Packet> {
        let stream = self.stream.as_mut()?;
        let (token, heard) = (stream.token, stream.heard_hello);
        let mut frames = Vec::new();
        if !stream.said_hello {
            stream.said_hello = true;
            frames.push(Frame::new(Kind::Hello, 0, write(&self.hello)));
        }
        if heard {
            self.fill(&mut frames, now_us);
        }
        if frames.is_empty() && now_us < self.due_us() {
            return None;
        }
        Some(Packet { head: self.head(token, now_us), frames })
    }

    /// Says goodbye on the stream.
    pub(crate) fn goodbye(&mut self, now_us: u64) -> Option<Packet> {
        let token = self.stream.as_ref()?.token;
        Some(Packet {
            head: self.head(token, now_us),
            frames: vec![Frame::new(Kind::Goodbye, 0, Bytes::new())],
        })
    }

    fn head(&mut self, token: StreamToken, now_us: u64) -> Head {
        self.said_us = now_us;
        self.ack_owed_us = None;
        self.ack_owed_frames = 0;
        let window = self.window();
        Head {
            token,
            sent_us: now_us,
            ack: self.last_received,
            requests: self.requests_in.announce(window),
            answers: self.answers_in.announce(window),
        }
    }

    pub(super) fn window(&self) -> Credit {
        Credit { bytes: self.limits.window_bytes, frames: self.limits.window_frames }
    }

    /// When a packet without frames is due: heartbeat, acknowledgement or credit.
    pub(super) fn due_us(&self) -> u64 {
        let window = self.window();
        let owes = self.requests_in.owes_credit(window) || self.answers_in.owes_credit(window);
        if owes || self.ack_owed_frames > window.frames / 4 {
            return 0;
        }
        let ack = self.ack_owed_us.map(|since| since.saturating_add(micros(self.limits.ack_delay)));
        let heartbeat = self.said_us.saturating_add(micros(self.limits.heartbeat));
        ack.map_or(heartbeat, |ack| ack.min(heartbeat))
    }

    fn fill(&mut self, frames: &mut Vec<Frame>, now_us: u64) {
        let mut bytes = 0;
        while bytes < self.limits.packet_bytes {
            let Some(frame) = self.next_frame(now_us) else {
                break;
            };
            bytes += frame.body.len() + 128;
            frames.push(frame);
        }
    }

    fn next_frame(&mut self, now_us: u64) -> Option<Frame> {
        if let Some(sent) = self.unacked.get_mut(self.resent) {
            self.resent += 1;
            self.stats.frames_resent += 1;
            return Some(again(sent, &mut self.unacked_bytes, now_us));
        }
        if let Some(id) = self.voids.pop_front() {
            return Some(self.number(Frame::new(Kind::Void, id, Bytes::new()), None));
        }
        for message in self.requests.take_expired(now_us) {
            self.stats.expired_out += 1;
            if self.open.remove(&message.id).is_some() {
                self.events.push_back(LinkEvent::Ended(message.id, End::Expired));
            }
        }
        let piece_bytes = self.limits.piece_bytes;
        if let Some(taken) = self.answers.take(piece_bytes, now_us) {
            if taken.complete {
                self.finished(taken.frame.id);
            }
            return Some(self.number(taken.frame, None));
        }
        let taken = self.requests.take(piece_bytes, now_us)?;
        if let Some(open) = self.open.get_mut(&taken.frame.id).filter(|_| taken.complete) {
            open.sent = true;
        }
        Some(self.number(taken.frame, taken.deadline_us))
    }

    fn number(&mut self, mut frame: Frame, deadline_us: Option<u64>) -> Frame {
        frame.seq = self.next_seq;
        self.next_seq += 1;
        self.stats.frames_sent += 1;
        self.unacked_bytes += frame.body.len();
        self.unacked.push_back(Sent { frame: frame.clone(), deadline_us });
        self.resent += 1;
        frame
    }
}

/// The frame to be sent again: what is left of its deadline changes, and one that expired goes empty.
fn again(sent: &mut Sent, unacked_bytes: &mut usize, now_us: u64) -> Frame {
    if let Some(deadline) = sent.deadline_us {
        sent.frame.deadline_us = Some(deadline.saturating_sub(now_us));
        if deadline <= now_us && !sent.frame.more {
            *unacked_bytes = unacked_bytes.saturating_sub(sent.frame.body.len());
            empty(sent);
        }
    }
    sent.frame.clone()
}
