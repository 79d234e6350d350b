//! Two links over a simulated network that loses what is under way when a stream breaks, against a simple oracle.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::cluster::frame::Packet;

/// A small deterministic generator (SplitMix64).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// What must hold for the requests of one direction.
#[derive(Default)]
struct Oracle {
    offered: BTreeMap<u64, (Kind, Arc<str>)>,
    delivered: BTreeSet<u64>,
    last: BTreeMap<Arc<str>, u64>,
    ended: BTreeMap<u64, End>,
    withdrawn: BTreeSet<u64>,
    not_sent: BTreeSet<u64>,
}

impl Oracle {
    fn deliver(&mut self, id: u64) -> Result<(), String> {
        let Some((_, entity)) = self.offered.get(&id) else {
            return Err(format!("{id} was never offered"));
        };
        if !self.delivered.insert(id) {
            return Err(format!("{id} was delivered twice"));
        }
        if self.not_sent.contains(&id) {
            return Err(format!("{id} ended as not sent, and was delivered"));
        }
        match self.last.insert(entity.clone(), id) {
            Some(before) if before > id => Err(format!("{id} for {entity} came after {before}")),
            _ => Ok(()),
        }
    }

    fn end(&mut self, id: u64, end: End) -> Result<(), String> {
        let applied = self.delivered.contains(&id);
        if matches!(end, End::NotSent | End::Expired) {
            self.not_sent.insert(id);
            if applied {
                return Err(format!("{id} ended as not sent after it was delivered"));
            }
        }
        match self.ended.insert(id, end) {
            Some(before) => Err(format!("{id} ended twice, first as {before:?}")),
            None if self.withdrawn.contains(&id) => Err(format!("{id} ended after it was withdrawn")),
            None => Ok(()),
        }
    }

    /// Everything offered has had its one end; casts were all delivered, but for `dropped`.
    fn settled(&self, dropped: u64) -> Result<(), String> {
        let asked = |kind: Kind| matches!(kind, Kind::Call | Kind::Durable);
        let open = self.offered.iter().filter(|(id, (kind, _))| {
            asked(*kind) && !self.ended.contains_key(id) && !self.withdrawn.contains(id)
        });
        if let Some((id, (kind, _))) = open.into_iter().next() {
            return Err(format!("{kind:?} {id} has no end"));
        }
        let casts = self.offered.iter().filter(|(_, (kind, _))| !asked(*kind));
        let missing = casts.filter(|(id, _)| !self.delivered.contains(id)).count() as u64;
        if missing == dropped {
            Ok(())
        } else {
            Err(format!("{missing} casts are missing, {dropped} were dropped"))
        }
    }
}

struct Side {
    link: Link,
    oracle: Oracle,
    /// Requests of the peer that are not answered.
    work: Vec<Request>,
    /// When callers stop waiting.
    deadlines: BTreeMap<u64, u64>,
    /// What is under way to the peer.
    wire: VecDeque<Packet>,
}

impl Side {
    fn give_up(&mut self, id: u64) -> Result<(), String> {
        let end = self.link.withdraw(id);
        self.oracle.end(id, end)?;
        self.oracle.withdrawn.insert(id);
        Ok(())
    }

    /// Callers whose deadline is over wait no longer.
    fn pass_deadlines(&mut self, now: u64) -> Result<(), String> {
        let over = self.deadlines.iter().filter(|(_, deadline)| **deadline + 100_000 < now);
        for id in over.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.deadlines.remove(&id);
            if self.link.open.contains_key(&id) {
                self.give_up(id)?;
            }
        }
        Ok(())
    }
}

struct World {
    sides: [Side; 2],
    now: u64,
    draw: Draw,
    limits: Arc<LinkLimits>,
    streams: u128,
}

