//! The CEL crate behind [`Condition`](super::Condition).

use super::{COMPREHENSION_DEPTH_MAX, CONDITION_DEPTH_MAX, ConditionError, ConditionFault};
use crate::workflow::template::Scope;
use cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, operators};
use cel::{Context, Program, Value};
use serde_json::Value as Json;
use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A compiled expression that refers to known steps only.
#[derive(Debug)]
pub(super) struct Compiled {
    program: Program,
}

/// Most punctuation in a source: each character may nest the expression once more.
const PUNCTUATION_MAX: usize = 512;
/// Deepest nesting of brackets: the generated parser recurses over them, with frames so large that eight
/// levels overflow one MiB in a debug build.
const BRACKET_DEPTH_MAX: usize = 24;
/// Stack of the thread that parses; more than three times what 24 brackets were seen to need.
const PARSER_STACK_BYTES: usize = 16 << 20;

pub(super) fn compile(
    source: &str,
    number_of: &dyn Fn(&str) -> Option<u32>,
) -> Result<(Compiled, Box<[u32]>), ConditionFault> {
    check_shape(source)?;
    let program = parse_on_a_large_stack(source)?;
    let mut names = Names { number_of, references: BTreeSet::new(), open: Vec::new() };
    names.open.push(Visit { expr: &program.expression().expr, depth: 0, loops: 0 });
    names.check_all()?;
    let references = names.references.iter().copied().collect();
    Ok((Compiled { program }, references))
}

/// Bounds what the parser would recurse over, before it does.
fn check_shape(source: &str) -> Result<(), ConditionFault> {
    let mut depth = 0usize;
    let mut punctuation = 0usize;
    for c in source.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        punctuation += usize::from(!c.is_alphanumeric() && !c.is_whitespace());
        if depth > BRACKET_DEPTH_MAX || punctuation > PUNCTUATION_MAX {
            return Err(ConditionFault::TooDeep);
        }
    }
    Ok(())
}

/// Parses in a thread of its own, which ends before this returns; a panic of the parser ends there, too.
fn parse_on_a_large_stack(source: &str) -> Result<Program, ConditionFault> {
    let cannot = || ConditionFault::Syntax("it cannot be parsed".to_owned());
    let parse = || catch_unwind(|| Program::compile(source).map_err(|e| first_line(&e.to_string())));
    let outcome = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(PARSER_STACK_BYTES);
        thread.spawn_scoped(scope, parse).ok().and_then(|handle| handle.join().ok())
    });
    match outcome {
        Some(Ok(Ok(program))) => Ok(program),
        Some(Ok(Err(why))) => Err(ConditionFault::Syntax(why)),
        Some(Err(_)) | None => Err(cannot()),
    }
}

/// One expression still to be looked at.
#[derive(Clone, Copy)]
struct Visit<'e> {
    expr: &'e Expr,
    depth: usize,
    loops: usize,
}

/// Walks the expression without recursion and collects the steps it refers to.
struct Names<'e, 'n> {
    number_of: &'n dyn Fn(&str) -> Option<u32>,
    references: BTreeSet<u32>,
    open: Vec<Visit<'e>>,
}

