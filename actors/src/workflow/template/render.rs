//! Filling in templates.

use super::{Node, Piece, RENDERED_TEXT_MAX, Reference, Root, Segment};
use serde_json::Value;

/// What a template or condition may look at.
pub trait Scope {
    /// The run's input.
    fn input(&self) -> &Value;
    /// Output of a step: null when it was skipped or has not completed; `None` when it should be there and is not.
    fn output(&self, step: u32) -> Option<&Value>;
    /// Status of a step, as shown to users.
    fn status(&self, step: u32) -> &'static str;
    /// Id of a step.
    fn id(&self, step: u32) -> &str;
}

/// Why a template could not be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// A field or index that the value does not have.
    #[error("\"{reference}\" finds no {part}")]
    Missing {
        /// The reference as written.
        reference: String,
        /// The part of the path that failed.
        part: String,
    },
    /// An output that the run should hold in memory.
    #[error("the output of step \"{step}\" is not loaded")]
    NotLoaded {
        /// The step.
        step: String,
    },
    /// A text over 1 MiB.
    #[error("a text grows over 1 MiB")]
    TooLarge,
}

pub(super) fn node(node: &Node, scope: &dyn Scope) -> Result<Value, RenderError> {
    match node {
        Node::Literal(value) => Ok(value.clone()),
        Node::Reference(reference) => resolve(reference, scope),
        Node::Text(pieces) => text(pieces, scope),
        Node::Array(nodes) => {
            nodes.iter().map(|n| self::node(n, scope)).collect::<Result<Vec<_>, _>>().map(Value::Array)
        }
        Node::Object(nodes) => {
            let fields = nodes.iter().map(|(key, n)| Ok((key.clone(), self::node(n, scope)?)));
            fields.collect::<Result<_, _>>().map(Value::Object)
        }
    }
}

fn text(pieces: &[Piece], scope: &dyn Scope) -> Result<Value, RenderError> {
    let mut out = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Reference(reference) => match resolve(reference, scope)? {
                Value::String(text) => out.push_str(&text),
                other => out.push_str(&other.to_string()),
            },
        }
        if out.len() > RENDERED_TEXT_MAX {
            return Err(RenderError::TooLarge);
        }
    }
    Ok(Value::String(out))
}

fn resolve(reference: &Reference, scope: &dyn Scope) -> Result<Value, RenderError> {
    let root = match reference.root {
        Root::Input => scope.input(),
        Root::Output(step) => {
            scope.output(step).ok_or_else(|| RenderError::NotLoaded { step: scope.id(step).to_owned() })?
        }
        Root::Status(step) => return Ok(Value::from(scope.status(step))),
    };
    // The output of a step that was skipped is null, and so is everything in it.
    if root.is_null() && matches!(reference.root, Root::Output(_)) {
        return Ok(Value::Null);
    }
    let mut at = root;
    for segment in &reference.path {
        let (next, part) = match segment {
            Segment::Field(name) => (at.get(name.as_str()), name.clone()),
            Segment::Index(index) => (at.get(*index), index.to_string()),
        };
        at = next.ok_or_else(|| RenderError::Missing {
            reference: reference.text.clone(),
            part: format!("\"{part}\""),
        })?;
    }
    Ok(at.clone())
}
