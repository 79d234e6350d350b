//! Conditions: answers, references, odd sources.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

struct Fixture {
    input: Value,
    output: Value,
}

impl Scope for Fixture {
    fn input(&self) -> &Value {
        &self.input
    }
    fn output(&self, _step: u32) -> Option<&Value> {
        Some(&self.output)
    }
    fn status(&self, _step: u32) -> &'static str {
        "completed"
    }
    fn id(&self, step: u32) -> &str {
        if step == 0 { "pack" } else { "a b" }
    }
}

fn number_of(id: &str) -> Option<u32> {
    ["pack", "a b"].iter().position(|known| *known == id).map(|n| n as u32)
}

fn fixture() -> Fixture {
    Fixture { input: json!({"x": 3, "list": [1, 2, 3], "f": 0.5}), output: json!({"weight": 7}) }
}

fn answer(source: &str) -> Result<bool, ConditionError> {
    Condition::parse(source, &number_of).unwrap().evaluate(&fixture())
}

#[test]
fn conditions_look_at_input_outputs_and_statuses() {
    assert_eq!(answer("input.x > 2 && steps.pack.output.weight == 7"), Ok(true));
    assert_eq!(answer("steps[\"a b\"].status == 'completed'"), Ok(true));
    assert_eq!(answer("input.list.exists(i, i > 2) && input.f < 1.0"), Ok(true));
    assert_eq!(answer("has(input.nope)"), Ok(false));
}

#[test]
fn a_condition_without_an_answer_is_a_typed_error() {
    assert!(matches!(answer("input.x"), Err(ConditionError::NotBool(_))));
    assert!(matches!(answer("input.nope > 1"), Err(ConditionError::Failed(_))));
    assert!(matches!(answer("1 / 0 == 1"), Err(ConditionError::Failed(_))));
}

#[test]
fn the_references_of_a_condition_are_known_before_it_runs() {
    let parsed =
        Condition::parse("steps['a b'].status == 'x' || steps.pack.output.all(i, i > 1)", &number_of)
            .unwrap();
    assert_eq!(parsed.references(), [0, 1]);
    let unknown = Condition::parse("steps.nobody.output > 1", &number_of).unwrap_err();
    assert_eq!(unknown, ConditionFault::UnknownStep("nobody".into()));
    assert!(matches!(
        Condition::parse("steps[input.x].status == ''", &number_of),
        Err(ConditionFault::Syntax(_))
    ));
    assert!(matches!(Condition::parse("size(steps) > 1", &number_of), Err(ConditionFault::Syntax(_))));
    assert_eq!(
        Condition::parse("foo > 1", &number_of).unwrap_err(),
        ConditionFault::UnknownName("foo".into())
    );
}

#[test]
fn long_and_deep_conditions_are_refused_without_overflowing_a_small_stack() {
    let sources = [
        "!".repeat(4_000),
        format!("{}1", "1+".repeat(2_000)),
        format!("a{}", ".b".repeat(2_000)),
        "(".repeat(4_000),
        "[".repeat(4_000),
        format!("{}1{}", "(".repeat(256), ")".repeat(256)),
        format!("{}1{}", "(".repeat(24), ")".repeat(24)),
        format!("{}1{}", "[".repeat(24), "]".repeat(24)),
        format!("{}1{}", "{1:".repeat(24), "}".repeat(24)),
        format!("{}true{}", "true&&(".repeat(24), ")".repeat(24)),
        format!("{}1{}", "size([".repeat(12), "])".repeat(12)),
        format!("{}true", "true && ".repeat(60)),
        format!("{}1 > 0", "1+".repeat(60)),
        format!("{}true : false", "true ? true : ".repeat(60)),
        format!("input{}", ".b".repeat(500)),
        format!("{}true", "true && ".repeat(255)),
        format!("{}1", "1+".repeat(500)),
        format!("{}1", "-".repeat(500)),
        format!("{}1 : 1", "true ? 1 : ".repeat(200)),
        format!("{}true", "true?".repeat(200)),
        "x".repeat(5_000),
    ];
    let small = std::thread::Builder::new().stack_size(2 << 20);
    let checked = small.spawn(move || {
        for source in sources {
            if let Ok(condition) = Condition::parse(&source, &number_of) {
                let _ = condition.evaluate(&fixture());
            }
        }
    });
    assert!(checked.unwrap().join().is_ok());
    let nested = "input.list.all(a, input.list.all(b, input.list.all(c, a + b + c > 0)))";
    assert_eq!(Condition::parse(nested, &number_of).unwrap_err(), ConditionFault::TooDeep);
}

proptest! {
    #[test]
    fn any_source_is_a_condition_or_a_fault(source in "[a-z0-9 .()\\[\\]{}'\"<>=&|!?:,+*/%$-]{0,80}", wild in ".{0,60}") {
        for source in [source, wild] {
            if let Ok(condition) = Condition::parse(&source, &number_of) {
                let _ = condition.evaluate(&fixture());
            }
        }
    }
}
