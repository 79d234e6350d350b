//! Budgets against models that keep every operation: 10^3 in a case, 10^5 with `STANCHION_CAMPAIGN=1`.

use proptest::prelude::*;

use super::*;
use crate::ids::Timestamp;

const TTL_MS: u64 = 5_000;
const PART_US: i64 = 500_000;

#[derive(Clone, Copy, Debug)]
enum Op {
    Deposit,
    Withdraw,
    /// Time goes on, in microseconds.
    Wait(i64),
    /// The process ends and the budget is restored.
    Restore,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => Just(Op::Deposit),
        8 => Just(Op::Withdraw),
        4 => (0..300_000i64).prop_map(Op::Wait),
        1 => (0..7_000_000i64).prop_map(Op::Wait),
        1 => Just(Op::Restore),
    ]
}

fn is_campaign() -> bool {
    std::env::var("STANCHION_CAMPAIGN").is_ok_and(|value| value == "1")
}

/// Every operation of the window with the number of its part; tokens in thousandths of a retry.
struct Model {
    reserve: i64,
    earned: i64,
    /// How many parts an operation counts for: ten, or as many as a planted defect says.
    parts: i64,
    paid: Vec<(i64, i64)>,
}

impl Model {
    fn balance(&mut self, now: i64) -> i64 {
        let oldest = now.div_euclid(PART_US) - self.parts;
        self.paid.retain(|(part, _)| *part > oldest);
        self.reserve + self.paid.iter().map(|(_, tokens)| tokens).sum::<i64>()
    }

    fn pay(&mut self, now: i64, tokens: i64) {
        self.paid.push((now.div_euclid(PART_US), tokens));
    }
}

/// Runs the operations on both; the first difference.
fn compare(ops: &[Op], min: u32, ratio_mil: u32, parts: i64) -> Result<(), String> {
    let options = RetryBudgetOptions {
        ttl_ms: TTL_MS,
        min_retries_per_second: min,
        ratio: f64::from(ratio_mil) / 1_000.0,
    };
    let mut budget = RetryBudget::new(options.clone()).map_err(|error| error.to_string())?;
    let reserve = i64::from(min) * 5_000;
    let mut model = Model { reserve, earned: i64::from(ratio_mil), parts, paid: Vec::new() };
    let mut now = 1_700_000_000_000_000;
    for (number, op) in ops.iter().enumerate() {
        match op {
            Op::Deposit => {
                budget.deposit(Timestamp(now));
                model.pay(now, model.earned);
            }
            Op::Withdraw => {
                let allowed = model.balance(now) >= 1_000;
                if budget.try_withdraw(Timestamp(now)).is_ok() != allowed {
                    return Err(format!("operation {number}: the model says {allowed}"));
                }
                if allowed {
                    model.pay(now, -1_000);
                }
            }
            Op::Wait(us) => now += us,
            Op::Restore => {
                budget = RetryBudget::restore(options.clone(), &budget.snapshot())
                    .map_err(|error| error.to_string())?;
            }
        }
        let (ours, theirs) = (budget.stats(Timestamp(now)).available, model.balance(now).max(0) / 1_000);
        if i64::try_from(ours) != Ok(theirs) {
            return Err(format!("operation {number}: {ours} available, the model says {theirs}"));
        }
    }
    Ok(())
}

fn length() -> usize {
    if is_campaign() { 100_000 } else { 1_000 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_budget_does_what_its_model_does(
        ops in prop::collection::vec(op(), length()), min in 0u32..4, ratio_mil in prop_oneof![Just(0), Just(100), 1u32..2_000],
    ) {
        prop_assert_eq!(compare(&ops, min, ratio_mil, 10), Ok(()));
    }

    #[test]
    fn a_throttle_does_what_its_model_does(
        successes in prop::collection::vec(any::<bool>(), length()), max in 1u32..20, ratio_mil in 1u32..3_000,
    ) {
        let options = RetryThrottleOptions { max_tokens: max, token_ratio: f64::from(ratio_mil) / 1_000.0 };
        let throttle = RetryThrottle::new(options).unwrap();
        let most = i64::from(max) * 1_000;
        let mut tokens = most;
        for success in successes {
            tokens = if success {
                throttle.succeeded();
                (tokens + i64::from(ratio_mil)).min(most)
            } else {
                throttle.failed();
                (tokens - 1_000).max(0)
            };
            prop_assert_eq!(i64::try_from(throttle.milli_tokens()), Ok(tokens));
            prop_assert_eq!(throttle.try_withdraw().is_ok(), 2 * tokens > most);
        }
    }
}

#[test]
fn a_model_with_a_window_that_is_too_long_is_found() {
    let ops = [Op::Deposit, Op::Wait(10 * PART_US), Op::Withdraw];
    assert_eq!(compare(&ops, 0, 1_000, 10), Ok(()));
    assert!(compare(&ops, 0, 1_000, 11).is_err());
}
