//! From bytes to a document: unpack, recognise, parse, check.

use super::detect::Text;
use super::error::DocumentError;
use super::shape::{self, MissingActivity, Shapes};
use super::trace::{self, Bounds, Trace};
use super::tree::Tree;
use super::wfformat::{LooseTrace, RawTrace};
use flate2::read::MultiGzDecoder;
use serde_json::Value;
use stanchion_actors::workflow::definition::Object;
use stanchion_actors::workflow::{Definition, ValidDefinition};
use std::borrow::Cow;
use std::io::Read;
use std::str::FromStr;

/// What a document is to be read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// A document with `schemaVersion` and `workflow` is a trace, every other one a definition.
    #[default]
    Auto,
    /// A workflow definition.
    Definition,
    /// A wfformat trace.
    Wfformat,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "auto" => Ok(Self::Auto),
            "definition" => Ok(Self::Definition),
            "wfformat" => Ok(Self::Wfformat),
            _ => Err(format!("unknown format \"{name}\": use auto, definition or wfformat")),
        }
    }
}

/// Bounds on documents.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DocumentLimits {
    /// Most bytes, after unpacking; default 256 MiB.
    pub bytes_max: usize,
}

impl Default for DocumentLimits {
    fn default() -> Self {
        Self { bytes_max: 256 << 20 }
    }
}

/// How a document is read.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadOptions {
    /// What it is to be read as.
    pub format: Format,
    /// Factor on the runtimes of a trace; at least 0; 0 = no sleep. Without meaning for definitions.
    pub time_scale: f64,
    /// Bounds.
    pub limits: DocumentLimits,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { format: Format::Auto, time_scale: 1.0, limits: DocumentLimits::default() }
    }
}

/// A document that can be run.
#[derive(Debug)]
pub enum Document {
    /// A workflow definition.
    Definition(ValidDefinition),
    /// A trace, as a definition of sleeping steps.
    Trace(Trace),
}

impl Document {
    /// The definition to run.
    #[must_use]
    pub fn definition(&self) -> &ValidDefinition {
        match self {
            Self::Definition(definition) => definition,
            Self::Trace(trace) => &trace.definition,
        }
    }

    /// The definition to run, by value.
    #[must_use]
    pub fn into_definition(self) -> ValidDefinition {
        match self {
            Self::Definition(definition) => definition,
            Self::Trace(trace) => trace.definition,
        }
    }

    /// Bounds on the makespan with this many workers; `None` for a definition.
    #[must_use]
    pub fn bounds(&self, workers: u32) -> Option<Bounds> {
        match self {
            Self::Definition(_) => None,
            Self::Trace(trace) => Some(trace.bounds(workers)),
        }
    }
}

/// Reads a document from bytes, packed with gz or not.
///
/// # Errors
/// [`DocumentError`]: every fault found; the caller should correct the document.
///
/// # Examples
/// ```
/// use stanchion::documents::{ReadOptions, read};
/// let text = "name: hello\nsteps:\n  - {id: greet, activity: echo, input: hi}\n";
/// let document = read(text.as_bytes(), &ReadOptions::default())?;
/// assert_eq!(document.definition().step_count(), 1);
/// # Ok::<(), stanchion::documents::DocumentError>(())
/// ```
pub fn read(bytes: &[u8], options: &ReadOptions) -> Result<Document, DocumentError> {
    read_for(bytes, options, &|_| None)
}

/// [`read()`] for a program that has only some activities: `missing` says of one what is wrong with it there. Steps that
/// need such a one are listed beside the other faults.
///
/// # Errors
/// [`DocumentError`]: every fault found; the caller should correct the document.
pub fn read_for(
    bytes: &[u8],
    options: &ReadOptions,
    missing: &dyn Fn(&str) -> Option<MissingActivity>,
) -> Result<Document, DocumentError> {
    if !(options.time_scale.is_finite() && options.time_scale >= 0.0) {
        return Err(DocumentError::BadScale { scale: options.time_scale.to_string() });
    }
    let unpacked = unpack(bytes, options.limits.bytes_max)?;
    let text = Text::new(&unpacked)?;
    let is_trace = match options.format {
        Format::Definition => false,
        Format::Wfformat => true,
        Format::Auto => text.probe()?.is_trace(),
    };
    if !is_trace {
        return definition(&text, missing).map(Document::Definition);
    }
    text.probe()?.check_schema()?;
    let (raw, shapes) = match text.parse::<Object<RawTrace>>() {
        Ok(Object(raw)) => (raw, Vec::new()),
        Err(error) => text.parse_loosely::<Object<LooseTrace>>(error)?.0.into_raw(text.is_yaml()),
    };
    trace::convert(&raw, options.time_scale, shapes).map(Document::Trace)
}

fn definition(
    text: &Text<'_>,
    missing: &dyn Fn(&str) -> Option<MissingActivity>,
) -> Result<ValidDefinition, DocumentError> {
    let (source, shapes) = match text.parse::<Object<Definition>>() {
        Ok(Object(source)) => (source, Shapes::default()),
        Err(error) => {
            let Tree(tree) = text.parse_loosely(error.clone())?;
            let Value::Object(fields) = tree else { return Err(error) };
            let (source, shapes) = Shapes::of(fields, text.is_yaml());
            if shapes.is_empty() {
                return Err(error);
            }
            (source, shapes)
        }
    };
    let activities = shape::activity_faults(&source, missing);
    match source.validate() {
        Ok(definition) if shapes.is_empty() && activities.is_empty() => Ok(definition),
        Err(faults) if shapes.is_empty() && activities.is_empty() => Err(DocumentError::Definition(faults)),
        valid => Err(DocumentError::Listed(shapes.beside(valid.err().as_ref(), activities))),
    }
}

/// Unpacks gz data, recognised by its first two bytes, within the limit.
fn unpack(bytes: &[u8], limit: usize) -> Result<Cow<'_, [u8]>, DocumentError> {
    let unpacked = if bytes.starts_with(&[0x1F, 0x8B]) {
        let mut out = Vec::new();
        let mut decoder = MultiGzDecoder::new(bytes).take(limit as u64 + 1);
        decoder.read_to_end(&mut out).map_err(|e| DocumentError::Gzip { why: e.to_string() })?;
        Cow::Owned(out)
    } else {
        Cow::Borrowed(bytes)
    };
    if unpacked.len() > limit {
        return Err(DocumentError::TooLarge { limit });
    }
    Ok(unpacked)
}
