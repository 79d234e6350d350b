//! Templates: references, types, faults.

use super::*;
use proptest::prelude::*;
use serde_json::json;

struct Fixture {
    input: Value,
    pack: Value,
}

impl Scope for Fixture {
    fn input(&self) -> &Value {
        &self.input
    }
    fn output(&self, step: u32) -> Option<&Value> {
        match step {
            0 => Some(&self.pack),
            1 => Some(&Value::Null),
            _ => None,
        }
    }
    fn status(&self, _step: u32) -> &'static str {
        "completed"
    }
    fn id(&self, _step: u32) -> &str {
        "x"
    }
}

fn number_of(id: &str) -> Option<u32> {
    ["pack", "a.b c", "lost"].iter().position(|known| *known == id).map(|n| n as u32)
}

fn render(template: Value) -> Result<Value, RenderError> {
    let fixture = Fixture {
        input: json!({"x": 3, "list": [1, {"y": "z"}]}),
        pack: json!({"weight": 2.5, "name": "box"}),
    };
    Template::parse(&template, &number_of).unwrap().render(&fixture)
}

#[test]
fn a_whole_string_reference_keeps_the_type() {
    assert_eq!(render(json!("${input.x}")), Ok(json!(3)));
    assert_eq!(render(json!({"w": "${ steps.pack.output.weight }"})), Ok(json!({"w": 2.5})));
    assert_eq!(render(json!(["${input.list[1].y}", "${input[\"list\"][0]}"])), Ok(json!(["z", 1])));
    assert_eq!(render(json!("${steps.pack.status}")), Ok(json!("completed")));
}

#[test]
fn an_embedded_reference_is_interpolated() {
    assert_eq!(render(json!("${input.x} of ${steps.pack.output.name}!")), Ok(json!("3 of box!")));
    assert_eq!(render(json!("all: ${input.list}")), Ok(json!("all: [1,{\"y\":\"z\"}]")));
    assert_eq!(render(json!("$${input.x} is $5")), Ok(json!("${input.x} is $5")));
}

#[test]
fn the_output_of_a_skipped_step_is_null_all_the_way_down() {
    assert_eq!(render(json!("${steps[\"a.b c\"].output.deep.er}")), Ok(Value::Null));
}

#[test]
fn a_missing_field_and_a_lost_output_are_errors() {
    let missing = render(json!("${input.nope}"));
    assert_eq!(
        missing,
        Err(RenderError::Missing { reference: "input.nope".into(), part: "\"nope\"".into() })
    );
    assert_eq!(render(json!("${steps.lost.output}")), Err(RenderError::NotLoaded { step: "x".into() }));
}

#[test]
fn every_fault_of_a_template_is_listed() {
    let faults = Template::parse(
        &json!([
            "${",
            "${foo}",
            "${steps.pack}",
            "${steps.nobody.output}",
            "${steps.pack.status.x}",
            "${input.}",
            "${input[x]}"
        ]),
        &number_of,
    )
    .unwrap_err();
    assert_eq!(faults.len(), 7, "{faults:?}");
    assert!(faults.contains(&TemplateFault::UnknownStep("nobody".into())));
}

#[test]
fn references_are_listed_once_and_ascending() {
    let template = Template::parse(
        &json!(["${steps.lost.output}", "${steps.pack.output}", "${steps.lost.status}"]),
        &number_of,
    );
    assert_eq!(template.unwrap().references(), [0, 2]);
}

proptest! {
    #[test]
    fn any_text_is_a_template_or_a_fault(text in ".*", tail in "[${}a-z.\\[\\]\"\\\\]{0,40}") {
        for candidate in [text.clone(), format!("${{{tail}"), format!("{text}${{steps{tail}}}")] {
            if let Ok(template) = Template::parse(&Value::from(candidate), &number_of) {
                let _ = template.render(&Fixture { input: json!({}), pack: json!([]) });
            }
        }
    }
}
