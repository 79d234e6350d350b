//! From a definition as written to a [`ValidDefinition`]: all faults in one pass.

use super::fault::{Fault, FaultKind};
use super::names::{check_name, nearest, shown};
use super::settings::{BadSetting, COMPENSATION_RETRY, STEP_RETRY, check_count, check_retry, check_timeout};
use super::{
    Compensation, Definition, DefinitionFaults, DefinitionHash, DefinitionLimits, FailurePolicy, Join, Step,
    ValidCompensation, ValidDefinition, ValidStep,
};
use crate::discovery::{REQUIREMENTS_MAX, Requirement};
use crate::resilience::retry::RetryPolicy;
use crate::workflow::condition::{Condition, ConditionFault};
use crate::workflow::graph::Graph;
use crate::workflow::run::UNDO;
use crate::workflow::template::{Template, TemplateFault};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

mod references;

/// Microseconds of a limit already checked to be at most ten years.
pub(super) fn micros(ms: u64) -> i64 {
    i64::try_from(ms.saturating_mul(1_000)).unwrap_or(i64::MAX)
}

pub(super) fn validate(
    source: Definition,
    limits: &DefinitionLimits,
) -> Result<ValidDefinition, DefinitionFaults> {
    if let Some(faults) = DefinitionFaults::new(check_size(&source, limits)) {
        return Err(faults);
    }
    let mut numbers = HashMap::with_capacity(source.steps.len());
    for (number, step) in (0u32..).zip(&source.steps) {
        numbers.entry(step.id.as_str()).or_insert(number);
    }
    let ids: Vec<&str> = source.steps.iter().map(|step| step.id.as_str()).collect();
    let undone = source.steps.iter().filter(|step| step.compensation.is_some());
    let mut checker = Checker {
        numbers: &numbers,
        ids: &ids,
        compensated: undone.map(|step| step.id.as_str()).collect(),
        faults: Vec::new(),
        step: None,
        suggestions: SUGGESTIONS_MAX,
    };
    checker.run_settings(&source);
    let mut needs = Vec::with_capacity(source.steps.len());
    let mut steps = Vec::with_capacity(source.steps.len());
    for (number, step) in (0u32..).zip(&source.steps) {
        checker.step = Some(number);
        needs.push(checker.needs(number, step));
        steps.push(checker.step(number, step, source.on_failure));
    }
    checker.step = None;
    let output = source.output.as_ref().and_then(|template| checker.template("output", template));
    let graph = checker.graph(&needs);
    if let Some(graph) = &graph {
        references::check(&mut checker, graph, &steps, limits.reference_walk_max);
    }
    let faults = checker.faults;
    let graph = match (DefinitionFaults::new(faults), graph) {
        (None, Some(graph)) => graph,
        (Some(faults), _) => return Err(faults),
        (None, None) => unreachable!("a graph that cannot be built always leaves a fault behind"),
    };
    let numbers = numbers.iter().map(|(id, number)| (Box::from(*id), *number)).collect();
    let (readers, pinned) = references::readers(&steps, output.as_ref());
    let hash = DefinitionHash::of(&source);
    Ok(ValidDefinition { source, hash, graph, steps, output, numbers, readers, pinned })
}

/// Faults of size make looking further pointless.
fn check_size(source: &Definition, limits: &DefinitionLimits) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut add = |kind, hint: String| faults.push(Fault { step: None, at: None, kind, hint });
    let needs: usize = source.steps.iter().map(|step| step.needs.len()).sum();
    if source.steps.is_empty() {
        add(FaultKind::NoSteps, "add at least one step".to_owned());
    }
    if source.steps.len() > limits.steps_max {
        let kind = FaultKind::TooManySteps { count: source.steps.len(), limit: limits.steps_max };
        add(kind, "split the workflow".to_owned());
    }
    if needs > limits.needs_max {
        let kind = FaultKind::TooManyNeeds { count: needs, limit: limits.needs_max };
        add(kind, "gather steps behind a common one".to_owned());
    }
    faults
}

struct Checker<'a> {
    numbers: &'a HashMap<&'a str, u32>,
    ids: &'a [&'a str],
    /// Ids of the steps with a compensation.
    compensated: HashSet<&'a str>,
    faults: Vec<Fault>,
    /// The step being checked.
    step: Option<u32>,
    /// How many more ids are looked for among those that are there.
    suggestions: u32,
}

