//! The text of a document: JSON or YAML, and what kind of document it looks like.

use super::error::DocumentError;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use stanchion_actors::workflow::definition::Object;
use std::borrow::Cow;
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
        let probe: Object<Probe> = self.parse()?;
        Ok(probe.0)
    }

    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, DocumentError> {
        if self.is_json { self.parse_json() } else { self.parse_yaml() }
    }

    fn parse_json<T: DeserializeOwned>(&self) -> Result<T, DocumentError> {
        let mut text = Cow::Borrowed(self.text);
        for _ in 0..QUOTED_MAX {
            let error = match serde_json::from_str(&text) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            match quote_number(&text, &error) {
                Some(quoted) => text = Cow::Owned(quoted),
                None => return Err(syntax(&error)),
            }
        }
        serde_json::from_str(&text).map_err(|error| syntax(&error))
    }

    fn parse_yaml<T: DeserializeOwned>(&self) -> Result<T, DocumentError> {
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

/// The first line of a parser's message, at most 400 characters.
fn shortened(why: &str) -> String {
    why.lines().next().unwrap_or("it cannot be parsed").chars().take(400).collect()
}

/// Numbers that no float holds and that are looked at one by one.
const QUOTED_MAX: usize = 16;

/// The text with the number that no float holds as a string, if that is the error: what reads it as a value can then
/// say whose it is.
fn quote_number(text: &str, error: &serde_json::Error) -> Option<String> {
    if !error.to_string().starts_with("number out of range") {
        return None;
    }
    let line_start: usize = text.split_inclusive('\n').take(error.line().checked_sub(1)?).map(str::len).sum();
    let near = (line_start + error.column()).min(text.len());
    let part = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
    let bytes = text.as_bytes();
    // The parser stops in the number or just behind it.
    let before = bytes.get(..near)?.iter().rev().position(part)?;
    let inside = near - before;
    let start = inside - bytes.get(..inside)?.iter().rev().take_while(|byte| part(byte)).count();
    let end = inside + bytes.get(inside..)?.iter().take_while(|byte| part(byte)).count();
    Some(format!("{}\"{}\"{}", text.get(..start)?, text.get(start..end)?, text.get(end..)?))
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
