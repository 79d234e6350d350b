//! Limiters against models that keep every call: 10^3 operations in a case, 10^5 with `STANCHION_CAMPAIGN=1`.

use proptest::prelude::*;

use super::*;
use crate::ids::Timestamp;

const START: i64 = 1_700_000_000_000_000;

#[derive(Clone, Copy, Debug)]
enum Op {
    /// A call of a key, with its cost.
    Acquire(usize, u32),
    /// Time goes on, in microseconds.
    Wait(i64),
    SetPressure(Pressure),
    /// Other options; the number chooses among some.
    Reconfigure(usize),
    /// The process ends and the limiter is restored.
    Restore,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (0..3usize, 0..4u32).prop_map(|(key, cost)| Op::Acquire(key, cost)),
        6 => (0..400_000i64).prop_map(Op::Wait),
        1 => (0..9_000_000i64).prop_map(Op::Wait),
        1 => prop_oneof![Just(Pressure::Normal), Just(Pressure::Degraded)].prop_map(Op::SetPressure),
        1 => (0..4usize).prop_map(Op::Reconfigure),
        1 => Just(Op::Restore),
    ]
}

fn length() -> usize {
    if std::env::var("STANCHION_CAMPAIGN").is_ok_and(|value| value == "1") { 100_000 } else { 1_000 }
}