impl<'e> Names<'e, '_> {
    fn check_all(&mut self) -> Result<(), ConditionFault> {
        let mut bound: BTreeSet<&'e str> = BTreeSet::new();
        while let Some(visit) = self.open.pop() {
            if visit.depth > CONDITION_DEPTH_MAX || visit.loops > COMPREHENSION_DEPTH_MAX {
                return Err(ConditionFault::TooDeep);
            }
            let below = Visit { depth: visit.depth + 1, ..visit };
            match visit.expr {
                Expr::Unspecified | Expr::Literal(_) => {}
                Expr::Ident(name) => check_name(name, &bound)?,
                Expr::Select(select) => match &select.operand.expr {
                    Expr::Ident(root) if root == "steps" => self.refer(&select.field)?,
                    operand => self.open.push(Visit { expr: operand, ..below }),
                },
                Expr::Call(call) => self.call(call, below)?,
                Expr::List(list) => {
                    self.open.extend(list.elements.iter().map(|e| Visit { expr: &e.expr, ..below }));
                }
                Expr::Map(map) => self.entries(map.entries.iter().map(|e| &e.expr), below),
                Expr::Struct(_) => return Err(ConditionFault::Syntax("it builds a message".to_owned())),
                Expr::Comprehension(c) => {
                    bound.insert(&c.iter_var);
                    bound.insert(&c.accu_var);
                    bound.extend(c.iter_var2.as_deref());
                    if bound.contains("steps") || bound.contains("input") {
                        return Err(ConditionFault::Syntax("it binds steps or input anew".to_owned()));
                    }
                    self.open.push(Visit { expr: &c.iter_range.expr, ..below });
                    for part in [&c.accu_init, &c.loop_cond, &c.loop_step, &c.result] {
                        self.open.push(Visit { expr: &part.expr, loops: visit.loops + 1, ..below });
                    }
                }
            }
        }
        Ok(())
    }

    fn call(&mut self, call: &'e CallExpr, below: Visit<'e>) -> Result<(), ConditionFault> {
        if call.func_name == operators::INDEX
            && let [root, index] = call.args.as_slice()
            && let (Expr::Ident(name), Expr::Literal(LiteralValue::String(id))) = (&root.expr, &index.expr)
            && name == "steps"
        {
            return self.refer(id.inner());
        }
        self.open.extend(call.target.iter().map(|e| Visit { expr: &e.expr, ..below }));
        self.open.extend(call.args.iter().map(|e| Visit { expr: &e.expr, ..below }));
        Ok(())
    }

    fn entries(&mut self, entries: impl Iterator<Item = &'e EntryExpr>, below: Visit<'e>) {
        for entry in entries {
            match entry {
                EntryExpr::MapEntry(pair) => {
                    self.open.push(Visit { expr: &pair.key.expr, ..below });
                    self.open.push(Visit { expr: &pair.value.expr, ..below });
                }
                EntryExpr::StructField(field) => self.open.push(Visit { expr: &field.value.expr, ..below }),
            }
        }
    }

    fn refer(&mut self, id: &str) -> Result<(), ConditionFault> {
        let step = (self.number_of)(id).ok_or_else(|| ConditionFault::UnknownStep(id.to_owned()))?;
        self.references.insert(step);
        Ok(())
    }
}

fn check_name(name: &str, bound: &BTreeSet<&str>) -> Result<(), ConditionFault> {
    match name {
        "input" => Ok(()),
        "steps" => Err(ConditionFault::Syntax("steps must be followed by a step's id".to_owned())),
        _ if bound.contains(name) || TYPES.contains(&name) => Ok(()),
        _ => Err(ConditionFault::UnknownName(name.to_owned())),
    }
}

/// Type names that CEL itself defines.
const TYPES: [&str; 9] = ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "uint"];

impl Compiled {
    pub(super) fn evaluate(&self, scope: &dyn Scope, references: &[u32]) -> Result<bool, ConditionError> {
        let steps = steps_value(scope, references)?;
        let input = from_json(scope.input());
        let run = || {
            let mut context = Context::default();
            context.add_variable_from_value("input", input);
            context.add_variable_from_value("steps", steps);
            match self.program.execute(&context) {
                Ok(Value::Bool(answer)) => Ok(answer),
                Ok(other) => Err(ConditionError::NotBool(other.type_of().to_string())),
                Err(error) => Err(ConditionError::Failed(first_line(&error.to_string()))),
            }
        };
        catch_unwind(AssertUnwindSafe(run))
            .unwrap_or_else(|_panic| Err(ConditionError::Failed("its evaluation panicked".to_owned())))
    }
}

fn steps_value(scope: &dyn Scope, references: &[u32]) -> Result<Value, ConditionError> {
    let mut steps: HashMap<String, Value> = HashMap::with_capacity(references.len());
    for &step in references {
        let id = scope.id(step).to_owned();
        let Some(output) = scope.output(step) else { return Err(ConditionError::NotLoaded(id)) };
        let view = HashMap::from([
            ("output".to_owned(), from_json(output)),
            ("status".to_owned(), Value::from(scope.status(step))),
        ]);
        steps.insert(id, Value::from(view));
    }
    Ok(Value::from(steps))
}

/// JSON as CEL sees it: whole numbers are `int`, so that `input.x > 1` compares like with like.
fn from_json(value: &Json) -> Value {
    match value {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(int), _) => Value::Int(int),
            (None, Some(uint)) => Value::UInt(uint),
            (None, None) => Value::Float(n.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::String(Arc::new(text.clone())),
        Json::Array(items) => Value::List(Arc::new(items.iter().map(from_json).collect())),
        Json::Object(map) => {
            Value::from(map.iter().map(|(k, v)| (k.clone(), from_json(v))).collect::<HashMap<_, _>>())
        }
    }
}

/// The first line of an error, at most 200 characters.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or("it cannot be read").chars().take(200).collect()
}
