//! What an entity remembers of command ids: answers of commands in flight, one number per settled origin.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bytes::Bytes;

use crate::{
    error::FailureKind,
    ids::{CommandId, Origin, Timestamp, Version},
    store::{CodecError, DedupOp, DedupRecord, OriginRecord, decode, encode},
};

/// Most places without an answer in use that are kept beside as many as are in use; more are given up.
const SPARE_SLOTS: usize = 16;

/// What is known of a command id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Never seen: run it.
    New,
    /// Ran: this was the reply, visible from this version on.
    Answered(Bytes, Version),
    /// Older than what is remembered.
    Expired,
    /// Seen with another payload.
    Conflict,
}

/// crc32c and length of a payload.
#[must_use]
pub(super) fn fingerprint(payload: &[u8]) -> u64 {
    (u64::from(crc32c::crc32c(payload)) << 32) | (payload.len() as u64 & 0xFFFF_FFFF)
}

#[derive(Debug)]
struct Answer {
    fingerprint: u64,
    reply: Bytes,
    version: Version,
    slot: u32,
}

/// What is known of one origin.
#[derive(Debug, Default)]
struct Known {
    settled_below: u64,
    last_use: Timestamp,
    /// Answers not settled, by number.
    answers: BTreeMap<u64, Answer>,
    /// Places whose stored answer is settled.
    free: Vec<u32>,
    /// Above every place ever used.
    next_slot: u32,
}

impl Known {
    fn settle(&mut self, below: u64) {
        self.settled_below = self.settled_below.max(below);
        while let Some(first) = self.answers.first_entry()
            && *first.key() < self.settled_below
        {
            self.free.push(first.remove().slot);
        }
    }

    fn place(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.next_slot += 1;
            self.next_slot - 1
        })
    }
}

/// A command that was handled, and its reply.
#[derive(Debug)]
pub(super) struct Handled {
    pub(super) id: CommandId,
    pub(super) fingerprint: u64,
    pub(super) reply: Bytes,
    /// The origin has settled all below.
    pub(super) settled_below: u64,
}

/// The memory of one entity.
#[derive(Debug, Default)]
pub(super) struct Dedup {
    origins: HashMap<Origin, Known>,
}

impl Dedup {
    /// From what is stored, as of `version`.
    #[must_use]
    pub(super) fn restore(
        origins: Vec<(Origin, OriginRecord)>,
        answers: Vec<DedupRecord>,
        version: Version,
    ) -> Self {
        let mut dedup = Self::default();
        for (origin, OriginRecord { settled_below, last_use }) in origins {
            dedup.origins.insert(origin, Known { settled_below, last_use, ..Known::default() });
        }
        for DedupRecord { id, fingerprint, reply, slot, settled_below, at } in answers {
            let known = dedup.origins.entry(id.origin).or_default();
            known.settled_below = known.settled_below.max(settled_below);
            known.last_use = known.last_use.max(at);
            known.next_slot = known.next_slot.max(slot + 1);
            known.answers.insert(id.seq, Answer { fingerprint, reply, version, slot });
        }
        for known in dedup.origins.values_mut() {
            known.settle(0);
        }
        dedup
    }

    /// What is known of a client's command. An origin that is unknown and was made before `oldest` is expired:
    /// it may have been forgotten.
    #[must_use]
    pub(super) fn seen(&self, id: &CommandId, fingerprint: u64, oldest: Timestamp) -> Seen {
        let Some(known) = self.origins.get(&id.origin) else {
            return if made_before(&id.origin, oldest) { Seen::Expired } else { Seen::New };
        };
        match known.answers.get(&id.seq) {
            Some(answer) if answer.fingerprint == fingerprint => {
                Seen::Answered(answer.reply.clone(), answer.version)
            }
            Some(_) => Seen::Conflict,
            None if id.seq < known.settled_below => Seen::Expired,
            None => Seen::New,
        }
    }

    /// What is known of a stored command: as [`Self::seen`], but one that was never handled is never expired. Its
    /// client has settled it as soon as it was stored, and calls that overtake it say so.
    #[must_use]
    pub(super) fn seen_stored(&self, id: &CommandId, fingerprint: u64, oldest: Timestamp) -> Seen {
        match self.seen(id, fingerprint, oldest) {
            Seen::Expired if self.origins.contains_key(&id.origin) => Seen::New,
            seen => seen,
        }
    }

    /// Whether a message of `sender` was consumed before. Messages of one sender come in order.
    #[must_use]
    pub(super) fn consumed(&self, sender: &Origin, seq: u64) -> bool {
        self.origins.get(sender).is_some_and(|known| seq < known.settled_below)
    }

