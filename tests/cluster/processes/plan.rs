//! What is done to the nodes and when: drawn from a seed before it begins.

use std::time::Duration;

/// Random numbers from a seed.
///
/// SplitMix64, Steele et al., "Fast splittable pseudorandom number generators" (2014).
#[derive(Clone, Debug)]
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// The seed of this run: `STANCHION_SEED`, or a new one.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("STANCHION_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(super::child::now_ms)
}

/// Whether the full numbers are asked for.
pub(crate) fn campaign() -> bool {
    std::env::var("STANCHION_CAMPAIGN").is_ok_and(|value| value == "1")
}

/// How two nodes are cut off from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Split {
    /// Silent both ways; afterwards everything under way arrives.
    Silent,
    /// Silent from the first to the second only.
    OneWay,
    /// Silent both ways; then the connections break.
    Lost,
    /// Every piece waits.
    Slow,
    /// Connections break, and new ones are refused for a while.
    Refused,
    /// Connections break, and are taken again at once, several times.
    Reconnect,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// SIGKILL; the process comes back on its file after the time. The last number is the clients' process.
    Kill { node: usize },
    /// SIGSTOP, and SIGCONT after the time.
    Stop { node: usize },
    /// Leaves in order; comes back after the time.
    Drain { node: usize },
    /// Two are cut off from each other for the time. The last number is the clients' node.
    Split { between: (usize, usize), how: Split },
    /// One is cut off from everybody.
    Island { node: usize, how: Split },
}

/// When, for how long, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    pub(crate) deed: Deed,
}

/// Time that a process takes to come back, at most, as far as the plan goes: nothing else happens to it meanwhile.
const BACK: u64 = 800;

/// Draws what happens to `nodes` nodes within `length` milliseconds.
pub(crate) fn plan(draw: &mut Draw, nodes: usize, length: u64) -> Vec<Event> {
    let mut events = Vec::new();
    let mut busy = vec![0; nodes + 1];
    let mut at = 200;
    while at < length {
        let node = draw.below(nodes as u64) as usize;
        let how = [Split::Silent, Split::OneWay, Split::Lost, Split::Slow, Split::Refused, Split::Reconnect]
            [draw.below(6) as usize];
        let kind = draw.below(10);
        // Shorter and longer than what the detector takes.
        let lasts = if draw.below(3) == 0 { 1_300 + draw.below(1_000) } else { draw.below(700) };
        let process = kind < 6;
        let victim = draw.below(nodes as u64 + 1) as usize;
        let deed = match kind {
            0..=2 => Deed::Kill { node: victim },
            3 | 4 => Deed::Stop { node },
            5 => Deed::Drain { node },
            6..=8 => {
                // Any other, or the clients.
                let other = (node + 1 + draw.below(nodes as u64) as usize) % (nodes + 1);
                Deed::Split { between: (node, other), how }
            }
            _ => Deed::Island { node, how },
        };
        let node = if kind < 3 { victim } else { node };
        if !process || busy[node] <= at {
            if process {
                busy[node] = at + lasts + BACK;
            }
            events.push(Event { at: Duration::from_millis(at), lasts: Duration::from_millis(lasts), deed });
        }
        at += 150 + draw.below(500);
    }
    events
}

#[test]
fn a_seed_gives_the_same_schedule_again() {
    let drawn = |seed| plan(&mut Draw(seed), 4, 5_000);
    assert_eq!(drawn(7), drawn(7));
    assert_ne!(drawn(7), drawn(8));
}
