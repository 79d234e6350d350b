//! A trace as a definition of sleeping steps, every fault of it, and the bounds of its makespan.

use super::error::{DocumentError, FaultLine};
use super::tree::{described, odd_number};
use super::wfformat::{RawExecutedTask, RawTask, RawTrace};
use serde_json::{Number, Value, json};
use stanchion_actors::workflow::definition::{FaultKind, NameFault, check_name};
use stanchion_actors::workflow::graph::Graph;
use stanchion_actors::workflow::{Definition, Step, ValidDefinition};
use std::collections::{HashMap, HashSet};

/// Longest runtime of a task, before and after scaling: ten years of 365 days.
const RUNTIME_MAX_S: f64 = 3_650.0 * 24.0 * 3_600.0;

/// A checked trace.
#[derive(Debug)]
pub struct Trace {
    /// One sleeping step per task, the id verbatim.
    pub definition: ValidDefinition,
    /// Sum of the scaled runtimes, in seconds.
    pub work_s: f64,
    /// Longest path of scaled runtimes, in seconds.
    pub critical_path_s: f64,
}

/// Bounds of the makespan, in seconds.
///
/// # Source
/// R. L. Graham, "Bounds on Multiprocessing Timing Anomalies", SIAM J. Appl. Math. 17, 1969.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// No schedule is shorter.
    pub lower_s: f64,
    /// No schedule that leaves no worker idle while a step is ready is longer, overhead aside.
    pub upper_s: f64,
}

impl Bounds {
    /// Bounds for this much work and this longest path, in seconds, with this many workers; 0 counts as 1.
    #[must_use]
    pub fn of(work_s: f64, critical_path_s: f64, workers: u32) -> Self {
        let workers = f64::from(workers.max(1));
        let share = work_s / workers;
        Self { lower_s: critical_path_s.max(share), upper_s: share + (1.0 - 1.0 / workers) * critical_path_s }
    }
}

impl Trace {
    /// Bounds of the makespan with this many workers; 0 counts as 1.
    #[must_use]
    pub fn bounds(&self, workers: u32) -> Bounds {
        Bounds::of(self.work_s, self.critical_path_s, workers)
    }
}

/// One fault of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceFault {
    /// Id of the task at fault; `None` for the trace itself.
    pub task: Option<String>,
    /// What is wrong.
    pub kind: TraceFaultKind,
}

/// What is wrong with a trace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceFaultKind {
    /// No tasks in the specification.
    #[error("the trace has no tasks")]
    NoTasks,
    /// An id that cannot be used.
    #[error("its id {0}")]
    BadId(NameFault),
    /// The same id twice in one list.
    #[error("its id occurs twice in workflow.{list}.tasks")]
    DuplicateId {
        /// `specification` or `execution`.
        list: &'static str,
    },
    /// A task in one list only.
    #[error("it is missing in workflow.{list}.tasks")]
    OneListOnly {
        /// The list without it.
        list: &'static str,
    },
    /// A parent or child that is no task.
    #[error("its {relation} \"{id}\" is no task")]
    UnknownRelative {
        /// `parent` or `child`.
        relation: &'static str,
        /// The id named.
        id: String,
    },
    /// A task that is its own parent or child.
    #[error("it is its own {relation}")]
    OwnRelative {
        /// `parent` or `child`.
        relation: &'static str,
    },
    /// One side of an edge names the other, but not the other way round.
    #[error("it has the {relation} \"{id}\", which does not name it back")]
    OneSided {
        /// `parent` or `child`.
        relation: &'static str,
        /// The other task.
        id: String,
    },
    /// Tasks that wait for each other.
    #[error("it {}", cycle_told(.0))]
    Cycle(Vec<String>),
    /// No runtime.
    #[error("its runtimeInSeconds is missing")]
    RuntimeMissing,
    /// A runtime that is no number of seconds.
    #[error("its runtimeInSeconds is {0}")]
    BadRuntime(String),
    /// A runtime that is no finite number, as written.
    #[error("its runtimeInSeconds is not finite: {0}")]
    RuntimeNotFinite(String),
    /// What stands for a task is no object.
    #[error("the task is {found}")]
    NoObject {
        /// `specification` or `execution`.
        list: &'static str,
        /// Its place in the list, from 0.
        at: usize,
        /// What is there.
        found: String,
    },
    /// A task without an id.
    #[error("{}", id_told(.found.as_deref()))]
    NoId {
        /// `specification` or `execution`.
        list: &'static str,
        /// Its place in the list, from 0.
        at: usize,
        /// What is there in its place.
        found: Option<String>,
    },
    /// Parents or children that are no list.
    #[error("its {field} are {found}")]
    BadList {
        /// `parents` or `children`.
        field: &'static str,
        /// What is there.
        found: String,
    },
    /// Something among the parents or children that is no id.
    #[error("among its {field} is {found}")]
    BadListItem {
        /// `parents` or `children`.
        field: &'static str,
        /// What is there.
        found: String,
    },
    /// A scaled runtime of more than ten years.
    #[error("its scaled runtime is over ten years")]
    ScaledTooLong,
}