    /// Why a message of `sender`, of another node, was refused, and as of which version. A copy of it may still be
    /// under way when its sender has it back: that one must not be handled.
    #[must_use]
    pub(super) fn refused(&self, sender: &Origin, seq: u64) -> Option<(FailureKind, Version)> {
        let answer = self.origins.get(sender)?.answers.get(&seq)?;
        Some((decode(&answer.reply).ok()?, answer.version))
    }

    /// Remembers why a message of `sender` was refused, until a later one is consumed.
    pub(super) fn refuse(
        &mut self,
        id: CommandId,
        payload: &[u8],
        why: &FailureKind,
        version: Version,
        now: Timestamp,
    ) -> Result<Vec<DedupOp>, CodecError> {
        let reply = Bytes::from(encode(why)?);
        let handled = Handled { id, fingerprint: fingerprint(payload), reply, settled_below: id.seq };
        Ok(self.remember(handled, version, now))
    }

    /// Remembers that a message of `sender` is consumed.
    pub(super) fn consume(&mut self, sender: Origin, seq: u64, now: Timestamp) -> DedupOp {
        let record = OriginRecord { settled_below: seq + 1, last_use: now };
        let known = Known { settled_below: seq + 1, last_use: now, ..Known::default() };
        self.origins.insert(sender, known);
        DedupOp::Origin(sender, record)
    }

    /// Remembers a reply, in a place whose answer its origin has settled if there is one.
    pub(super) fn remember(&mut self, handled: Handled, version: Version, now: Timestamp) -> Vec<DedupOp> {
        let Handled { id, fingerprint, reply, settled_below } = handled;
        let known = self.origins.entry(id.origin).or_default();
        known.settle(settled_below);
        known.last_use = now;
        let slot = known.place();
        known.answers.insert(id.seq, Answer { fingerprint, reply: reply.clone(), version, slot });
        let settled_below = known.settled_below;
        let record = DedupRecord { id, fingerprint, reply, slot, settled_below, at: now };
        let mut ops = vec![DedupOp::Remember(record)];
        if known.free.len() > known.answers.len() + SPARE_SLOTS {
            let spare = known.free.len() - SPARE_SLOTS.min(known.free.len());
            ops.extend(known.free.drain(spare..).map(|slot| DedupOp::Forget(id.origin, slot)));
        }
        ops
    }

    /// Forgets client sessions made and last used more than `ttl` ago. Sending entities, here and on other nodes, are
    /// kept: they may send again at any time.
    pub(super) fn expire(&mut self, ttl: Duration, now: Timestamp) -> Vec<DedupOp> {
        let oldest = before(now, ttl);
        let over: Vec<Origin> = self
            .origins
            .iter()
            .filter(|(origin, known)| made_before(origin, oldest) && known.last_use < oldest)
            .map(|(origin, _)| *origin)
            .collect();
        let mut ops = Vec::new();
        for origin in over {
            let Some(known) = self.origins.remove(&origin) else { continue };
            let used = known.answers.into_values().map(|answer| answer.slot);
            ops.extend(known.free.into_iter().chain(used).map(|slot| DedupOp::Forget(origin, slot)));
            ops.push(DedupOp::Drop(origin));
        }
        ops
    }
}

/// `now` less `ttl`.
#[must_use]
pub(super) fn before(now: Timestamp, ttl: Duration) -> Timestamp {
    Timestamp(now.0.saturating_sub(i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX)))
}