impl World {
    fn new(seed: u64) -> Self {
        let limits = Arc::new(LinkLimits {
            message_max_bytes: 40_000,
            queue_max_bytes: 80_000,
            queue_max_messages: 200,
            window_bytes: 12_000,
            window_frames: 16,
            piece_bytes: 1_000,
            packet_bytes: 3_000,
            ..LinkLimits::default()
        });
        let side = |node: &str| {
            let hello = Hello {
                versions: (1, 1),
                node: node.into(),
                incarnation: (1, 1),
                message_max_bytes: 40_000,
                capabilities: vec![],
            };
            let link = Link::new(limits.clone(), hello, 0);
            Side {
                link,
                oracle: Oracle::default(),
                work: vec![],
                deadlines: BTreeMap::new(),
                wire: VecDeque::new(),
            }
        };
        Self { sides: [side("a"), side("b")], now: 0, draw: Draw(seed), limits: limits.clone(), streams: 0 }
    }

    fn connect(&mut self) {
        self.streams += 1;
        for side in &mut self.sides {
            side.wire.clear();
            side.link.attach(self.streams, self.now);
        }
    }

    fn cut(&mut self) {
        for side in &mut self.sides {
            side.wire.clear();
            side.link.detach();
        }
    }

    fn step(&mut self) -> Result<(), String> {
        let at = usize::from(self.draw.below(2) == 1);
        match self.draw.below(100) {
            0..=24 => self.offer(at),
            25..=49 => self.transmit(at),
            50..=79 => self.carry(at)?,
            80..=91 => self.work(at),
            92..=93 => self.withdraw(at)?,
            94 => self.cut(),
            95..=97 if self.sides[0].link.stream.is_none() => self.connect(),
            98 => self.now += self.draw.below(3_000_000),
            _ => self.now += self.draw.below(30_000),
        }
        self.look()
    }

    fn offer(&mut self, at: usize) {
        let kind = [Kind::Call, Kind::Cast, Kind::Durable][self.draw.below(3) as usize];
        let entity: Arc<str> = format!("e{}", self.draw.below(4)).into();
        let size = if self.draw.below(12) == 0 { self.draw.below(40_000) } else { self.draw.below(900) };
        let deadline_us = (kind == Kind::Call).then(|| self.now + self.draw.below(4_000_000));
        let body = vec![0; size as usize].into();
        let out = Outgoing { kind, entity: Some(entity.clone()), deadline_us, traceparent: None, body };
        let side = &mut self.sides[at];
        if let Ok(id) = side.link.offer(out) {
            side.oracle.offered.insert(id, (kind, entity));
            side.deadlines.extend(deadline_us.map(|deadline| (id, deadline)));
        }
    }

    fn transmit(&mut self, at: usize) {
        let side = &mut self.sides[at];
        side.link.tick(self.now);
        side.wire.extend(side.link.transmit(self.now));
    }

    fn carry(&mut self, at: usize) -> Result<(), String> {
        let Some(packet) = self.sides[at].wire.pop_front() else {
            return Ok(());
        };
        let packet = crate::cluster::frame::decode(crate::cluster::frame::encode(&packet).into());
        let packet = packet.map_err(|error| error.to_string())?;
        self.sides[1 - at].link.receive(packet, self.now).map_err(|fault| fault.to_string())
    }

    fn work(&mut self, at: usize) {
        let side = &mut self.sides[at];
        if side.work.is_empty() {
            return;
        }
        let request = side.work.swap_remove(self.draw.below(side.work.len() as u64) as usize);
        match request.kind {
            Kind::Call | Kind::Durable => {
                side.link.answer(request.id, Ok(vec![1; self.draw.below(3_000) as usize].into()));
            }
            _ => side.link.finished(request.id),
        }
    }

    fn withdraw(&mut self, at: usize) -> Result<(), String> {
        let side = &mut self.sides[at];
        let open: Vec<u64> = side.link.open.keys().copied().collect();
        let Some(id) = open.get(self.draw.below(open.len().max(1) as u64) as usize).copied() else {
            return Ok(());
        };
        side.give_up(id)
    }

