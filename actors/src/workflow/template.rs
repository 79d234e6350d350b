//! Templates: JSON values whose strings may refer to the run's input and to earlier steps.
//!
//! `${input.path}`, `${steps.ID.output.path}` and `${steps.ID.status}`; a path is made of `.name`,
//! `["any name"]` and `[index]`. A string that is one reference becomes the value itself, of any type; inside
//! other text a reference is interpolated. `$${` stands for a literal `${`.

mod parse;
mod render;

pub use render::{RenderError, Scope};

use serde_json::Value;

/// Deepest nesting of a template.
pub const TEMPLATE_DEPTH_MAX: usize = 128;
/// Longest text an interpolated string may become, in bytes.
pub const RENDERED_TEXT_MAX: usize = 1 << 20;

/// A parsed template whose references are step numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    root: Node,
    references: Box<[u32]>,
}

/// What is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateFault {
    /// A reference that cannot be read.
    #[error("\"{text}\": {why}")]
    Syntax {
        /// The reference as written, shortened.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A reference to a step that does not exist.
    #[error("unknown step \"{0}\"")]
    UnknownStep(String),
    /// Nested deeper than 128 levels.
    #[error("nested deeper than 128 levels")]
    TooDeep,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Literal(Value),
    Reference(Reference),
    Text(Vec<Piece>),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Reference(Reference),
}

#[derive(Debug, Clone, PartialEq)]
struct Reference {
    text: String,
    root: Root,
    path: Vec<Segment>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Root {
    Input,
    Output(u32),
    Status(u32),
}

#[derive(Debug, Clone, PartialEq)]
enum Segment {
    Field(String),
    Index(usize),
}

impl Template {
    /// Reads a template; `number_of` knows the steps.
    ///
    /// # Errors
    /// Every fault in the template; the caller should correct the document.
    pub fn parse(value: &Value, number_of: &dyn Fn(&str) -> Option<u32>) -> Result<Self, Vec<TemplateFault>> {
        parse::template(value, number_of)
    }

    /// A template without references.
    #[must_use]
    pub fn literal(value: Value) -> Self {
        Self { root: Node::Literal(value), references: Box::default() }
    }

    /// Numbers of the steps whose output or status is used; ascending, each once.
    #[must_use]
    pub fn references(&self) -> &[u32] {
        &self.references
    }

    /// Fills in the references.
    ///
    /// # Errors
    /// [`RenderError`]: which reference found nothing; the step cannot start.
    pub fn render(&self, scope: &dyn Scope) -> Result<Value, RenderError> {
        render::node(&self.root, scope)
    }
}

#[cfg(test)]
mod tests;
