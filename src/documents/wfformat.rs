//! A wfformat trace as written. Fields we do not use are not looked at: newer minor versions add more.

use super::trace::{TraceFault, TraceFaultKind};
use super::tree::{Element, Tree, described, odd_number};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use stanchion_actors::workflow::definition::Object;

/// The trace.
#[derive(Deserialize)]
pub(super) struct RawTrace {
    #[serde(default)]
    pub(super) name: Option<Value>,
    pub(super) workflow: Object<RawWorkflow>,
}

/// The two lists of tasks, which join by id.
#[derive(Deserialize)]
pub(super) struct RawWorkflow {
    pub(super) specification: Object<RawSpecification>,
    pub(super) execution: Object<RawExecution>,
}

/// What was to run.
#[derive(Deserialize)]
pub(super) struct RawSpecification {
    #[serde(default)]
    pub(super) tasks: Vec<Object<RawTask>>,
}

/// What did run.
#[derive(Deserialize)]
pub(super) struct RawExecution {
    #[serde(default)]
    pub(super) tasks: Vec<Object<RawExecutedTask>>,
}

/// A task of the specification; parents and children hold ids.
#[derive(Deserialize)]
pub(super) struct RawTask {
    pub(super) id: String,
    #[serde(default)]
    pub(super) parents: Vec<String>,
    /// Absent in traces that name parents only.
    #[serde(default)]
    pub(super) children: Option<Vec<String>>,
}

/// A task of the execution; 0 is a runtime, absence is a fault.
#[derive(Deserialize)]
pub(super) struct RawExecutedTask {
    pub(super) id: String,
    #[serde(rename = "runtimeInSeconds", default)]
    pub(super) runtime: Option<Value>,
}

/// A trace whose tasks may have any shape.
#[derive(Deserialize)]
pub(super) struct LooseTrace {
    #[serde(default)]
    name: Option<Tree>,
    workflow: Object<LooseWorkflow>,
}

#[derive(Deserialize)]
struct LooseWorkflow {
    specification: Object<LooseTasks<LooseTask>>,
    execution: Object<LooseTasks<LooseExecutedTask>>,
}

#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
struct LooseTasks<T> {
    #[serde(default = "Vec::new")]
    tasks: Vec<Element<T>>,
}

#[derive(Deserialize)]
struct LooseTask {
    #[serde(default, deserialize_with = "given")]
    id: Option<Tree>,
    #[serde(default, deserialize_with = "given")]
    parents: Option<Tree>,
    #[serde(default, deserialize_with = "given")]
    children: Option<Tree>,
}

#[derive(Deserialize)]
struct LooseExecutedTask {
    #[serde(default, deserialize_with = "given")]
    id: Option<Tree>,
    #[serde(rename = "runtimeInSeconds", default)]
    runtime: Option<Tree>,
}

/// A field that is there, be it null.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Tree>, D::Error> {
    Tree::deserialize(deserializer).map(Some)
}

impl LooseTrace {
    /// The trace without what has not the right shape, and the faults of that. Numbers are ids in YAML.
    pub(super) fn into_raw(self, is_yaml: bool) -> (RawTrace, Vec<TraceFault>) {
        let LooseWorkflow { specification, execution } = self.workflow.0;
        let mut shapes = Shapes { is_yaml, faults: Vec::new() };
        let mut tasks = Vec::new();
        for (at, element) in specification.0.tasks.into_iter().enumerate() {
            tasks.extend(shapes.task(at, element).map(Object));
        }
        let mut executed = Vec::new();
        for (at, element) in execution.0.tasks.into_iter().enumerate() {
            executed.extend(shapes.executed_task(at, element).map(Object));
        }
        let workflow = RawWorkflow {
            specification: Object(RawSpecification { tasks }),
            execution: Object(RawExecution { tasks: executed }),
        };
        let name = self.name.map(|name| name.0);
        (RawTrace { name, workflow: Object(workflow) }, shapes.faults)
    }
}

struct Shapes {
    is_yaml: bool,
    faults: Vec<TraceFault>,
}

impl Shapes {
    fn task(&mut self, at: usize, element: Element<LooseTask>) -> Option<RawTask> {
        let list = "specification";
        let LooseTask { id, parents, children } = self.object(list, at, element)?;
        let id = self.id(list, at, id)?;
        let parents = parents.map(|parents| self.ids(&id, "parents", parents.0));
        let children = match children {
            None | Some(Tree(Value::Null)) => None,
            Some(children) => Some(self.ids(&id, "children", children.0)),
        };
        Some(RawTask { id, parents: parents.unwrap_or_default(), children })
    }

    fn executed_task(&mut self, at: usize, element: Element<LooseExecutedTask>) -> Option<RawExecutedTask> {
        let list = "execution";
        let LooseExecutedTask { id, runtime } = self.object(list, at, element)?;
        let id = self.id(list, at, id)?;
        Some(RawExecutedTask { id, runtime: runtime.map(|runtime| runtime.0) })
    }

    fn fault(&mut self, task: Option<String>, kind: TraceFaultKind) {
        self.faults.push(TraceFault { task, kind });
    }

    fn object<T>(&mut self, list: &'static str, at: usize, element: Element<T>) -> Option<T> {
        match element {
            Element::Object(task) => Some(task),
            Element::Other(found) => {
                self.fault(None, TraceFaultKind::NoObject { list, at, found });
                None
            }
        }
    }

    fn id(&mut self, list: &'static str, at: usize, id: Option<Tree>) -> Option<String> {
        match id.map(|id| self.text(id.0)) {
            Some(Ok(id)) => Some(id),
            Some(Err(found)) => {
                self.fault(None, TraceFaultKind::NoId { list, at, found: Some(found) });
                None
            }
            None => {
                self.fault(None, TraceFaultKind::NoId { list, at, found: None });
                None
            }
        }
    }

    /// A text, or what is there in its place.
    fn text(&self, value: Value) -> Result<String, String> {
        match value {
            Value::String(text) if odd_number(&Value::from(text.as_str())).is_none() => Ok(text),
            Value::Number(number) if self.is_yaml => Ok(number.to_string()),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_) => Err(described(&value)),
        }
    }

    fn ids(&mut self, task: &str, field: &'static str, value: Value) -> Vec<String> {
        let Value::Array(items) = value else {
            let found = described(&value);
            self.fault(Some(task.to_owned()), TraceFaultKind::BadList { field, found });
            return Vec::new();
        };
        let mut ids = Vec::with_capacity(items.len());
        for item in items {
            match self.text(item) {
                Ok(id) => ids.push(id),
                Err(found) => self.fault(Some(task.to_owned()), TraceFaultKind::BadListItem { field, found }),
            }
        }
        ids
    }
}
