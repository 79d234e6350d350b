//! Values in memory: the run's input and the outputs that open steps may still use.

use super::codes::StepCode;
use super::effect::{OutputRow, RowKey};
use super::state::RunState;
use crate::workflow::definition::ValidDefinition;
use crate::workflow::template::Scope;
use serde_json::Value;

/// Largest output row in bytes: the store's limit for a row.
pub(super) const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// Most levels of lists and objects inside each other in an input or output: what is stored is read to 1 024.
pub(crate) const LEVELS_MAX: usize = 500;

/// Refuses a value that nests deeper than what is stored can be read.
pub(crate) fn check_levels(value: &Value) -> Result<(), String> {
    fn fits(value: &Value, left: usize) -> bool {
        let Some(inside) = left.checked_sub(1) else { return false };
        match value {
            Value::Array(items) => items.iter().all(|item| fits(item, inside)),
            Value::Object(map) => map.values().all(|value| fits(value, inside)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        }
    }
    if fits(value, LEVELS_MAX + 1) {
        return Ok(());
    }
    Err(format!("it nests more than {LEVELS_MAX} levels deep"))
}

/// An output as a row: its checksum and bytes; `None` for null, which has no row.
pub(super) fn encode_row(key: RowKey, value: &Value) -> Result<Option<(u32, OutputRow)>, String> {
    if value.is_null() {
        return Ok(None);
    }
    check_levels(value)?;
    let bytes = rmp_serde::to_vec_named(value).map_err(|e| e.to_string())?;
    if bytes.len() > OUTPUT_BYTES_MAX {
        return Err(format!("the output has {} bytes, over the limit of 1 MiB", bytes.len()));
    }
    Ok(Some((crc32c::crc32c(&bytes), OutputRow { key, bytes })))
}

impl RunState {
    /// Steps whose outputs must be loaded after recovery, ascending. A step without a row has output null.
    pub fn outputs_needed(&self, def: &ValidDefinition) -> Vec<u32> {
        (0..def.step_count())
            .filter(|&step| self.has_output(step) && self.is_read(def, step))
            .filter(|step| !self.memory.outputs.contains_key(step))
            .collect()
    }

    /// Gives back an output after recovery.
    pub fn restore_output(&mut self, step: u32, value: Value) {
        self.memory.outputs.insert(step, value);
    }

    /// Gives back the run's input after recovery.
    pub fn restore_input(&mut self, input: Value) {
        self.memory.input = input;
    }

    /// While held, no attempt starts: what is ready starts with the first input after that. Not stored.
    pub fn hold(&mut self, held: bool) {
        self.memory.held = held;
    }

    /// The run's input.
    #[must_use]
    pub fn input(&self) -> &Value {
        &self.memory.input
    }

    /// Keeps an output if somebody may use it.
    pub(super) fn keep_output(&mut self, def: &ValidDefinition, step: u32, value: Value) {
        if self.is_read(def, step) {
            self.memory.outputs.insert(step, value);
        }
    }

    fn is_read(&self, def: &ValidDefinition, step: u32) -> bool {
        self.derived.readers_left.get(step as usize).is_some_and(|&left| left > 0) || def.is_pinned(step)
    }

    fn has_output(&self, step: u32) -> bool {
        matches!(self.code(step), StepCode::Completed | StepCode::Compensated | StepCode::CompensationFailed)
    }
}

/// What the templates and conditions of one run may look at.
pub(super) struct RunScope<'a> {
    pub(super) def: &'a ValidDefinition,
    pub(super) state: &'a RunState,
}

impl Scope for RunScope<'_> {
    fn input(&self) -> &Value {
        &self.state.memory.input
    }

    fn output(&self, step: u32) -> Option<&Value> {
        if self.state.has_output(step) { self.state.memory.outputs.get(&step) } else { Some(&Value::Null) }
    }

    fn status(&self, step: u32) -> &'static str {
        self.state.code(step).name()
    }

    fn id(&self, step: u32) -> &str {
        self.def.step_id(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value that was stored and could not be read made its run unreadable.
    #[test]
    fn what_nests_too_deep_to_be_read_is_not_stored() {
        let nested = |levels: usize| (0..levels).fold(Value::from(1), |inside, _| Value::from(vec![inside]));
        let (_, row) = encode_row(RowKey::Run, &nested(LEVELS_MAX)).unwrap().unwrap();
        assert_eq!(OutputRow::decode(&row.bytes).unwrap(), nested(LEVELS_MAX));
        assert!(encode_row(RowKey::Run, &nested(LEVELS_MAX + 1)).unwrap_err().contains("500 levels"));
    }
}
