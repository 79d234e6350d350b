//! Whether what was counted opens a breaker.

use super::{
    BreakerOptions, CLASSES, Cause, ClassRule, FailureClass,
    window::{Record, Tally},
};

/// For each class, how many came without a success between; for `slow`, without a fast call between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Streaks(pub(super) [u32; CLASSES]);

impl Streaks {
    pub(super) fn add(&mut self, record: Record) {
        for (class, streak) in FailureClass::ALL.into_iter().zip(&mut self.0) {
            let ends = if class == FailureClass::Slow { !record.slow } else { record.failure.is_none() };
            if record.is(class) {
                *streak = streak.saturating_add(1);
            } else if ends {
                *streak = 0;
            }
        }
    }

    fn of(&self, class: FailureClass) -> u32 {
        let streaks = FailureClass::ALL.into_iter().zip(self.0);
        streaks.into_iter().find(|(at, _)| *at == class).map_or(0, |(_, streak)| streak)
    }
}

/// Why a closed breaker opens on this window, if it does.
pub(super) fn opens(options: &BreakerOptions, tally: &Tally, streaks: &Streaks) -> Option<Cause> {
    let full = match options.sliding_window_type {
        super::WindowType::CountBased => options.sliding_window_size,
        super::WindowType::TimeBased => u32::MAX,
    };
    let enough = |minimum: u32| tally.calls >= minimum.min(full);
    rates(options, tally).filter(|_| enough(options.minimum_number_of_calls)).or_else(|| {
        broken_rule(options, |class, rule| match rule {
            ClassRule::Count(limit) => tally.of(class) >= limit,
            ClassRule::Consecutive(limit) => streaks.of(class) >= limit,
            ClassRule::Ratio { threshold, minimum_number_of_calls } => {
                enough(minimum_number_of_calls) && reaches(tally.of(class), tally.calls, threshold)
            }
            ClassRule::Never => false,
        })
    })
}

/// Whether no success that is not slow can open a closed breaker whose window holds this, as long as time lets nothing
/// leave. Such a success makes no rate larger and ends every streak; what opens a breaker with it is that the calls
/// have become enough to judge the failures among them.
pub(super) fn success_is_safe(options: &BreakerOptions, tally: &Tally, streaks: &Streaks) -> bool {
    let full = match options.sliding_window_type {
        super::WindowType::CountBased => options.sliding_window_size,
        super::WindowType::TimeBased => u32::MAX,
    };
    let of_rules = options.classes.values().map(|rule| match rule {
        ClassRule::Ratio { minimum_number_of_calls, .. } => *minimum_number_of_calls,
        ClassRule::Count(_) | ClassRule::Consecutive(_) | ClassRule::Never => 0,
    });
    let enough = of_rules.fold(options.minimum_number_of_calls, u32::max).min(full);
    let nothing_wrong = FailureClass::ALL.into_iter().all(|class| tally.of(class) == 0);
    (nothing_wrong || tally.calls >= enough) && opens(options, tally, streaks).is_none()
}

/// Why a half-open breaker opens again, all its probes having an outcome. A rule that asks for more failures than
/// there are probes asks for all of them.
pub(super) fn opens_again(options: &BreakerOptions, tally: &Tally, streaks: &Streaks) -> Option<Cause> {
    rates(options, tally).or_else(|| {
        broken_rule(options, |class, rule| match rule {
            ClassRule::Count(limit) => tally.of(class) >= limit.min(tally.calls),
            ClassRule::Consecutive(limit) => streaks.of(class) >= limit.min(tally.calls),
            ClassRule::Ratio { threshold, .. } => reaches(tally.of(class), tally.calls, threshold),
            ClassRule::Never => false,
        })
    })
}

/// Whether an outcome is an error for a ramp: a failure or a slow call, of a class that may open the breaker.
pub(super) fn is_error(options: &BreakerOptions, record: Record) -> bool {
    let counts = |class| options.classes.get(&class) != Some(&ClassRule::Never);
    record.failure.is_some_and(counts) || (record.slow && counts(FailureClass::Slow))
}

/// Failures that count for the rate over all classes: those of classes without a rule of their own.
pub(super) fn unruled_failures(options: &BreakerOptions, tally: &Tally) -> u32 {
    let unruled = FailureClass::ALL.into_iter().filter(|class| !options.classes.contains_key(class));
    unruled.map(|class| tally.failures(class)).sum()
}

fn rates(options: &BreakerOptions, tally: &Tally) -> Option<Cause> {
    if reaches(unruled_failures(options, tally), tally.calls, options.failure_rate_threshold) {
        return Some(Cause::FailureRate);
    }
    let slow_is_unruled = !options.classes.contains_key(&FailureClass::Slow);
    let slow = tally.of(FailureClass::Slow);
    let reached = slow_is_unruled && reaches(slow, tally.calls, options.slow_call_rate_threshold);
    reached.then_some(Cause::SlowCallRate)
}

fn broken_rule(options: &BreakerOptions, broken: impl Fn(FailureClass, ClassRule) -> bool) -> Option<Cause> {
    let mut rules = options.classes.iter();
    rules.find(|(class, rule)| broken(**class, **rule)).map(|(class, _)| Cause::Class(*class))
}

/// `part / of >= threshold`. The quotient of whole numbers is the nearest float, as is a threshold written in
/// decimals: 55 of 100 reach 0.55.
pub(super) fn reaches(part: u32, of: u32, threshold: f64) -> bool {
    of > 0 && f64::from(part) / f64::from(of) >= threshold
}
