//! What an entity remembers of command ids: answers of commands in flight, one number per settled origin.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bytes::Bytes;

use crate::{
    ids::{CommandId, EntityId, Origin, Timestamp, Version},
    store::{DedupOp, DedupRecord, OriginRecord},
};

/// Settled answers are forgotten in groups of this size, so that most entries carry no forgetting.
const FORGET_GROUP: usize = 16;

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
}

#[derive(Debug)]
struct Known {
    record: OriginRecord,
    answers: BTreeMap<u64, Answer>,
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
        for (origin, record) in origins {
            dedup.origins.insert(origin, Known { record, answers: BTreeMap::new() });
        }
        for DedupRecord { id, fingerprint, reply } in answers {
            let blank = OriginRecord { settled_below: 0, last_use: Timestamp::default() };
            let known =
                dedup.origins.entry(id.origin).or_insert(Known { record: blank, answers: BTreeMap::new() });
            known.answers.insert(id.seq, Answer { fingerprint, reply, version });
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
            None if id.seq < known.record.settled_below => Seen::Expired,
            None => Seen::New,
        }
    }

    /// Whether a message of `sender` was consumed before. Messages of one sender come in order.
    #[must_use]
    pub(super) fn consumed(&self, sender: EntityId, seq: u64) -> bool {
        self.origins.get(&Origin::Entity(sender)).is_some_and(|known| seq < known.record.settled_below)
    }

    /// Remembers that a message of `sender` is consumed.
    pub(super) fn consume(&mut self, sender: EntityId, seq: u64, now: Timestamp) -> DedupOp {
        let origin = Origin::Entity(sender);
        let record = OriginRecord { settled_below: seq + 1, last_use: now };
        self.origins.insert(origin, Known { record, answers: BTreeMap::new() });
        DedupOp::Origin(origin, record)
    }

    /// Remembers a reply, and forgets what its origin has settled.
    pub(super) fn remember(
        &mut self,
        record: DedupRecord,
        version: Version,
        settled_below: u64,
        now: Timestamp,
    ) -> Vec<DedupOp> {
        let origin = record.id.origin;
        let mut ops = Vec::with_capacity(1);
        let fresh = !self.origins.contains_key(&origin);
        let blank = OriginRecord { settled_below: 0, last_use: now };
        let known = self.origins.entry(origin).or_insert(Known { record: blank, answers: BTreeMap::new() });
        known.answers.insert(
            record.id.seq,
            Answer { fingerprint: record.fingerprint, reply: record.reply.clone(), version },
        );
        ops.push(DedupOp::Remember(record));
        let settled: Vec<u64> = known.answers.range(..settled_below).map(|(seq, _)| *seq).collect();
        if settled.len() >= FORGET_GROUP {
            for seq in settled {
                known.answers.remove(&seq);
                ops.push(DedupOp::Forget(CommandId { origin, seq }));
            }
            known.record.settled_below = known.record.settled_below.max(settled_below);
        }
        known.record.last_use = now;
        if fresh || ops.len() > 1 {
            ops.push(DedupOp::Origin(origin, known.record));
        }
        ops
    }

    /// Forgets client sessions made and last used more than `ttl` ago. Sending entities are kept: they may send
    /// again at any time.
    pub(super) fn expire(&mut self, ttl: Duration, now: Timestamp) -> Vec<DedupOp> {
        let oldest = before(now, ttl);
        let over: Vec<Origin> = self
            .origins
            .iter()
            .filter(|(origin, known)| made_before(origin, oldest) && known.record.last_use < oldest)
            .map(|(origin, _)| *origin)
            .collect();
        let mut ops = Vec::new();
        for origin in over {
            let known = self.origins.remove(&origin);
            for seq in known.into_iter().flat_map(|known| known.answers.into_keys()) {
                ops.push(DedupOp::Forget(CommandId { origin, seq }));
            }
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

    fn answer(seq: u64) -> DedupRecord {
        DedupRecord { id: id(seq), fingerprint: seq, reply: Bytes::from(vec![seq as u8]) }
    }

    #[test]
    fn a_retry_gets_the_first_reply() {
        let mut dedup = Dedup::default();
        dedup.remember(answer(1), Version(1), 1, Timestamp(5));
        assert_eq!(dedup.seen(&id(1), 1, NEVER), Seen::Answered(Bytes::from_static(&[1]), Version(1)));
        assert_eq!(dedup.seen(&id(1), 2, NEVER), Seen::Conflict);
        assert_eq!(dedup.seen(&id(2), 2, NEVER), Seen::New);
    }

    #[test]
    fn a_settled_command_is_expired_and_never_new() {
        let mut dedup = Dedup::default();
        for seq in 1..=40 {
            dedup.remember(answer(seq), Version(seq), seq, Timestamp(5));
        }
        assert_eq!(dedup.seen(&id(1), 1, NEVER), Seen::Expired);
        let remembered: usize = dedup.origins.values().map(|known| known.answers.len()).sum();
        assert!(remembered <= FORGET_GROUP + 1, "memory is bounded by what is in flight: {remembered}");
        let kept = dedup.seen(&id(40), 40, NEVER);
        assert!(matches!(kept, Seen::Answered(..)));
    }

    #[test]
    fn what_is_stored_restores_to_the_same_memory() {
        let mut dedup = Dedup::default();
        let (mut origins, mut answers) = (HashMap::new(), BTreeMap::new());
        for seq in 1..=100 {
            for op in dedup.remember(answer(seq), Version(seq), seq.saturating_sub(3), Timestamp(9)) {
                match op {
                    DedupOp::Remember(record) => drop(answers.insert(record.id.seq, record)),
                    DedupOp::Origin(origin, record) => drop(origins.insert(origin, record)),
                    DedupOp::Forget(id) => drop(answers.remove(&id.seq)),
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
    }

    #[test]
    fn an_unused_session_is_forgotten_whole_and_then_expired() {
        let made = Timestamp(1_000_000_000_000_000);
        let uuid = uuid::Builder::from_unix_timestamp_millis(1_000_000_000_000, &[7; 10]).into_uuid();
        let id = CommandId { origin: Origin::Session(uuid), seq: 1 };
        let mut dedup = Dedup::default();
        let ttl = Duration::from_secs(1);
        dedup.remember(DedupRecord { id, fingerprint: 1, reply: Bytes::new() }, Version(1), 1, made);
        assert_eq!(dedup.expire(ttl, made.after(ttl)), vec![], "not yet");
        let later = made.after(ttl * 2);
        assert_eq!(dedup.expire(ttl, later), vec![DedupOp::Forget(id), DedupOp::Drop(id.origin)]);
        assert!(dedup.origins.is_empty());
        assert_eq!(dedup.seen(&id, 1, before(later, ttl)), Seen::Expired, "never run twice");
    }
}
