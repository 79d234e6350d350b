//! The delays against their formulas and laws (RT-1).

use super::*;
use proptest::prelude::*;

/// xorshift64*: enough chance for a law, the same on every machine.
pub(super) struct Draws(pub(super) u64);

impl Draws {
    pub(super) fn next(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Largest distance between the empirical distribution and the uniform law on `[low, high]`.
fn ks_distance(mut samples: Vec<f64>, low: f64, high: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let n = samples.len() as f64;
    samples.iter().enumerate().fold(0.0_f64, |worst, (i, x)| {
        let law = ((x - low) / (high - low)).clamp(0.0, 1.0);
        worst.max((law - i as f64 / n).abs()).max(((i as f64 + 1.0) / n - law).abs())
    })
}

/// Critical value of the Kolmogorov-Smirnov test at one in a thousand for 10 000 samples.
const KS_LIMIT: f64 = 1.95 / 100.0;

fn policy(jitter: Jitter) -> RetryPolicy {
    RetryPolicy {
        max_attempts: 10,
        initial_interval_ms: 100,
        maximum_interval_ms: Some(10_000),
        jitter,
        ..RetryPolicy::default()
    }
}

fn samples(jitter: Jitter, failures: u32, previous_us: Option<u64>) -> Vec<f64> {
    let mut draws = Draws(0x5EED);
    (0..10_000).map(|_| policy(jitter).delay_us(failures, previous_us, draws.next()) as f64).collect()
}

#[test]
fn exponential_delays_double_up_to_the_cap() {
    let delays: Vec<u64> = (1..=9).map(|n| policy(Jitter::None).delay_us(n, None, 0.3)).collect();
    assert_eq!(
        delays,
        [100_000, 200_000, 400_000, 800_000, 1_600_000, 3_200_000, 6_400_000, 10_000_000, 10_000_000]
    );
}

#[test]
fn a_coefficient_of_one_is_a_fixed_delay() {
    let fixed = RetryPolicy { backoff_coefficient: 1.0, ..policy(Jitter::None) };
    assert!((1..50).all(|n| fixed.delay_us(n, None, 0.9) == 100_000));
}

#[test]
fn linear_delays_grow_by_the_interval_up_to_the_cap() {
    let linear = RetryPolicy { maximum_interval_ms: Some(350), ..RetryPolicy::linear(100) };
    let delays: Vec<u64> = (1..=5).map(|n| linear.delay_us(n, None, 0.7)).collect();
    assert_eq!(delays, [100_000, 200_000, 300_000, 350_000, 350_000]);
    assert_eq!(linear.delay_us(1_000_000, None, 0.0), 350_000);
}

#[test]
fn without_a_maximum_the_cap_is_a_hundred_times_the_initial_interval() {
    let open = RetryPolicy { maximum_interval_ms: None, ..policy(Jitter::None) };
    assert_eq!(open.delay_us(1_000_000, None, 0.0), 10_000_000);
}

#[test]
fn jitter_follows_its_law() {
    let d = 800_000.0; // after the fourth failure
    assert!(ks_distance(samples(Jitter::Full, 4, None), 0.0, d) < KS_LIMIT);
    assert!(ks_distance(samples(Jitter::Equal, 4, None), d / 2.0, d) < KS_LIMIT);
    assert!(ks_distance(samples(Jitter::Fraction(0.25), 4, None), d * 0.75, d) < KS_LIMIT);
    assert!(ks_distance(samples(Jitter::Around(0.25), 4, None), d * 0.75, d * 1.25) < KS_LIMIT);
    let decorrelated = samples(Jitter::Decorrelated, 4, Some(500_000));
    assert!(ks_distance(decorrelated, 100_000.0, 1_500_000.0) < KS_LIMIT);
}

#[test]
fn the_law_test_rejects_another_law() {
    assert!(ks_distance(samples(Jitter::Equal, 4, None), 0.0, 800_000.0) > KS_LIMIT);
    assert!(ks_distance(samples(Jitter::Full, 4, None), 0.0, 840_000.0) > KS_LIMIT);
}

proptest! {
    #[test]
    fn a_delay_never_exceeds_the_longest(
        initial in 1u64..=u64::MAX, cap in proptest::option::of(1u64..=u64::MAX), coefficient in 1.0f64..1e300,
        failures in prop_oneof![1u32..100, Just(1_000_000), Just(u32::MAX)], previous in proptest::option::of(any::<u64>()),
        draw in any::<f64>(), which in 0usize..6, linear in any::<bool>(),
    ) {
        let jitter = [Jitter::None, Jitter::Full, Jitter::Equal, Jitter::Decorrelated, Jitter::Fraction(0.5), Jitter::Around(0.5)][which];
        let policy = RetryPolicy {
            initial_interval_ms: initial, maximum_interval_ms: cap, backoff_coefficient: coefficient, jitter,
            growth: if linear { Growth::Linear } else { Growth::Exponential },
            ..RetryPolicy::default()
        };
        let delay = policy.delay_us(failures, previous, draw);
        prop_assert!(delay <= policy.longest_us());
        if !matches!(jitter, Jitter::Around(_)) {
            prop_assert!(delay <= policy.cap_us());
        }
    }
}
