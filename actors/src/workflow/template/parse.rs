//! Reading templates.

use super::{Node, Piece, Reference, Root, Segment, TEMPLATE_DEPTH_MAX, Template, TemplateFault};
use serde_json::Value;

struct Parser<'a> {
    number_of: &'a dyn Fn(&str) -> Option<u32>,
    references: Vec<u32>,
    faults: Vec<TemplateFault>,
}

pub(super) fn template(
    value: &Value,
    number_of: &dyn Fn(&str) -> Option<u32>,
) -> Result<Template, Vec<TemplateFault>> {
    let mut parser = Parser { number_of, references: Vec::new(), faults: Vec::new() };
    let root = parser.node(value, 0);
    if !parser.faults.is_empty() {
        return Err(parser.faults);
    }
    parser.references.sort_unstable();
    parser.references.dedup();
    Ok(Template { root, references: parser.references.into() })
}

impl Parser<'_> {
    fn node(&mut self, value: &Value, depth: usize) -> Node {
        if depth > TEMPLATE_DEPTH_MAX {
            if self.faults.last() != Some(&TemplateFault::TooDeep) {
                self.faults.push(TemplateFault::TooDeep);
            }
            return Node::Literal(Value::Null);
        }
        match value {
            Value::String(text) if text.contains("${") => self.text(text),
            Value::Array(items) => {
                folded_array(items.iter().map(|item| self.node(item, depth + 1)).collect())
            }
            Value::Object(map) => {
                folded_object(map.iter().map(|(k, v)| (k.clone(), self.node(v, depth + 1))).collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                Node::Literal(value.clone())
            }
        }
    }

    fn text(&mut self, text: &str) -> Node {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, from) = rest.split_at(at);
            if let Some(before) = before.strip_suffix('$') {
                plain.push_str(before);
                plain.push_str("${");
                rest = from.strip_prefix("${").unwrap_or_default();
                continue;
            }
            plain.push_str(before);
            let body = from.strip_prefix("${").unwrap_or_default();
            let Some(end) = closing_brace(body) else {
                self.syntax(from, "the closing } is missing");
                return Node::Literal(Value::Null);
            };
            let (inside, after) = body.split_at(end);
            if let Some(reference) = self.reference(inside) {
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(Piece::Reference(reference));
            }
            rest = after.strip_prefix('}').unwrap_or_default();
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        match (pieces.pop(), pieces.is_empty()) {
            (None, _) => Node::Literal(Value::String(String::new())),
            (Some(Piece::Reference(reference)), true) => Node::Reference(reference),
            (Some(Piece::Text(text)), true) => Node::Literal(Value::String(text)),
            (Some(last), false) => {
                pieces.push(last);
                Node::Text(pieces)
            }
        }
    }

    fn reference(&mut self, inside: &str) -> Option<Reference> {
        let trimmed = inside.trim();
        let segments = match segments(trimmed) {
            Ok(segments) => segments,
            Err(why) => {
                self.syntax(inside, why);
                return None;
            }
        };
        let mut segments = segments.into_iter();
        let root = match segments.next() {
            Some(Segment::Field(name)) if name == "input" => Root::Input,
            Some(Segment::Field(name)) if name == "steps" => {
                let (id, part) = (segments.next(), segments.next());
                self.step_root(inside, id, part)?
            }
            Some(Segment::Field(_) | Segment::Index(_)) | None => {
                self.syntax(inside, "it must begin with input or steps");
                return None;
            }
        };
        let path: Vec<Segment> = segments.collect();
        if matches!(root, Root::Status(_)) && !path.is_empty() {
            self.syntax(inside, "a status has no fields");
            return None;
        }
        Some(Reference { text: trimmed.to_owned(), root, path })
    }

    fn step_root(&mut self, inside: &str, id: Option<Segment>, part: Option<Segment>) -> Option<Root> {
        let (Some(Segment::Field(id)), Some(Segment::Field(part))) = (id, part) else {
            self.syntax(inside, "steps is followed by a step's id and by output or status");
            return None;
        };
        let Some(step) = (self.number_of)(&id) else {
            self.faults.push(TemplateFault::UnknownStep(id));
            return None;
        };
        self.references.push(step);
        match part.as_str() {
            "output" => Some(Root::Output(step)),
            "status" => Some(Root::Status(step)),
            _other => {
                self.syntax(inside, "a step has output and status only");
                None
            }
        }
    }

    fn syntax(&mut self, text: &str, why: &'static str) {
        self.faults.push(TemplateFault::Syntax { text: text.chars().take(80).collect(), why });
    }
}

/// Position of the `}` that closes a reference; braces inside quoted names do not count.
fn closing_brace(body: &str) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '}' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// Splits `a.b["c d"][0]` into its segments.
fn segments(text: &str) -> Result<Vec<Segment>, &'static str> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut name_may_follow = true;
    while !rest.is_empty() {
        if let Some(bracket) = rest.strip_prefix('[') {
            let (segment, after) = bracketed(bracket)?;
            found.push(segment);
            rest = after;
            name_may_follow = false;
        } else {
            let name_onward =
                if name_may_follow { rest } else { rest.strip_prefix('.').ok_or("a . or [ is missing")? };
            let end = name_onward.find(['.', '[']).unwrap_or(name_onward.len());
            let (name, after) = name_onward.split_at(end);
            if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-') {
                return Err("a name of letters, digits, _ and - is expected; quote others as [\"name\"]");
            }
            found.push(Segment::Field(name.to_owned()));
            rest = after;
            name_may_follow = false;
        }
    }
    Ok(found)
}

/// Reads `"name"]` or `0]` and what follows.
fn bracketed(body: &str) -> Result<(Segment, &str), &'static str> {
    if body.starts_with('"') {
        let mut strings = serde_json::Deserializer::from_str(body).into_iter::<String>();
        let Some(Ok(name)) = strings.next() else { return Err("a quoted name is malformed") };
        let after = body.get(strings.byte_offset()..).and_then(|s| s.strip_prefix(']'));
        return Ok((Segment::Field(name), after.ok_or("the closing ] is missing")?));
    }
    let (digits, after) = body.split_once(']').ok_or("the closing ] is missing")?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err("an index is a number or a quoted name");
    }
    Ok((Segment::Index(digits.parse().map_err(|_| "an index is too large")?), after))
}

/// An array without references is a literal: rendering it is one copy.
fn folded_array(nodes: Vec<Node>) -> Node {
    let literals: Option<Vec<Value>> = nodes.iter().map(as_literal).collect();
    literals.map_or(Node::Array(nodes), |values| Node::Literal(Value::Array(values)))
}

fn folded_object(nodes: Vec<(String, Node)>) -> Node {
    let literals: Option<_> = nodes.iter().map(|(k, n)| as_literal(n).map(|v| (k.clone(), v))).collect();
    literals.map_or(Node::Object(nodes), |map| Node::Literal(Value::Object(map)))
}

fn as_literal(node: &Node) -> Option<Value> {
    match node {
        Node::Literal(value) => Some(value.clone()),
        Node::Reference(_) | Node::Text(_) | Node::Array(_) | Node::Object(_) => None,
    }
}