/// Whether a session's UUID v7 says it was made before `oldest`. Other UUIDs and entities have no time.
fn made_before(origin: &Origin, oldest: Timestamp) -> bool {
    let Origin::Session(uuid) = origin else { return false };
    uuid.get_timestamp().is_some_and(|made| {
        let (seconds, nanos) = made.to_unix();
        i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000) + i64::from(nanos / 1_000)
            < oldest.0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Timestamp = Timestamp(i64::MIN);

    fn id(seq: u64) -> CommandId {
        CommandId { origin: Origin::Session(uuid::Uuid::from_u128(7)), seq }
    }

    fn answer(seq: u64, settled_below: u64) -> Handled {
        Handled { id: id(seq), fingerprint: seq, reply: Bytes::from(vec![seq as u8]), settled_below }
    }

    #[test]
    fn a_retry_gets_the_first_reply() {
        let mut dedup = Dedup::default();
        dedup.remember(answer(1, 1), Version(1), Timestamp(5));
        assert_eq!(dedup.seen(&id(1), 1, NEVER), Seen::Answered(Bytes::from_static(&[1]), Version(1)));
        assert_eq!(dedup.seen(&id(1), 2, NEVER), Seen::Conflict);
        assert_eq!(dedup.seen(&id(2), 2, NEVER), Seen::New);
    }

    #[test]
    fn a_settled_command_is_expired_and_never_new() {
        let mut dedup = Dedup::default();
        for seq in 1..=40 {
            dedup.remember(answer(seq, seq), Version(seq), Timestamp(5));
        }
        assert_eq!(dedup.seen(&id(1), 1, NEVER), Seen::Expired);
        let remembered: usize = dedup.origins.values().map(|known| known.answers.len()).sum();
        assert_eq!(remembered, 1, "memory is bounded by what is in flight");
        assert!(dedup.origins.values().all(|known| known.next_slot == 1), "and so are the stored rows");
        let kept = dedup.seen(&id(40), 40, NEVER);
        assert!(matches!(kept, Seen::Answered(..)));
    }

    #[test]
    fn a_stored_command_that_calls_overtook_is_still_new() {
        // Its client forgets it once it is stored; a call that is handled before it says that all below is settled.
        let mut dedup = Dedup::default();
        dedup.remember(answer(9, 9), Version(1), Timestamp(5));
        assert_eq!(dedup.seen(&id(4), 4, NEVER), Seen::Expired, "a call of that number");
        assert_eq!(dedup.seen_stored(&id(4), 4, NEVER), Seen::New);
        dedup.remember(answer(4, 2), Version(2), Timestamp(6));
        assert!(matches!(dedup.seen_stored(&id(4), 4, NEVER), Seen::Answered(..)), "its copy is not");
    }

    #[test]
    fn what_is_stored_restores_to_the_same_memory() {
        let mut dedup = Dedup::default();
        let (mut origins, mut answers) = (HashMap::new(), BTreeMap::new());
        for seq in 1..=100_u64 {
            // Now and then many are in flight.
            let settled_below = if seq % 50 < 40 { 0 } else { seq.saturating_sub(3) };
            for op in dedup.remember(answer(seq, settled_below), Version(seq), Timestamp(9)) {
                match op {
                    DedupOp::Remember(record) => drop(answers.insert(record.slot, record)),
                    DedupOp::Origin(origin, record) => drop(origins.insert(origin, record)),
                    DedupOp::Forget(_, slot) => drop(answers.remove(&slot)),
                    DedupOp::Drop(origin) => drop(origins.remove(&origin)),
                }
            }
            let stored = answers.values().cloned().collect();
            let restored = Dedup::restore(origins.clone().into_iter().collect(), stored, Version(seq));
            for asked in 1..=seq + 1 {
                let (live, again) =
                    (dedup.seen(&id(asked), asked, NEVER), restored.seen(&id(asked), asked, NEVER));
                match (live, again) {
                    (Seen::Answered(a, _), Seen::Answered(b, _)) => assert_eq!(a, b),
                    (a, b) => assert_eq!(a, b, "command {asked} after {seq}"),
                }
            }
        }
        assert!(answers.len() <= 2 * SPARE_SLOTS + 4, "rows of a burst are given up: {}", answers.len());
    }

    #[test]
    fn a_refused_message_of_another_node_stays_refused_until_a_later_one_is_consumed() {
        let (mut dedup, origin) = (Dedup::default(), id(0).origin);
        let why = FailureKind::Rejected(Bytes::from_static(b"no"));
        let stored = dedup.refuse(id(5), b"x", &why, Version(1), Timestamp(5)).unwrap();
        let [DedupOp::Remember(record)] = &stored[..] else { panic!("{stored:?}") };
        let restored = Dedup::restore(vec![], vec![record.clone()], Version(1));
        for known in [&dedup, &restored] {
            assert_eq!(known.refused(&origin, 5), Some((why.clone(), Version(1))));
            assert_eq!((known.refused(&origin, 6), known.consumed(&origin, 5)), (None, false));
        }
        let DedupOp::Origin(_, settled) = dedup.consume(origin, 6, Timestamp(6)) else { panic!() };
        let restored = Dedup::restore(vec![(origin, settled)], vec![record.clone()], Version(2));
        for known in [&dedup, &restored] {
            assert_eq!((known.refused(&origin, 5), known.consumed(&origin, 5)), (None, true));
        }
    }

    #[test]
    fn an_unused_session_is_forgotten_whole_and_then_expired() {
        let made = Timestamp(1_000_000_000_000_000);
        let uuid = uuid::Builder::from_unix_timestamp_millis(1_000_000_000_000, &[7; 10]).into_uuid();
        let id = CommandId { origin: Origin::Session(uuid), seq: 1 };
        let mut dedup = Dedup::default();
        let ttl = Duration::from_secs(1);
        let handled = Handled { id, fingerprint: 1, reply: Bytes::new(), settled_below: 1 };
        dedup.remember(handled, Version(1), made);
        assert_eq!(dedup.expire(ttl, made.after(ttl)), vec![], "not yet");
        let later = made.after(ttl * 2);
        assert_eq!(dedup.expire(ttl, later), vec![DedupOp::Forget(id.origin, 0), DedupOp::Drop(id.origin)]);
        assert!(dedup.origins.is_empty());
        assert_eq!(dedup.seen(&id, 1, before(later, ttl)), Seen::Expired, "never run twice");
    }
}
