//! Resources against a model that keeps every token: 10^3 operations in a case, 10^5 with `STANCHION_CAMPAIGN=1`.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Op {
    Take(u64),
    Drop(usize),
    Observe(u64),
    Limit(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..40u64).prop_map(Op::Take),
        5 => any::<usize>().prop_map(Op::Drop),
        2 => (0..140u64).prop_map(Op::Observe),
        1 => (0..150u64).prop_map(Op::Limit),
    ]
}

fn length() -> usize {
    if std::env::var("STANCHION_CAMPAIGN").is_ok_and(|value| value == "1") { 100_000 } else { 1_000 }
}

/// Amounts with whether they were taken since the last measurement.
#[derive(Default)]
struct Model {
    held: Vec<(u64, bool)>,
    measured: u64,
    /// A planted defect: what was taken since the measurement is not added to it.
    forgets_since: bool,
}

impl Model {
    fn used(&self) -> u64 {
        let all: u64 = self.held.iter().map(|(amount, _)| amount).sum();
        let since = self.held.iter().filter(|(_, since)| *since && !self.forgets_since);
        all.max(self.measured + since.map(|(amount, _)| amount).sum::<u64>())
    }
}

/// Runs the operations on both; the first difference.
fn compare(ops: &[Op], mut model: Model) -> Result<(), String> {
    let options = ResourceOptions { limits: [(Resource::Memory, 100)].into(), high_pct: 80 };
    let resources = Resources::new(options).map_err(|error| error.to_string())?;
    let (mut limit, mut tokens) = (100, Vec::new());
    for (number, op) in ops.iter().enumerate() {
        match *op {
            Op::Take(amount) => {
                let allowed = model.used() + amount <= limit;
                let taken = resources.try_take(&Resource::Memory, amount);
                if taken.is_ok() != allowed {
                    return Err(format!("operation {number}: the model says {allowed}"));
                }
                model.held.extend(allowed.then_some((amount, true)));
                tokens.extend(taken);
            }
            Op::Drop(which) if !tokens.is_empty() => {
                let which = which % tokens.len();
                drop(tokens.swap_remove(which));
                model.held.swap_remove(which);
            }
            Op::Drop(_) => {}
            Op::Observe(used) => {
                resources.observe(&Resource::Memory, used).map_err(|error| error.to_string())?;
                model.measured = used;
                model.held.iter_mut().for_each(|(_, since)| *since = false);
            }
            Op::Limit(to) => {
                resources.set_limit(Resource::Memory, to).map_err(|error| error.to_string())?;
                limit = to;
            }
        }
        let status = resources.status_of(&Resource::Memory).map_err(|error| error.to_string())?;
        if (status.used, status.tokens) != (model.used(), tokens.len() as u64) {
            return Err(format!(
                "operation {number}: {} in use, the model says {}",
                status.used,
                model.used()
            ));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn resources_do_what_their_model_does(ops in prop::collection::vec(op(), length())) {
        prop_assert_eq!(compare(&ops, Model::default()), Ok(()));
    }
}

#[test]
fn a_model_that_forgets_what_was_taken_since_the_measurement_is_found() {
    let ops = [Op::Observe(90), Op::Take(10), Op::Take(10)];
    assert_eq!(compare(&ops, Model::default()), Ok(()));
    assert!(compare(&ops, Model { forgets_since: true, ..Model::default() }).is_err());
}
