//! The lines of answers. Field names and their order are a contract.

use serde::{Deserialize, Serialize};
use stanchion_actors::{
    store::Head,
    workflow::{RunState, StoredRun, definition::ValidDefinition},
};

/// One run of `list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRow {
    /// Its id.
    pub run_id: String,
    /// Name of its definition; `None` when it cannot be read.
    pub definition: Option<String>,
    /// Where it stands.
    pub status: String,
    /// Steps of its definition.
    pub steps_total: Option<u32>,
    /// Of these, completed.
    pub steps_completed: Option<u32>,
    /// When it started, in Unix microseconds.
    pub started_us: i64,
    /// When it last changed, in Unix microseconds.
    pub updated_us: i64,
}

/// One flag of `flag ls`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlagRow {
    /// Its name.
    pub flag: String,
    /// `switch` or `share`.
    pub kind: String,
    /// `true` or `false`, or the percentage of ids.
    pub setting: serde_json::Value,
    /// Who changed it last.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, in Unix microseconds.
    pub changed_us: i64,
}

/// One step of `show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRow {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub status: String,
    /// Attempts begun.
    pub attempts: u32,
    /// Its last error.
    pub last_error: Option<StepFault>,
    /// When its next attempt is due, in Unix microseconds.
    pub retry_at_us: Option<i64>,
    /// What lets it run, beside the time: `breaker`.
    #[serde(default)]
    pub waiting_for: Option<String>,
}

/// Why an attempt of a step failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFault {
    /// Short code.
    pub code: String,
    /// For people.
    pub message: String,
}

/// The answer to `show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunShow {
    /// As in `list`.
    #[serde(flatten)]
    pub run: RunRow,
    /// Its steps in document order.
    pub steps: Vec<StepRow>,
}

/// The answer to `pause`, `resume`, `cancel` and `retry`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ToldRow {
    pub(crate) run_id: String,
    pub(crate) status: String,
}

/// The answer to `backup`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BackupRow {
    pub(crate) file: String,
    pub(crate) bytes: u64,
}

/// One entity of `entity ls`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntityRow {
    pub(crate) kind: String,
    pub(crate) key: String,
    pub(crate) version: u64,
    pub(crate) status: Option<String>,
    pub(crate) updated_us: i64,
}

/// The answer to `entity purge`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PurgedRow {
    pub(crate) kind: String,
    pub(crate) key: String,
    pub(crate) purged: bool,
}

/// The answer to `entity show`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EntityShow {
    pub(crate) kind: String,
    pub(crate) key: String,
    pub(crate) version: u64,
    pub(crate) updated_us: i64,
    pub(crate) state: serde_json::Value,
    /// Events after the state, for kinds that this program cannot fold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) events: Vec<serde_json::Value>,
}

impl RunRow {
    /// The row of a run.
    #[must_use]
    pub fn of(run: &StoredRun) -> Self {
        Self::at(&run.head, &run.definition, &run.state)
    }

    pub(crate) fn at(head: &Head, definition: &ValidDefinition, state: &RunState) -> Self {
        let counts = state.counts(definition);
        Self {
            run_id: head.name.key.to_string(),
            definition: Some(definition.name().to_owned()),
            status: state.status().name().to_owned(),
            steps_total: Some(counts.total),
            steps_completed: Some(counts.completed),
            started_us: state.started_us(),
            updated_us: head.updated.0,
        }
    }

    /// The row of a run whose record this program cannot read.
    pub(crate) fn unreadable(head: &Head) -> Self {
        Self {
            run_id: head.name.key.to_string(),
            definition: None,
            status: head.status.clone(),
            steps_total: None,
            steps_completed: None,
            started_us: head.created.0,
            updated_us: head.updated.0,
        }
    }
}

impl RunShow {
    /// A run and its steps.
    #[must_use]
    pub fn of(run: &StoredRun) -> Self {
        Self::at(&run.head, &run.definition, &run.state)
    }

    pub(crate) fn at(head: &Head, definition: &ValidDefinition, state: &RunState) -> Self {
        let steps = state.steps(definition).map(|step| StepRow {
            id: step.id.to_owned(),
            status: step.status.to_owned(),
            attempts: step.attempts,
            last_error: step
                .last_error
                .map(|error| StepFault { code: error.code.to_string(), message: error.message.to_string() }),
            retry_at_us: step.retry_at_us,
            waiting_for: step.waiting_for.map(|waiting| waiting.name().to_owned()),
        });
        Self { steps: steps.collect(), run: RunRow::at(head, definition, state) }
    }
}
