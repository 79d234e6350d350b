//! The text of a document: JSON or YAML, and what kind of document it looks like.

use super::error::DocumentError;
use super::tree;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use serde_saphyr::NonFiniteFloatPolicy;
use stanchion_actors::workflow::definition::Object;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The text of a document and its language.
pub(super) struct Text<'a> {
    text: &'a str,
    is_json: bool,
}

/// The outline of a document, enough to tell what it is.
#[derive(Deserialize)]
pub(super) struct Probe {
    #[serde(rename = "schemaVersion", default)]
    schema_version: Option<Value>,
    #[serde(default)]
    workflow: Option<IgnoredAny>,
}

impl Probe {
    pub(super) fn is_trace(&self) -> bool {
        self.schema_version.is_some() && self.workflow.is_some()
    }

    /// Accepts schema 1.5 and newer 1.x.
    pub(super) fn check_schema(&self) -> Result<(), DocumentError> {
        let version = match &self.schema_version {
            Some(Value::String(text)) => text.trim().to_owned(),
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => String::new(),
        };
        let mut parts = version.split('.').map(str::parse::<u32>);
        match (parts.next(), parts.next()) {
            (Some(Ok(1)), Some(Ok(minor))) if minor >= 5 => Ok(()),
            (_, _) => Err(DocumentError::Schema { version: version.chars().take(32).collect() }),
        }
    }
}

impl<'a> Text<'a> {
    /// A text that begins with a brace or bracket is JSON, every other one YAML.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, DocumentError> {
        let text =
            std::str::from_utf8(bytes).map_err(|e| DocumentError::NotText { byte: e.valid_up_to() })?;
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
        match text.trim_start().chars().next() {
            None => Err(DocumentError::Empty),
            Some(first) => Ok(Self { text, is_json: matches!(first, '{' | '[') }),
        }
    }

    pub(super) fn probe(&self) -> Result<Probe, DocumentError> {
        let probe: Object<Probe> = self.parse().or_else(|error| self.parse_loosely(error))?;
        Ok(probe.0)
    }

    /// Whether numbers and truth values may stand where a text is wanted.
    pub(super) fn is_yaml(&self) -> bool {
        !self.is_json
    }

    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, DocumentError> {
        if self.is_json { parse_json(self.text) } else { self.parse_yaml(NonFiniteFloatPolicy::Reject) }
    }

    /// Reads what [`Self::parse`] has refused with this error, and takes numbers that JSON does not have.
    ///
    /// # Errors
    /// The error given, unless there is one behind such a number.
    pub(super) fn parse_loosely<T: DeserializeOwned>(
        &self,
        error: DocumentError,
    ) -> Result<T, DocumentError> {
        if !self.is_json {
            return self.parse_yaml(NonFiniteFloatPolicy::PassThrough).map_err(|_| error);
        }
        match tree::quoted(self.text) {
            Some(text) => parse_json(&text),
            None => parse_json(self.text).map_err(|_| error),
        }
    }

    fn parse_yaml<T: DeserializeOwned>(&self, non_finite: NonFiniteFloatPolicy) -> Result<T, DocumentError> {
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_events: 16_000_000,
                max_nodes: 8_000_000,
                max_total_scalar_bytes: 256 << 20,
                max_depth: 64,
                flow_nesting_limit: 64,
                max_aliases: 1_000,
                max_anchors: 1_000,
                max_documents: 1,
            },
            non_finite_float_policy: non_finite,
            with_snippet: false,
        };
        let parse = || serde_saphyr::from_str_with_options::<T>(self.text, options);
        let fault = |why: &str, at| DocumentError::Syntax { language: "YAML", why: shortened(why), at };
        // The parser is young and reads what strangers write: a panic in it is a refusal.
        match catch_unwind(AssertUnwindSafe(parse)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                let at = error.location().map_or((0, 0), |place| (place.line(), place.column()));
                Err(fault(&error.to_string(), at))
            }
            Err(_panic) => Err(fault("it cannot be parsed", (0, 0))),
        }
    }
}

fn parse_json<T: DeserializeOwned>(text: &str) -> Result<T, DocumentError> {
    serde_json::from_str(text).map_err(|error| syntax(&error))
}

/// The first line of a parser's message, at most 400 characters.
fn shortened(why: &str) -> String {
    why.lines().next().unwrap_or("it cannot be parsed").chars().take(400).collect()
}

fn syntax(error: &serde_json::Error) -> DocumentError {
    let at = (error.line() as u64, error.column() as u64);
    // serde_json repeats the position at the end of its message.
    let mut why = error.to_string();
    if let Some(end) = why.rfind(" at line ") {
        why.truncate(end);
    }
    DocumentError::Syntax { language: "JSON", why: shortened(&why), at }
}