impl TraceFault {
    pub(super) fn line(&self) -> FaultLine {
        let hint = match &self.kind {
            TraceFaultKind::NoTasks => "list at least one task in workflow.specification.tasks",
            TraceFaultKind::BadId(_) => "use 1..=1024 bytes of visible characters",
            TraceFaultKind::DuplicateId { .. } => "give each task its own id",
            TraceFaultKind::OneListOnly { .. } => "list it in both specification and execution",
            TraceFaultKind::UnknownRelative { .. } => "name the id of a task",
            TraceFaultKind::OwnRelative { .. } => "remove it",
            TraceFaultKind::OneSided { .. } => "let parents and children agree",
            TraceFaultKind::Cycle(_) => "remove one of these parents",
            TraceFaultKind::NoObject { .. } => "use an object with named fields",
            TraceFaultKind::NoId { .. } => "give it an id, as a text",
            TraceFaultKind::BadList { .. } | TraceFaultKind::BadListItem { .. } => {
                "use a list of the ids of tasks, each a text"
            }
            TraceFaultKind::RuntimeMissing
            | TraceFaultKind::BadRuntime(_)
            | TraceFaultKind::RuntimeNotFinite(_) => "use seconds from 0 to ten years, as a number",
            TraceFaultKind::ScaledTooLong => "use a smaller time scale",
        };
        let place = match (&self.kind, &self.task) {
            (TraceFaultKind::NoObject { list, at, .. } | TraceFaultKind::NoId { list, at, .. }, _) => {
                format!("workflow.{list}.tasks[{at}]")
            }
            (_, Some(id)) => format!("task \"{}\"", shown(id)),
            (_, None) => "workflow.specification.tasks".to_owned(),
        };
        FaultLine { code: "trace", message: self.kind.to_string(), place, hint: hint.to_owned() }
    }
}

fn id_told(found: Option<&str>) -> String {
    found.map_or_else(|| "the task has no id".to_owned(), |found| format!("the id of the task is {found}"))
}

/// As the cycle of a definition.
fn cycle_told(steps: &[String]) -> String {
    FaultKind::Cycle { steps: steps.to_vec() }.to_string()
}