const KEYS: [LimitKey<'static>; 3] =
    [LimitKey::new("a", "x"), LimitKey::new("a", "y"), LimitKey::new("b", "x")];

/// What a limiter owes for one key, said simply.
trait Model: Clone {
    /// Options by number, and the model of a key that nobody took from.
    fn options(number: usize) -> LimiterOptions;
    fn new() -> Self;
    /// The present options: their number, and whether half the rate holds.
    fn set(&mut self, number: usize, halved: bool, now: i64);
    fn limit(&self) -> u64;
    fn remaining(&self, now: i64) -> u64;
    fn reset_at(&self, now: i64) -> i64;
    fn take(&mut self, cost: u32, now: i64);
}

/// A window: every admitted call.
#[derive(Clone, Debug)]
struct WindowModel {
    limit: u64,
    window_us: i64,
    taken: Vec<(i64, u32)>,
}

const WINDOWS: [(u32, u64); 4] = [(5, 1_000), (8, 1_000), (3, 1_000), (1, 1_000)];

impl Model for WindowModel {
    fn options(number: usize) -> LimiterOptions {
        let (limit, window_ms) = WINDOWS[number];
        LimiterOptions::sliding(limit, window_ms)
    }
    fn new() -> Self {
        Self { limit: 5, window_us: 1_000_000, taken: vec![] }
    }
    fn set(&mut self, number: usize, halved: bool, _: i64) {
        let limit = u64::from(WINDOWS[number].0);
        self.limit = if halved { (limit / 2).max(1) } else { limit };
    }
    fn limit(&self) -> u64 {
        self.limit
    }
    fn remaining(&self, now: i64) -> u64 {
        let young = self.taken.iter().filter(|(at, _)| at + self.window_us > now);
        self.limit.saturating_sub(young.map(|(_, cost)| u64::from(*cost)).sum())
    }
    fn reset_at(&self, now: i64) -> i64 {
        self.taken.last().map_or(now, |(at, _)| (at + self.window_us).max(now))
    }
    fn take(&mut self, cost: u32, now: i64) {
        if cost > 0 {
            self.taken.push((now, cost));
        }
    }
}

/// A bucket: what is missing in it, in parts of a token that a microsecond fills one or more of.
#[derive(Clone, Debug)]
struct BucketModel {
    burst: i128,
    /// Parts of a token.
    token: i128,
    missing: i128,
    at: i64,
}

/// 2 048 rounded down to a multiple of the rate 7: parts that come in a microsecond.
const PARTS: i128 = 2_044;
const SEVENTH: i128 = PARTS * 1_000_000 / 7;
/// Bursts; all at 7 in a second.
const BURSTS: [u32; 4] = [5, 9, 3, 1];

impl BucketModel {
    fn missing(&self, now: i64) -> i128 {
        (self.missing - i128::from(now - self.at) * PARTS).max(0)
    }
}

impl Model for BucketModel {
    fn options(number: usize) -> LimiterOptions {
        LimiterOptions::per_second(BURSTS[number], 7)
    }
    fn new() -> Self {
        Self { burst: 5, token: SEVENTH, missing: 0, at: START }
    }
    fn set(&mut self, number: usize, halved: bool, now: i64) {
        let token = if halved { SEVENTH * 2 } else { SEVENTH };
        let missing = (self.missing(now) * token + self.token - 1) / self.token;
        let burst = i128::from(BURSTS[number]);
        *self = Self { burst, token, missing: missing.min(burst * token), at: now };
    }
    fn limit(&self) -> u64 {
        self.burst as u64
    }
    fn remaining(&self, now: i64) -> u64 {
        ((self.burst * self.token - self.missing(now)) / self.token) as u64
    }
    fn reset_at(&self, now: i64) -> i64 {
        now + ((self.missing(now) + PARTS - 1) / PARTS) as i64
    }
    fn take(&mut self, cost: u32, now: i64) {
        (self.missing, self.at) = (self.missing(now) + i128::from(cost) * self.token, now);
    }
}

/// Runs the operations on both; the first difference. A model that is wrong on purpose forgets every `forget`th call.
fn compare<M: Model>(ops: &[Op], forget: usize) -> Result<(), String> {
    let halved = |options| LimiterOptions { pressure_factor: 0.5, ..options };
    let mut limiter = Limiter::new("model", halved(M::options(0))).map_err(|error| error.to_string())?;
    let mut models = [0, 1, 2].map(|_| (M::new(), 0, 0));
    let (mut now, mut number, mut pressure, mut calls) = (START, 0, Pressure::Normal, 0);
    for (step, op) in ops.iter().enumerate() {
        match *op {
            Op::Wait(us) => now += us,
            Op::Acquire(key, cost) => {
                let (model, allowed, denied) = &mut models[key];
                let (left, limit) = (model.remaining(now), model.limit());
                // Under a smaller limit more may be used than there is: then even what costs nothing waits.
                let ours = limiter.acquire(KEYS[key], cost, Timestamp(now));
                if cost > 0 && ours.is_ok() != (u64::from(cost) <= left) {
                    return Err(format!("{step}: {op:?} is {ours:?}, left are {left} of {limit}"));
                }
                match ours {
                    Ok(()) => {
                        *allowed += 1;
                        calls += 1;
                        if forget == 0 || calls % forget != 0 {
                            model.take(cost, now);
                        }
                    }
                    Err(refused) => {
                        *denied += 1;
                        retry_after_is_exact(&limiter, KEYS[key], cost, now, &refused)
                            .map_err(|error| format!("{step}: {error}"))?;
                    }
                }
            }
            Op::SetPressure(new) => {
                pressure = new;
                limiter.set_pressure(pressure, Timestamp(now));
                models
                    .iter_mut()
                    .for_each(|(model, ..)| model.set(number, pressure == Pressure::Degraded, now));
            }
            Op::Reconfigure(new) => {
                number = new;
                limiter.reconfigure(halved(M::options(number)), Timestamp(now)).map_err(|e| e.to_string())?;
                models
                    .iter_mut()
                    .for_each(|(model, ..)| model.set(number, pressure == Pressure::Degraded, now));
            }
            Op::Restore => {
                let snapshot = limiter.snapshot(Timestamp(now));
                limiter = Limiter::restore("model", limiter.options(), &snapshot, Timestamp(now))
                    .map_err(|error| error.to_string())?;
                for (model, allowed, denied) in &mut models {
                    if model.reset_at(now) <= now {
                        // A key that has its whole limit is not kept.
                        (*allowed, *denied) = (0, 0);
                    }
                }
            }
        }
        for (key, (model, allowed, denied)) in KEYS.iter().zip(&models) {
            let ours = limiter.status(*key, Timestamp(now));
            let theirs = LimiterStatus {
                remaining: model.remaining(now),
                reset_at: Timestamp(model.reset_at(now)),
                limit: model.limit(),
                denied_total: *denied,
                allowed_total: *allowed,
            };
            if ours != theirs {
                return Err(format!("{step}: after {op:?} {key:?} is {ours:?}, the model says {theirs:?}"));
            }
        }
    }
    Ok(())
}

/// At the time that a refusal names the call is allowed, a microsecond earlier it is not; asked of a copy.
fn retry_after_is_exact(
    limiter: &Limiter,
    key: LimitKey<'_>,
    cost: u32,
    now: i64,
    refused: &Denied,
) -> Result<(), String> {
    let Some(after) = refused.retry_after else {
        let too_much = u64::from(cost) > limiter.status(key, Timestamp(now)).limit;
        return if too_much { Ok(()) } else { Err(format!("{refused:?} for a cost of {cost}")) };
    };
    let ours = limiter.snapshot(Timestamp(now));
    let copy =
        Limiter::restore("copy", limiter.options(), &ours, Timestamp(now)).map_err(|e| e.to_string())?;
    copy.set_pressure(limiter.stats().pressure, Timestamp(now));
    let at = Timestamp(now).after(after);
    let early = copy.acquire(key, cost, Timestamp(at.0 - 1)).is_ok();
    let in_time = copy.acquire(key, cost, at).is_ok();
    if early || !in_time { Err(format!("{refused:?}: early {early}, in time {in_time}")) } else { Ok(()) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_sliding_window_does_what_its_model_does(ops in prop::collection::vec(op(), length())) {
        prop_assert_eq!(compare::<WindowModel>(&ops, 0), Ok(()));
    }

    #[test]
    fn a_token_bucket_does_what_its_model_does(ops in prop::collection::vec(op(), length())) {
        prop_assert_eq!(compare::<BucketModel>(&ops, 0), Ok(()));
    }
}

#[test]
fn a_model_that_forgets_a_call_is_found() {
    let ops = [Op::Acquire(0, 2), Op::Wait(10), Op::Acquire(0, 1), Op::Restore];
    assert_eq!(compare::<WindowModel>(&ops, 0), Ok(()));
    assert!(compare::<WindowModel>(&ops, 2).is_err());
    assert_eq!(compare::<BucketModel>(&ops, 0), Ok(()));
    assert!(compare::<BucketModel>(&ops, 2).is_err());
}

/// The most that was admitted in any window of this length: one that holds the most begins at an admission.
fn densest(admitted: &[i64], window_us: i64) -> usize {
    let count = |from: &i64| admitted.iter().filter(|at| **at >= *from && **at < from + window_us).count();
    admitted.iter().map(count).max().unwrap_or(0)
}

/// Windows that begin at whole multiples of their length: what a sliding window must not be.
fn admitted_by_fixed_windows(arrivals: &[i64], limit: usize, window_us: i64) -> Vec<i64> {
    let mut admitted: Vec<i64> = Vec::new();
    for at in arrivals {
        let window = at.div_euclid(window_us);
        if admitted.iter().filter(|one| one.div_euclid(window_us) == window).count() < limit {
            admitted.push(*at);
        }
    }
    admitted
}

fn admitted_by(options: LimiterOptions, arrivals: &[i64]) -> Vec<i64> {
    let limiter = Limiter::new("trace", options).unwrap();
    arrivals.iter().copied().filter(|at| limiter.acquire(KEYS[0], 1, Timestamp(*at)).is_ok()).collect()
}

proptest! {
    #[test]
    fn in_every_window_at_every_offset_no_more_than_the_limit_is_admitted(
        gaps in prop::collection::vec(prop_oneof![Just(0), 0..2_000i64, 0..200_000i64, 0..3_000_000i64], 1..400),
        limit in 1u32..20, window_ms in 1u64..2_000,
    ) {
        let arrivals: Vec<i64> = gaps.iter().scan(START, |at, gap| { *at += gap; Some(*at) }).collect();
        let window_us = i64::try_from(window_ms * 1_000).unwrap();
        let admitted = admitted_by(LimiterOptions::sliding(limit, window_ms), &arrivals);
        prop_assert!(densest(&admitted, window_us) <= limit as usize);
        // Nor less than it could: what is refused would have been too much.
        for refused in arrivals.iter().filter(|at| !admitted.contains(at)) {
            let before = admitted.iter().filter(|at| **at <= *refused && **at > refused - window_us).count();
            prop_assert_eq!(before, limit as usize);
        }
    }

    #[test]
    fn a_token_bucket_admits_its_burst_and_its_rate_in_any_time(
        gaps in prop::collection::vec(prop_oneof![Just(0), 0..2_000i64, 0..200_000i64], 1..300),
        burst in 1u32..10, rate in 1u32..5_000, per_ms in 1_000u64..9_000,
    ) {
        let arrivals: Vec<i64> = gaps.iter().scan(START, |at, gap| { *at += gap; Some(*at) }).collect();
        let strategy = LimitStrategy::TokenBucket { burst, rate, per_ms };
        let admitted = admitted_by(LimiterOptions::new(strategy), &arrivals);
        for (first, from) in admitted.iter().enumerate() {
            for (last, to) in admitted.iter().enumerate().skip(first) {
                let earned = i128::from(to - from) * i128::from(rate) / (i128::from(per_ms) * 1_000);
                prop_assert!(((last - first) as i128) < i128::from(burst) + earned);
            }
        }
    }
}

#[test]
fn fixed_windows_admit_twice_the_limit_and_are_found() {
    let start = START - START % 1_000_000;
    let arrivals: Vec<i64> =
        (0..10).map(|_| start + 990_000).chain((0..10).map(|_| start + 1_000_000)).collect();
    let fixed = admitted_by_fixed_windows(&arrivals, 10, 1_000_000);
    assert_eq!(densest(&fixed, 1_000_000), 20);
    assert_eq!(densest(&admitted_by(LimiterOptions::sliding(10, 1_000), &arrivals), 1_000_000), 10);
}