/// Unknown ids for which the one that was meant is looked for: it takes a while among many.
const SUGGESTIONS_MAX: u32 = 16;

impl Checker<'_> {
    fn id_of(&self, number: u32) -> String {
        shown(self.ids.get(number as usize).copied().unwrap_or(""))
    }

    fn fault(&mut self, kind: FaultKind, hint: impl Into<String>) {
        let step = self.step.map(|number| self.id_of(number));
        self.faults.push(Fault { step, at: self.step, kind, hint: hint.into() });
    }

    fn settings(&mut self, bad: impl IntoIterator<Item = BadSetting>) {
        for (kind, hint) in bad {
            self.fault(kind, hint);
        }
    }

    fn name(&mut self, field: &'static str, name: &str) {
        if let Err(why) = check_name(name) {
            self.fault(FaultKind::BadName { field, why }, "use 1..=1024 bytes of visible characters");
        }
    }

    fn nearest_hint(&mut self, wrong: &str) -> String {
        let looked = self.suggestions > 0;
        self.suggestions = self.suggestions.saturating_sub(1);
        match looked.then(|| nearest(wrong, self.numbers, self.ids)).flatten() {
            Some(near) => format!("did you mean \"{}\"?", shown(near)),
            None => "name a step of this definition".to_owned(),
        }
    }

    fn run_settings(&mut self, source: &Definition) {
        self.name("name", &source.name);
        self.settings(source.workers.and_then(|workers| check_count("workers", workers)));
        self.settings(check_timeout("total_timeout_ms", source.total_timeout_ms));
        self.settings(check_timeout("crash_loop.within_ms", Some(source.crash_loop.within_ms)));
    }

    fn needs(&mut self, number: u32, step: &Step) -> Vec<u32> {
        self.name("id", &step.id);
        self.name("activity", &step.activity);
        if self.numbers.get(step.id.as_str()) != Some(&number) {
            self.fault(FaultKind::DuplicateId, "give each step its own id");
        }
        if let Some(undone) = step.id.strip_suffix(UNDO)
            && self.compensated.contains(undone)
        {
            let kind = FaultKind::CompensationId { undone: shown(undone) };
            self.fault(kind, "give it another id, or that step no compensation");
        }
        let mut seen = HashSet::with_capacity(step.needs.len());
        let mut known = Vec::with_capacity(step.needs.len());
        for need in &step.needs {
            match self.numbers.get(need.as_str()) {
                None => {
                    let hint = self.nearest_hint(need);
                    self.fault(FaultKind::UnknownNeed { need: shown(need) }, hint);
                }
                Some(&of) if of == number || *need == step.id => {
                    self.fault(FaultKind::SelfNeed, "remove it from its own needs");
                }
                Some(&of) if seen.insert(of) => known.push(of),
                Some(_twice) => {
                    self.fault(FaultKind::DuplicateNeed { need: shown(need) }, "name each need once");
                }
            }
        }
        known
    }

    fn step(&mut self, number: u32, step: &Step, run_policy: FailurePolicy) -> ValidStep {
        debug_assert_eq!(self.step, Some(number), "faults go to the step being checked");
        self.settings(check_timeout("attempt_timeout_ms", step.attempt_timeout_ms));
        self.settings(check_timeout("total_timeout_ms", step.total_timeout_ms));
        self.requires(&step.requires);
        let retry = step.retry.clone().unwrap_or_else(RetryPolicy::once);
        self.settings(check_retry(&retry, &STEP_RETRY));
        let quorum = self.join(step);
        let input = self.template("input", &step.input).unwrap_or_else(|| Template::literal(Value::Null));
        let when = step.when.as_deref().and_then(|source| self.condition(source));
        let mut references: Vec<u32> = input.references().to_vec();
        references.extend(when.iter().flat_map(|condition| condition.references()));
        references.sort_unstable();
        references.dedup();
        ValidStep {
            id: step.id.as_str().into(),
            activity: step.activity.as_str().into(),
            requires: step.requires.as_slice().into(),
            input,
            when,
            quorum,
            retry,
            attempt_timeout: step.attempt_timeout_ms.map(Duration::from_millis),
            total_timeout_us: step.total_timeout_ms.map(micros),
            compensation: step.compensation.as_ref().map(|c| self.compensation(c)),
            on_failure: step.on_failure.unwrap_or(run_policy),
            references: references.into(),
        }
    }

    fn requires(&mut self, requires: &[Requirement]) {
        if requires.len() > REQUIREMENTS_MAX {
            let value = format!("{} requirements", requires.len());
            self.fault(
                FaultKind::BadRequirement { field: "requires", value },
                format!("use at most {REQUIREMENTS_MAX}"),
            );
        }
        for fault in requires.iter().flat_map(Requirement::faults) {
            let kind = FaultKind::BadRequirement { field: fault.field, value: shown(&fault.given) };
            self.fault(kind, format!("use {}", fault.allowed));
        }
    }

    fn compensation(&mut self, compensation: &Compensation) -> ValidCompensation {
        self.name("compensation.activity", &compensation.activity);
        self.settings(check_timeout("compensation.attempt_timeout_ms", compensation.attempt_timeout_ms));
        let retry = compensation.retry.clone().unwrap_or_else(RetryPolicy::once);
        self.settings(check_retry(&retry, &COMPENSATION_RETRY));
        let input = self.template("compensation.input", &compensation.input);
        ValidCompensation {
            activity: compensation.activity.as_str().into(),
            input: input.unwrap_or_else(|| Template::literal(Value::Null)),
            retry,
            attempt_timeout: compensation.attempt_timeout_ms.map(Duration::from_millis),
        }
    }

    fn join(&mut self, step: &Step) -> Option<u32> {
        let needs = step.needs.len();
        match step.join {
            Join::All => None,
            Join::Any if needs == 0 => {
                self.fault(FaultKind::JoinWithoutNeeds, "add needs or remove join");
                None
            }
            Join::Any => Some(1),
            Join::Quorum(quorum) => {
                if quorum == 0 || quorum as usize > needs {
                    self.fault(FaultKind::BadQuorum { quorum, needs }, format!("use 1..={}", needs.max(1)));
                }
                Some(quorum)
            }
        }
    }

    fn template(&mut self, field: &'static str, value: &Value) -> Option<Template> {
        let numbers = self.numbers;
        let faults = match Template::parse(value, &|id| numbers.get(id).copied()) {
            Ok(template) => return Some(template),
            Err(faults) => faults,
        };
        for fault in faults {
            match fault {
                TemplateFault::UnknownStep(id) => self.unknown_reference(field, &id),
                TemplateFault::Syntax { .. } | TemplateFault::TooDeep => {
                    let kind = FaultKind::BadTemplate { field, why: fault.to_string() };
                    self.fault(kind, "use ${input.NAME} or ${steps.ID.output.NAME}; $${ for a literal ${");
                }
            }
        }
        None
    }

    fn condition(&mut self, source: &str) -> Option<Condition> {
        let numbers = self.numbers;
        match Condition::parse(source, &|id| numbers.get(id).copied()) {
            Ok(condition) => return Some(condition),
            Err(ConditionFault::UnknownStep(id)) => self.unknown_reference("when", &id),
            Err(ConditionFault::Disabled) => {
                self.fault(FaultKind::ConditionsDisabled, "build with feature conditions");
            }
            Err(
                fault @ (ConditionFault::TooLong
                | ConditionFault::TooDeep
                | ConditionFault::Syntax(_)
                | ConditionFault::UnknownName(_)),
            ) => {
                let kind = FaultKind::BadCondition { why: fault.to_string() };
                self.fault(kind, "use an expression over input and steps.ID.output or .status");
            }
        }
        None
    }

    fn unknown_reference(&mut self, field: &'static str, id: &str) {
        let hint = self.nearest_hint(id);
        self.fault(FaultKind::UnknownReference { field, reference: shown(id) }, hint);
    }

    fn graph(&mut self, needs: &[Vec<u32>]) -> Option<Graph> {
        let cycles = match Graph::new(needs) {
            Ok(graph) => return Some(graph),
            Err(cycles) => cycles,
        };
        for cycle in cycles {
            self.step = cycle.first().copied();
            let round = cycle.iter().chain(cycle.first()).map(|&number| self.id_of(number)).collect();
            self.fault(FaultKind::Cycle { steps: round }, "remove one of these needs");
        }
        self.step = None;
        None
    }
}
