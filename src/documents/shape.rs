//! Faults in the shape of a definition's fields, each with its step, and what is left without them.

use super::error::{FaultLine, definition_line};
use super::trace::shown;
use super::tree::{described, odd_inside};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use stanchion_actors::resilience::retry::RetryPolicy;
use stanchion_actors::workflow::definition::{
    Compensation, CrashLoopPolicy, Definition, DefinitionFaults, Fault, FaultKind, Object, Step,
};

/// What is wrong with an activity in a program that cannot run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingActivity {
    /// Follows the step's name, such as `runs a program`.
    pub what: String,
    /// What would be right.
    pub hint: String,
}

/// A fault and the step it is in, by number; `None` for the definition itself.
type Placed = (Option<u32>, FaultLine);

/// Faults of the shape of a definition.
#[derive(Default)]
pub(super) struct Shapes {
    lines: Vec<Placed>,
    is_yaml: bool,
    /// A step is there without its needs: which steps lie before which is not known.
    lost_needs: bool,
    /// The steps could not be read.
    lost_steps: bool,
}

/// Where a field is.
struct Place<'a> {
    at: Option<u32>,
    /// Such as `step "a"`.
    who: &'a str,
    /// Before the field's name, such as `retry.`.
    within: &'a str,
}

impl Shapes {
    /// The definition as far as it has the right shape, and the faults of the rest.
    pub(super) fn of(mut fields: Map<String, Value>, is_yaml: bool) -> (Definition, Self) {
        let mut shapes = Self { is_yaml, ..Self::default() };
        let steps = fields.remove("steps");
        let place = Place { at: None, who: "the definition", within: "" };
        let base = json!({"name": "x", "steps": []});
        shapes.inner(&place, &mut fields, "crash_loop", |shapes, place, fields| {
            shapes.kept::<CrashLoopPolicy>(place, fields, &json!({}))
        });
        let had_name = fields.contains_key("name");
        let mut kept = shapes.kept::<Definition>(&place, fields, &base);
        if !had_name {
            shapes.required(&place, "name");
        }
        let steps = shapes.steps(steps);
        let empty = Definition::builder("unnamed").build();
        kept.entry("name").or_insert_with(|| json!("unnamed"));
        kept.insert("steps".to_owned(), json!([]));
        let mut definition = serde_json::from_value::<Definition>(Value::Object(kept)).unwrap_or(empty);
        definition.steps = steps;
        (definition, shapes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// These faults, those of what the definition says and those of its activities, in the order of the steps.
    pub(super) fn beside(self, says: Option<&DefinitionFaults>, activities: Vec<Placed>) -> Vec<FaultLine> {
        let mut lines = self.lines;
        let (lost_needs, lost_steps) = (self.lost_needs, self.lost_steps);
        let stands = |fault: &&Fault| match &fault.kind {
            FaultKind::NoSteps => !lost_steps,
            FaultKind::JoinWithoutNeeds
            | FaultKind::BadQuorum { .. }
            | FaultKind::NotAnAncestor { .. }
            | FaultKind::ReferencesTooFar => !lost_needs,
            _ => true,
        };
        let says = says.map(DefinitionFaults::as_slice).unwrap_or_default();
        lines.extend(says.iter().filter(stands).map(|fault| (fault.at, definition_line(fault))));
        lines.extend(activities);
        lines.sort_by_key(|(at, _)| *at);
        lines.into_iter().map(|(_, line)| line).collect()
    }

    fn steps(&mut self, steps: Option<Value>) -> Vec<Step> {
        let place = Place { at: None, who: "the definition", within: "" };
        let items = match steps {
            Some(Value::Array(items)) => items,
            Some(other) => {
                self.lost_steps = true;
                let what = format!("has steps that are {}", described(&other));
                self.fault(&place, &what, "use a list of objects".to_owned());
                return Vec::new();
            }
            None => return Vec::new(),
        };
        (0u32..).zip(items).map(|(at, item)| self.step(at, item)).collect()
    }

    fn step(&mut self, at: u32, item: Value) -> Step {
        let unnamed = format!("steps[{at}]");
        let Value::Object(mut fields) = item else {
            let place = Place { at: Some(at), who: "the step", within: "" };
            let what = format!("is {}", described(&item));
            self.fault(&place, &what, "use an object with named fields".to_owned());
            self.lost_needs = true;
            return Step::new(unnamed);
        };
        let id = fields.get("id").map(|id| self.as_text(id)).and_then(|id| id.as_str().map(str::to_owned));
        let who = id.map_or_else(|| "the step".to_owned(), |id| format!("step \"{}\"", shown(&id)));
        let place = Place { at: Some(at), who: &who, within: "" };
        let needs = fields.contains_key("needs");
        self.inner(&place, &mut fields, "retry", |shapes, place, fields| {
            shapes.kept::<RetryPolicy>(place, fields, &json!({}))
        });
        self.inner(&place, &mut fields, "compensation", |shapes, place, mut fields| {
            shapes.inner(place, &mut fields, "retry", |shapes, place, fields| {
                shapes.kept::<RetryPolicy>(place, fields, &json!({}))
            });
            if !fields.contains_key("activity") {
                shapes.required(place, "activity");
            }
            let mut kept = shapes.kept::<Compensation>(place, fields, &json!({"activity": "noop"}));
            kept.entry("activity").or_insert_with(|| json!("noop"));
            kept
        });
        for field in ["id", "activity"] {
            if !fields.contains_key(field) {
                self.required(&place, field);
            }
        }
        let mut kept = self.kept::<Step>(&place, fields, &json!({"id": "x", "activity": "noop"}));
        self.lost_needs |= needs && !kept.contains_key("needs");
        kept.entry("id").or_insert_with(|| json!(unnamed));
        kept.entry("activity").or_insert_with(|| json!("noop"));
        serde_json::from_value(Value::Object(kept)).unwrap_or_else(|_| Step::new(unnamed))
    }

    /// Looks into an object inside an object.
    fn inner(
        &mut self,
        place: &Place<'_>,
        fields: &mut Map<String, Value>,
        name: &str,
        look: impl FnOnce(&mut Self, &Place<'_>, Map<String, Value>) -> Map<String, Value>,
    ) {
        if let Some(Value::Object(inside)) = fields.get_mut(name) {
            let within = format!("{}{name}.", place.within);
            let place = Place { within: &within, ..*place };
            *inside = look(self, &place, std::mem::take(inside));
        }
    }

    /// The fields that a `T` takes; faults for the others. `base` has the fields that every `T` needs.
    fn kept<T: DeserializeOwned>(
        &mut self,
        place: &Place<'_>,
        fields: Map<String, Value>,
        base: &Value,
    ) -> Map<String, Value> {
        let mut kept = Map::new();
        for (name, value) in fields {
            let takes = |value: &Value| {
                let mut one = base.clone();
                if let Value::Object(map) = &mut one {
                    map.insert(name.clone(), value.clone());
                }
                serde_json::from_value::<Object<T>>(one).map(drop)
            };
            if let Some(number) = odd_inside(&value) {
                let number: String = number.chars().take(40).collect();
                let what = format!("has the number {number} in {}{name}", place.within);
                self.fault(place, &what, "use a finite number".to_owned());
                continue;
            }
            match takes(&value) {
                Ok(()) => drop(kept.insert(name, value)),
                Err(error) => {
                    let text = self.as_text(&value);
                    if self.is_yaml && takes(&text).is_ok() {
                        kept.insert(name, text);
                    } else {
                        self.misshapen(place, &name, &error.to_string());
                    }
                }
            }
        }
        kept
    }

    /// YAML takes numbers and truth values where a text is wanted.
    fn as_text(&self, value: &Value) -> Value {
        match value {
            Value::Bool(_) | Value::Number(_) if self.is_yaml => Value::String(value.to_string()),
            Value::Array(items) => items.iter().map(|item| self.as_text(item)).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                value.clone()
            }
        }
    }

    fn required(&mut self, place: &Place<'_>, field: &str) {
        let what = format!("has no {}{field}", place.within);
        self.fault(place, &what, format!("give it the field {field}"));
    }

    /// A field that cannot be read, from what the reader says of it: `WHAT, expected WANTED`.
    fn misshapen(&mut self, place: &Place<'_>, name: &str, why: &str) {
        let (what, wanted) = why.split_once(", expected ").unwrap_or((why, ""));
        let (within, name, what) = (place.within, shown(name), shown(what));
        let what = match what.starts_with("unknown field") {
            true => format!("has the unknown field {within}{name}"),
            false => format!("has {within}{name} of the wrong shape ({what})"),
        };
        let hint = match wanted {
            "" => "see docs/WORKFLOWS.md".to_owned(),
            "u32" | "u64" => "use a whole number".to_owned(),
            "f64" => "use a number".to_owned(),
            "a sequence" => "use a list".to_owned(),
            wanted => format!("use {}", wanted.replace('`', "")),
        };
        self.fault(place, &what, hint);
    }

    fn fault(&mut self, place: &Place<'_>, what: &str, hint: String) {
        let message = format!("{} {what}", place.who);
        let where_ = place.at.map_or_else(|| "its top level".to_owned(), |at| format!("steps[{at}]"));
        self.lines.push((place.at, FaultLine { code: "definition", message, place: where_, hint }));
    }
}

/// Steps that need an activity which is not there.
pub(super) fn activity_faults(
    source: &Definition,
    missing: &dyn Fn(&str) -> Option<MissingActivity>,
) -> Vec<Placed> {
    let mut lines = Vec::new();
    for (at, step) in (0u32..).zip(&source.steps) {
        let undo = step.compensation.as_ref().map(|undo| undo.activity.as_str());
        for activity in std::iter::once(step.activity.as_str()).chain(undo) {
            if let Some(MissingActivity { what, hint }) = missing(activity) {
                let message = format!("step \"{}\" {what}", shown(&step.id));
                let line = FaultLine { code: "activity", message, place: format!("steps[{at}]"), hint };
                lines.push((Some(at), line));
            }
        }
    }
    lines
}
