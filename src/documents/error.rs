//! Why bytes are no document; rendered as `WHAT at WHERE: WHAT WOULD BE RIGHT`.

use super::trace::TraceFault;
use stanchion_actors::workflow::DefinitionFaults;
use std::fmt;

/// Why bytes are no document. Nothing was stored; the caller should correct the document or the options.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum DocumentError {
    /// Over the size limit, after unpacking.
    TooLarge {
        /// Most bytes allowed.
        limit: usize,
    },
    /// The gz data is damaged.
    Gzip {
        /// What the unpacker says.
        why: String,
    },
    /// Not UTF-8.
    NotText {
        /// Position of the first wrong byte.
        byte: usize,
    },
    /// Nothing but white space.
    Empty,
    /// Not well-formed, or not of the expected shape, such as an unknown field.
    Syntax {
        /// JSON or YAML.
        language: &'static str,
        /// What is wrong.
        why: String,
        /// Line and column, from 1; 0 when not known.
        at: (u64, u64),
    },
    /// A trace of a schema version that is not supported.
    Schema {
        /// The version as written; empty when missing.
        version: String,
    },
    /// The time scale is not a number of at least 0.
    BadScale {
        /// The value as given.
        scale: String,
    },
    /// Faults of a trace, all of them.
    Trace(Vec<TraceFault>),
    /// Faults of a definition, all of them.
    Definition(DefinitionFaults),
    /// Faults of a definition, all of them: of the shape of its fields, of what it says, and of activities that are
    /// not there.
    Listed(Vec<FaultLine>),
}

/// One fault, in the parts an error message is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultLine {
    /// Short code for programs.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// Where in the document.
    pub place: String,
    /// What would be right.
    pub hint: String,
}

impl fmt::Display for FaultLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.message, self.place, self.hint)
    }
}

impl DocumentError {
    /// Every fault; never empty.
    #[must_use]
    pub fn lines(&self) -> Vec<FaultLine> {
        match self {
            Self::Trace(faults) => faults.iter().map(TraceFault::line).collect(),
            Self::Definition(faults) => faults.as_slice().iter().map(definition_line).collect(),
            Self::Listed(lines) => lines.clone(),
            Self::TooLarge { limit } => line(
                "too_large",
                "the document is too large",
                "its end",
                format!("use at most {limit} bytes unpacked"),
            ),
            Self::Gzip { why } => {
                line("gzip", format!("the gz data is damaged ({why})"), "the file", "pack it again")
            }
            Self::NotText { byte } => {
                line("not_text", "the document is not text", format!("byte {byte}"), "save it as UTF-8")
            }
            Self::Empty => {
                line("empty", "the document is empty", "its start", "give a definition or a trace")
            }
            Self::Syntax { language, why, at: (line_number, column) } => {
                let place = match line_number {
                    0 => "the document".to_owned(),
                    _ => format!("line {line_number} column {column}"),
                };
                line(
                    "syntax",
                    why.clone(),
                    place,
                    format!("correct the {language} document, see docs/WORKFLOWS.md"),
                )
            }
            Self::Schema { version } => {
                let message = match version.as_str() {
                    "" => "the trace names no schema version".to_owned(),
                    _ => format!("wfformat schema {version} is not supported"),
                };
                line("schema", message, "schemaVersion", "use schema 1.5 or a newer 1.x")
            }
            Self::BadScale { scale } => line(
                "time_scale",
                format!("the time scale is {scale}"),
                "--time-scale",
                "use a number of at least 0",
            ),
        }
    }
}

fn line(
    code: &'static str,
    message: impl Into<String>,
    place: impl Into<String>,
    hint: impl Into<String>,
) -> Vec<FaultLine> {
    vec![FaultLine { code, message: message.into(), place: place.into(), hint: hint.into() }]
}

pub(super) fn definition_line(fault: &stanchion_actors::workflow::definition::Fault) -> FaultLine {
    let message = match &fault.step {
        Some(step) => format!("step \"{step}\" {}", fault.kind),
        None => format!("the definition {}", fault.kind),
    };
    let place = fault.at.map_or_else(|| "its top level".to_owned(), |at| format!("steps[{at}]"));
    FaultLine { code: "definition", message, place, hint: fault.hint.clone() }
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, line) in self.lines().iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for DocumentError {}
