//! kill -9 at random times and at every named point, under all workloads at once.

use std::time::{Duration, Instant};

use crate::{
    history::{Draw, campaign, seed},
    life::{Case, End},
};

/// Cases, and kills in each.
fn numbers() -> (u64, u64) {
    if campaign() { (24, 10) } else { (8, 5) }
}

#[test]
fn nothing_acknowledged_or_shown_is_lost_and_nothing_is_done_twice_at_random_kills() {
    let (began, first) = (Instant::now(), seed());
    let (cases, kills) = numbers();
    let mut draws = Draw(first);
    let mut lines = 0;
    for number in 0..cases {
        // A case alone: its own seed, once.
        let seed = if number == 0 { first } else { draws.next() };
        let mut draw = Draw(seed);
        let mut case = Case::new(seed);
        for kill in 0..kills {
            // Some die while they recover.
            let longest = if kill % 4 == 3 { 60 } else { 500 };
            case.live(End::Kill(Duration::from_millis(2 + draw.below(longest))));
            if draw.below(5) == 0 {
                case.stay_down(Duration::from_millis(if campaign() { 3_000 } else { 300 }));
            }
        }
        lines += case.check().len();
    }
    println!("seed {first}: {} kills, {lines} lines of history, {:?}", cases * kills, began.elapsed());
}

#[test]
fn nothing_acknowledged_or_shown_is_lost_at_any_named_point() {
    let points = [
        "store BeforeCommit",
        "store AfterCommit",
        "store BeforeAnswer",
        "store BeforeSlice",
        "store AfterSlice",
        "store BeforeFolded",
        "runtime BeforeAnswer",
        "runtime AfterAnswer",
        "runtime EffectStart",
        "runtime EffectEnd",
    ];
    let visits: &[u64] = if campaign() { &[1, 2, 7, 30, 100] } else { &[1, 20] };
    for (number, point) in points.into_iter().enumerate() {
        let mut case = Case::new(number as u64).small();
        for at in visits {
            // There are fewer folds than commits.
            let at = if point.ends_with("Folded") { at.div_ceil(10) } else { *at };
            case.live(End::Point(point, at));
        }
        case.check();
    }
    let mut case = Case::new(99).small();
    case.live(End::PointInStop("store BeforeLogRemoved"));
    case.check();
}

#[test]
fn an_answer_that_leaves_before_its_commit_is_found() {
    // Negative control: the same workloads and the same checks, on a store that answers 5 ms too early.
    let mut found = Vec::new();
    for seed in 0..10 {
        let mut case = Case::new(seed).acks_early();
        let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..2 {
                case.live(End::Kill(Duration::from_millis(400)));
            }
            case.faults()
        }));
        found =
            lived.unwrap_or_else(|panic| vec![panic.downcast_ref::<String>().cloned().unwrap_or_default()]);
        if !found.is_empty() {
            break;
        }
    }
    assert!(!found.is_empty(), "a store that answers too early was not found");
    println!("found: {}", found.join("\n").chars().take(600).collect::<String>());
}