/// Shortens an id for an error message.
pub(super) fn shown(id: &str) -> String {
    id.chars().take(80).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Checks a trace and makes a definition of it. `shapes` are the faults of what is not in it for its shape.
pub(super) fn convert(raw: &RawTrace, scale: f64, shapes: Vec<TraceFault>) -> Result<Trace, DocumentError> {
    let workflow = &raw.workflow.0;
    let tasks: Vec<&RawTask> = workflow.specification.0.tasks.iter().map(|task| &task.0).collect();
    let executed: Vec<&RawExecutedTask> = workflow.execution.0.tasks.iter().map(|task| &task.0).collect();
    let tasks = tasks.as_slice();
    let has_shape = shapes.is_empty();
    let mut checker = Checker { numbers: HashMap::with_capacity(tasks.len()), faults: shapes };
    checker.ids(tasks);
    let runtimes = checker.runtimes(tasks, &executed, scale);
    let needs = checker.parents(tasks);
    if has_shape {
        checker.children(tasks, &needs);
    }
    let graph = checker.graph(tasks, &needs);
    let graph = match graph {
        Some(graph) if checker.faults.is_empty() => graph,
        Some(_) | None => return Err(DocumentError::Trace(checker.faults)),
    };
    let seconds = |step: u32| runtimes.get(step as usize).copied().unwrap_or(0.0);
    let steps = (0u32..).zip(tasks).map(|(number, task)| sleeping_step(task, seconds(number)));
    let name = raw.name.as_ref().and_then(Value::as_str).filter(|name| check_name(name).is_ok());
    let definition = Definition::builder(name.unwrap_or("trace")).steps(steps).validate();
    Ok(Trace {
        definition: definition.map_err(DocumentError::Definition)?,
        work_s: runtimes.iter().sum(),
        critical_path_s: graph.critical_path(seconds),
    })
}

/// The input keeps whole microseconds.
fn sleeping_step(task: &RawTask, seconds: f64) -> Step {
    let us = (seconds * 1e6).round();
    let ms = if us % 1e3 == 0.0 { Some(Number::from((us / 1e3) as u64)) } else { Number::from_f64(us / 1e3) };
    // Parents are a set: one named twice is one edge.
    let mut seen = HashSet::with_capacity(task.parents.len());
    let needs = task.parents.iter().filter(|parent| seen.insert(parent.as_str()));
    Step::new(&task.id).activity("sleep").needs(needs).input(json!({ "ms": ms }))
}

struct Checker<'a> {
    numbers: HashMap<&'a str, u32>,
    faults: Vec<TraceFault>,
}

impl<'a> Checker<'a> {
    fn fault(&mut self, task: &str, kind: TraceFaultKind) {
        self.faults.push(TraceFault { task: Some(task.to_owned()), kind });
    }