    /// Takes what happened, and checks the bounds.
    fn look(&mut self) -> Result<(), String> {
        for at in 0..2 {
            while let Some(event) = self.sides[at].link.poll_event() {
                match event {
                    LinkEvent::Request(request) => {
                        self.sides[1 - at].oracle.deliver(request.id)?;
                        self.sides[at].work.push(request);
                    }
                    LinkEvent::Ended(id, end) => self.sides[at].oracle.end(id, end)?,
                    LinkEvent::State(LinkState::Lost) => self.cut(),
                    LinkEvent::State(_) | LinkEvent::Greeted(_) | LinkEvent::Goodbye => {}
                }
            }
            let now = self.now;
            self.sides[at].pass_deadlines(now)?;
            let held = self.sides[at].link.held_bytes();
            let most = 2 * self.limits.queue_max_bytes + 2 * self.limits.message_max_bytes;
            if held > most {
                return Err(format!("holds {held} bytes"));
            }
            let in_work: usize = self.sides[at].work.iter().map(|request| request.body.len()).sum();
            if in_work > self.limits.window_bytes as usize + 16 * self.limits.message_max_bytes {
                return Err(format!("{in_work} bytes in work"));
            }
        }
        Ok(())
    }

    /// A network without faults, until nothing is left to do.
    fn heal(&mut self) -> Result<(), String> {
        self.cut();
        self.look()?;
        self.connect();
        for _ in 0..20_000 {
            for at in 0..2 {
                self.transmit(at);
                self.carry(at)?;
                self.work(at);
            }
            self.look()?;
            self.now += 1_000;
            if self.sides.iter().all(|side| side.link.held_bytes() == 0 && side.link.open.is_empty()) {
                return self.sides.iter().try_for_each(|side| {
                    // A cast whose peer was lost before it was sent is dropped and counted; casts have no deadline.
                    side.oracle.settled(side.link.stats().dropped)
                });
            }
        }
        Err("does not come to rest".to_owned())
    }
}

fn run(seed: u64) -> Result<LinkStats, String> {
    let mut world = World::new(seed);
    world.connect();
    for _ in 0..3_000 {
        world.step()?;
    }
    world.heal()?;
    Ok(world.sides[0].link.stats())
}

#[test]
fn each_request_is_delivered_once_in_order_and_ends_once_over_a_network_that_breaks() {
    let seeds = if std::env::var_os("STANCHION_CAMPAIGN").is_some() { 10_000 } else { 150 };
    let (mut resent, mut duplicates, mut expired) = (0, 0, 0);
    for seed in 0..seeds {
        match run(seed) {
            Ok(stats) => {
                resent += stats.frames_resent;
                duplicates += stats.duplicates;
                expired += stats.expired_in + stats.expired_out;
            }
            Err(fault) => panic!("seed {seed}: {fault}"),
        }
    }
    assert!(resent > 0 && expired > 0, "the network was too kind: {resent} {duplicates} {expired}");
}

#[test]
fn the_oracle_finds_what_is_delivered_twice_out_of_order_or_never() {
    let mut oracle = Oracle::default();
    for id in 1..=3 {
        oracle.offered.insert(id, (Kind::Cast, "e".into()));
    }
    assert_eq!(oracle.deliver(2), Ok(()));
    assert!(oracle.deliver(2).is_err());
    assert!(oracle.deliver(1).is_err());
    assert!(oracle.settled(0).is_err());
    oracle.offered.insert(4, (Kind::Call, "e".into()));
    assert!(oracle.settled(1).is_err());
    assert_eq!(oracle.deliver(4), Ok(()));
    assert!(oracle.end(4, End::NotSent).is_err(), "it was delivered");
    assert_eq!(oracle.end(6, End::Lost), Ok(()));
    assert!(oracle.end(6, End::Lost).is_err(), "it ended twice");
    oracle.withdrawn.insert(5);
    assert!(oracle.end(5, End::Lost).is_err());
}
