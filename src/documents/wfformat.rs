//! A wfformat trace as written. Fields we do not use are not looked at: newer minor versions add more.

use serde::Deserialize;
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