    fn ids(&mut self, tasks: &[&'a RawTask]) {
        if tasks.is_empty() && self.faults.is_empty() {
            self.faults.push(TraceFault { task: None, kind: TraceFaultKind::NoTasks });
        }
        for (number, task) in (0u32..).zip(tasks) {
            if let Err(why) = check_name(&task.id) {
                self.fault(&task.id, TraceFaultKind::BadId(why));
            }
            if self.numbers.contains_key(task.id.as_str()) {
                self.fault(&task.id, TraceFaultKind::DuplicateId { list: "specification" });
            } else {
                self.numbers.insert(&task.id, number);
            }
        }
    }

    /// Scaled runtimes in seconds, in the order of the tasks.
    fn runtimes(&mut self, tasks: &[&RawTask], executed: &[&RawExecutedTask], scale: f64) -> Vec<f64> {
        let mut runtimes = vec![0.0; tasks.len()];
        let mut seen = HashSet::with_capacity(executed.len());
        for task in executed {
            if !seen.insert(task.id.as_str()) {
                self.fault(&task.id, TraceFaultKind::DuplicateId { list: "execution" });
                continue;
            }
            let number = self.numbers.get(task.id.as_str()).copied();
            if number.is_none() {
                self.fault(&task.id, TraceFaultKind::OneListOnly { list: "specification" });
            }
            match scaled_runtime(task.runtime.as_ref(), scale) {
                Err(kind) => self.fault(&task.id, kind),
                Ok(seconds) => {
                    if let Some(slot) = number.and_then(|number| runtimes.get_mut(number as usize)) {
                        *slot = seconds;
                    }
                }
            }
        }
        for task in tasks.iter().filter(|task| !seen.contains(task.id.as_str())) {
            self.fault(&task.id, TraceFaultKind::OneListOnly { list: "execution" });
        }
        runtimes
    }

    fn parents(&mut self, tasks: &[&RawTask]) -> Vec<Vec<u32>> {
        tasks.iter().map(|task| self.relatives(task, &task.parents, "parent")).collect()
    }

    /// Numbers of the tasks named, each once; faults for those that cannot be.
    fn relatives(&mut self, task: &RawTask, ids: &[String], relation: &'static str) -> Vec<u32> {
        let mut seen = HashSet::with_capacity(ids.len());
        let mut known = Vec::with_capacity(ids.len());
        for id in ids {
            match self.numbers.get(id.as_str()) {
                None => {
                    let kind = TraceFaultKind::UnknownRelative { relation, id: shown(id) };
                    self.fault(&task.id, kind);
                }
                Some(_) if *id == task.id => self.fault(&task.id, TraceFaultKind::OwnRelative { relation }),
                Some(&number) if seen.insert(number) => known.push(number),
                Some(_twice) => {}
            }
        }
        known
    }

    /// Where children are listed, they must say the same as the parents.
    fn children(&mut self, tasks: &[&RawTask], needs: &[Vec<u32>]) {
        let edges: HashSet<(u32, u32)> =
            (0u32..).zip(needs).flat_map(|(step, list)| list.iter().map(move |&need| (need, step))).collect();
        let mut named: HashSet<(u32, u32)> = HashSet::with_capacity(edges.len());
        let id_of = |number: u32| tasks.get(number as usize).map_or("", |task| task.id.as_str());
        for task in tasks {
            let Some(&number) = self.numbers.get(task.id.as_str()) else { continue };
            for child in self.relatives(task, task.children.as_deref().unwrap_or_default(), "child") {
                named.insert((number, child));
                if !edges.contains(&(number, child)) {
                    let kind = TraceFaultKind::OneSided { relation: "child", id: shown(id_of(child)) };
                    self.fault(&task.id, kind);
                }
            }
        }
        for (step, list) in (0u32..).zip(needs) {
            for &need in list {
                let listed = tasks.get(need as usize).is_some_and(|task| task.children.is_some());
                if listed && !named.contains(&(need, step)) {
                    let kind = TraceFaultKind::OneSided { relation: "parent", id: shown(id_of(need)) };
                    self.fault(id_of(step), kind);
                }
            }
        }
    }

    fn graph(&mut self, tasks: &[&RawTask], needs: &[Vec<u32>]) -> Option<Graph> {
        let cycles = match Graph::new(needs) {
            Ok(graph) => return Some(graph),
            Err(cycles) => cycles,
        };
        let id_of = |number: u32| tasks.get(number as usize).map_or("", |task| task.id.as_str());
        for cycle in cycles {
            let round = cycle.iter().chain(cycle.first()).map(|&number| shown(id_of(number))).collect();
            self.fault(cycle.first().map_or("", |&number| id_of(number)), TraceFaultKind::Cycle(round));
        }
        None
    }
}

fn scaled_runtime(runtime: Option<&Value>, scale: f64) -> Result<f64, TraceFaultKind> {
    let seconds = match runtime {
        None | Some(Value::Null) => return Err(TraceFaultKind::RuntimeMissing),
        Some(Value::Number(number)) => number.as_f64().unwrap_or(f64::NAN),
        Some(other @ (Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_))) => {
            let found = described(other);
            return Err(match odd_number(other) {
                Some(_) => TraceFaultKind::RuntimeNotFinite(found),
                None => TraceFaultKind::BadRuntime(found),
            });
        }
    };
    if !(0.0..=RUNTIME_MAX_S).contains(&seconds) {
        return Err(TraceFaultKind::BadRuntime(seconds.to_string()));
    }
    let scaled = seconds * scale;
    if scaled > RUNTIME_MAX_S { Err(TraceFaultKind::ScaledTooLong) } else { Ok(scaled) }
}
