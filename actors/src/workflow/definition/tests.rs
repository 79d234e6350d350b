//! Definitions: every fault by name, all at once; the hash; the document form.

use super::*;
use crate::resilience::{
    breaker::FailureClass,
    retry::{Jitter, RetryPolicy, RetryRule},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;

fn faults(definition: Definition) -> Vec<String> {
    definition.validate().unwrap_err().as_slice().iter().map(ToString::to_string).collect()
}

fn one_fault(step: Step) -> String {
    let definition = Definition::builder("order").step(Step::new("charge")).step(step).build();
    let found = faults(definition);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[test]
fn a_missing_need_names_the_nearest_step() {
    let found = one_fault(Step::new("pack").needs(["chrage"]));
    assert_eq!(found, r#"step "pack" needs "chrage", which no step defines: did you mean "charge"?"#);
}

#[test]
fn every_fault_is_listed_at_once_in_document_order() {
    let definition = Definition::builder("")
        .step(Step::new("a").needs(["c"]))
        .step(Step::new("a"))
        .step(Step::new("b").needs(["a", "a", "b"]))
        .step(Step::new("c").needs(["b"]).join(Join::Quorum(2)).attempt_timeout(Duration::ZERO))
        .build();
    let found = faults(definition);
    let expected = [
        "definition name is empty: use 1..=1024 bytes of visible characters",
        r#"step "a" has the id of an earlier step: give each step its own id"#,
        r#"step "b" needs "a" twice: name each need once"#,
        r#"step "b" needs itself: remove it from its own needs"#,
        r#"step "c" attempt_timeout_ms is 0: use 1..=315360000000 ms, or leave it out for no limit"#,
        r#"step "c" has a quorum of 2 over 1 needs: use 1..=1"#,
        r#"step "b" is on a cycle: b -> c -> a -> b: remove one of these needs"#,
    ];
    assert_eq!(found, expected);
}

/// Both would run under one idempotency key, and the compensation's end was taken for the step's.
#[test]
fn an_id_under_which_another_step_is_undone_is_refused() {
    let steps = |undo: bool| {
        let first = Step::new("a").activity("noop");
        let first = if undo { first.compensation("noop", Value::Null) } else { first };
        Definition::builder("x").step(first).step(Step::new("a/undo")).build()
    };
    assert!(steps(false).validate().is_ok());
    let expected = r#"step "a/undo" has the id under which step "a" is undone: give it another id, or that step no compensation"#;
    assert_eq!(faults(steps(true)), [expected]);
}

#[test]
fn sizes_are_limited() {
    assert_eq!(faults(Definition::builder("x").build()), ["definition has no steps: add at least one step"]);
    let many = |n: u32| Definition::builder("x").steps((0..n).map(|i| Step::new(i.to_string()))).build();
    let limits = DefinitionLimits { steps_max: 3, ..DefinitionLimits::default() };
    assert!(many(3).validate_within(&limits).is_ok());
    assert!(many(4).validate_within(&limits).is_err());
    let few_needs = DefinitionLimits { needs_max: 1, ..DefinitionLimits::default() };
    let two = Definition::builder("x").step(Step::new("a")).step(Step::new("b").needs(["a", "a"])).build();
    assert!(two.validate_within(&few_needs).unwrap_err().to_string().contains("over the limit of 1"));
}

#[test]
fn ids_nobody_can_see_are_refused() {
    assert!(one_fault(Step::new("pa\u{202E}ck")).contains("invisible character U+202E"));
    assert!(one_fault(Step::new("")).contains("id is empty"));
    assert!(one_fault(Step::new("x".repeat(1_025))).contains("longer than 1024 bytes"));
}

#[test]
fn retry_numbers_outside_their_range_are_refused() {
    let with = |policy: RetryPolicy| one_fault(Step::new("pack").retry(policy));
    let policy = RetryPolicy::default;
    assert!(with(RetryPolicy { max_attempts: 0, ..policy() }).contains("retry.max_attempts is 0"));
    assert!(with(RetryPolicy { initial_interval_ms: 0, ..policy() }).contains("initial_interval_ms is 0"));
    let low = RetryPolicy { maximum_interval_ms: Some(999), ..policy() };
    assert!(with(low).contains("retry.maximum_interval_ms is 999: use at least initial_interval_ms, 1000"));
    assert!(with(RetryPolicy { jitter: Jitter::Fraction(1.1), ..policy() }).contains("retry.jitter is 1.1"));
    assert!(
        with(RetryPolicy { jitter: Jitter::Fraction(f64::NAN), ..policy() }).contains("retry.jitter is NaN")
    );
    assert!(
        with(RetryPolicy { backoff_coefficient: 0.5, ..policy() }).contains("backoff_coefficient is 0.5")
    );
    assert!(with(RetryPolicy { max_elapsed_ms: Some(0), ..policy() }).contains("max_elapsed_ms is 0"));
    let stuck = RetryPolicy { progress_timeout_ms: Some(0), ..policy() };
    assert!(with(stuck).contains("retry.progress_timeout_ms is 0"));
    for class in FailureClass::ALL {
        let classes = [(class, RetryRule::MaxAttempts(0))].into();
        let field = format!("retry.classes.{class} is 0");
        assert!(with(RetryPolicy { classes, ..policy() }).contains(&field), "{field}");
    }
    let undo = Compensation {
        activity: String::new(),
        input: json!(null),
        retry: Some(RetryPolicy { max_attempts: 0, ..policy() }),
        attempt_timeout_ms: Some(0),
    };
    let definition = Definition::builder("x").step(Step::new("a").compensate_with(undo)).build();
    assert_eq!(faults(definition).len(), 3);
}

#[test]
fn templates_refer_only_to_steps_before() {
    let unknown = one_fault(Step::new("pack").input(json!("${steps.chrge.output}")));
    assert!(
        unknown.ends_with(r#"input refers to step "chrge", which no step defines: did you mean "charge"?"#)
    );
    let sideways = one_fault(Step::new("pack").input(json!({"x": ["${steps.charge.output}"]})));
    assert!(sideways.ends_with(r#"which it does not depend on: add "charge" to its needs"#), "{sideways}");
    let own = one_fault(Step::new("pack").input(json!("${steps.pack.output}")));
    assert!(own.contains("which it does not depend on"));
    let chain = Definition::builder("x")
        .step(Step::new("a"))
        .step(Step::new("b").needs(["a"]))
        .step(Step::new("c").needs(["b"]).input(json!("${steps.a.output}")))
        .step(
            Step::new("d")
                .needs(["c"])
                .compensation("undo", json!(["${steps.d.output}", "${steps.a.output}"])),
        )
        .output(json!("${steps.c.output}"));
    assert!(chain.validate().is_ok());
}

#[test]
fn references_that_cost_too_much_to_check_are_refused() {
    let limits = DefinitionLimits { reference_walk_max: 2, ..DefinitionLimits::default() };
    let mut builder = Definition::builder("x").step(Step::new("0"));
    for i in 1..9 {
        builder = builder.step(Step::new(i.to_string()).needs([(i - 1).to_string()]));
    }
    let far = builder.step(Step::new("end").needs(["8"]).input(json!("${steps[\"0\"].output}"))).build();
    assert!(far.clone().validate().is_ok());
    assert!(far.validate_within(&limits).unwrap_err().to_string().contains("too far back"));
}

#[cfg(feature = "conditions")]
#[test]
fn conditions_are_checked_with_the_definition() {
    assert!(one_fault(Step::new("pack").when("input.x >")).contains("when has a bad condition"));
    assert!(one_fault(Step::new("pack").when("steps.charge.output == 1")).contains("does not depend on"));
    assert!(one_fault(Step::new("pack").when("steps.crge.output == 1")).contains("did you mean \"charge\""));
}

#[cfg(not(feature = "conditions"))]
#[test]
fn a_condition_without_the_feature_is_a_fault() {
    assert!(one_fault(Step::new("pack").when("true")).contains("build with feature conditions"));
}

#[test]
fn the_hash_depends_on_the_meaning_only() {
    let a: Definition =
        serde_json::from_value(json!({"name": "x", "steps": [{"id": "a", "activity": "noop"}]})).unwrap();
    let b: Definition = serde_json::from_value(
        json!({"steps": [{"activity": "noop", "id": "a", "needs": [], "join": "all"}], "on_failure": "fail_fast", "name": "x"}),
    )
    .unwrap();
    let hash = |d: &Definition| d.clone().validate().unwrap().hash();
    assert_eq!(hash(&a), hash(&b));
    let c = Definition { workers: Some(3), ..a.clone() };
    assert_ne!(hash(&a), hash(&c));
    let mut d = a.clone();
    d.steps[0].input = json!({"b": 1, "a": 2});
    let mut e = a;
    e.steps[0].input = json!({"a": 2, "b": 1});
    assert_eq!(hash(&d), hash(&e));
    assert_eq!(hash(&d).to_string().len(), 64);
}

#[test]
fn unknown_fields_are_refused_by_name() {
    let unknown = json!({"name": "x", "steps": [{"id": "a", "activity": "noop", "need": []}]});
    let error = serde_json::from_value::<Definition>(unknown).unwrap_err().to_string();
    assert!(error.contains("unknown field `need`"), "{error}");
}

#[test]
fn a_definition_survives_named_messagepack() {
    let definition = Definition::builder("x")
        .step(Step::new("a").retry(RetryPolicy { jitter: Jitter::Fraction(0.5), ..RetryPolicy::default() }))
        .step(Step::new("b").needs(["a"]).join(Join::Quorum(1)).input(json!({"n": [1, 2.5, null, "t"]})))
        .build();
    let valid = definition.clone().validate().unwrap();
    let again = ValidDefinition::from_bytes(&valid.to_bytes()).unwrap();
    assert_eq!((again.source(), again.hash()), (&definition, valid.hash()));
    assert!(matches!(ValidDefinition::from_bytes(b"junk"), Err(StoredDefinitionError::Decode(_))));
    let empty = rmp_serde::to_vec_named(&Definition::builder("x").build()).unwrap();
    assert!(matches!(ValidDefinition::from_bytes(&empty), Err(StoredDefinitionError::Faults(_))));
}

proptest! {
    #[test]
    fn validation_never_panics(
        ids in proptest::collection::vec("[ab ]{0,2}|\\PC{0,6}", 0..6),
        links in proptest::collection::vec((0usize..6, 0usize..8), 0..12),
        text in "[${}a-z.\\[\\]\"]{0,24}",
        quorum in 0u32..4,
    ) {
        let mut builder = Definition::builder("x").output(json!(text));
        for (i, id) in ids.iter().enumerate() {
            let needs = links.iter().filter(|(from, _)| *from == i).map(|(_, to)| ids.get(*to).cloned().unwrap_or("?".into()));
            builder = builder.step(Step::new(id).needs(needs).join(Join::Quorum(quorum)).input(json!([text])).when(text.clone()));
        }
        if let Err(faults) = builder.validate() {
            prop_assert!(!faults.as_slice().is_empty());
        }
    }
}
