//! A document of any shape as a tree: what is read when it does not have the shape it should have, to say what is
//! wrong with each of its parts.

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;
use std::marker::PhantomData;

/// Begins a text that stands for a number which JSON does not have, such as `NaN`.
const ODD: &str = "\0number:";

/// Any value; numbers that JSON does not have are texts, see [`odd_number`].
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Tree(pub(super) Value);

/// The text in which a number that JSON does not have stands in a tree.
pub(super) fn odd_text(number: &str) -> String {
    format!("{ODD}{number}")
}

/// The number as written, if this is one that JSON does not have.
pub(super) fn odd_number(value: &Value) -> Option<&str> {
    value.as_str()?.strip_prefix(ODD)
}

/// The first number in a value that JSON does not have.
pub(super) fn odd_inside(value: &Value) -> Option<&str> {
    match value {
        Value::Array(items) => items.iter().find_map(odd_inside),
        Value::Object(map) => map.values().find_map(odd_inside),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => odd_number(value),
    }
}

/// A value in few words.
pub(super) fn described(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => match odd_number(value) {
            Some(number) => number.chars().take(40).collect(),
            None => Value::from(text.chars().take(40).collect::<String>()).to_string(),
        },
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        let number = Number::from_f64(value).map(Value::Number);
        Ok(Tree(number.unwrap_or_else(|| Value::String(odd_text(&value.to_string())))))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree(Value::from(text)))
    }

    fn visit_string<E>(self, text: String) -> Result<Tree, E> {
        Ok(Tree(Value::String(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(Tree(item)) = list.next_element()? {
            items.push(item);
        }
        Ok(Tree(Value::Array(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if fields.contains_key(&key) {
                let key: String = key.chars().take(80).collect();
                return Err(A::Error::custom(format_args!("duplicate field `{key}`")));
            }
            let Tree(value) = map.next_value()?;
            fields.insert(key, value);
        }
        Ok(Tree(Value::Object(fields)))
    }
}

/// An object, or what is there in its place.
#[derive(Debug)]
pub(super) enum Element<T> {
    /// An object.
    Object(T),
    /// Something else, in few words.
    Other(String),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Element<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ElementVisitor(PhantomData))
    }
}

struct ElementVisitor<T>(PhantomData<T>);

/// Something that is no object.
macro_rules! others {
    ($($visit:ident: $of:ty),*) => {
        $(fn $visit<E>(self, value: $of) -> Result<Element<T>, E> {
            Ok(Element::Other(described(&value.into())))
        })*
    };
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for ElementVisitor<T> {
    type Value = Element<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with named fields")
    }

    others!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_unit<E>(self) -> Result<Element<T>, E> {
        Ok(Element::Other("null".to_owned()))
    }

    fn visit_none<E>(self) -> Result<Element<T>, E> {
        Ok(Element::Other("null".to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Element<T>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Element::Other("a list".to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Element<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Element::Object)
    }
}

/// The JSON text with the numbers that JSON does not have as texts; `None`: there are none.
pub(super) fn quoted(text: &str) -> Option<String> {
    let mut out = String::new();
    let (mut from, mut at) = (0, 0);
    let bytes = text.as_bytes();
    while let Some(&byte) = bytes.get(at) {
        if byte == b'"' {
            at = string_end(bytes, at);
            continue;
        }
        let length = bytes.get(at..)?.iter().take_while(|byte| is_part(**byte)).count();
        let token = text.get(at..at + length)?;
        if is_odd(token) {
            out.push_str(text.get(from..at)?);
            out.push_str("\"\\u0000number:");
            out.push_str(token);
            out.push('"');
            from = at + length;
        }
        at += length.max(1);
        while !text.is_char_boundary(at) {
            at += 1;
        }
    }
    if from == 0 {
        return None;
    }
    out.push_str(text.get(from..)?);
    Some(out)
}

fn is_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

/// Behind the string that begins here.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// What Python writes and JSON does not have, and numbers that no float holds.
fn is_odd(token: &str) -> bool {
    let digits = token.strip_prefix('-').unwrap_or(token);
    match digits {
        "NaN" | "Infinity" => true,
        _ => digits.starts_with(|c: char| c.is_ascii_digit()) && token.parse().is_ok_and(f64::is_infinite),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_json_does_not_have_become_texts() {
        let text = r#"{"NaN": NaN, "é\"": [-Infinity, Infinity,1e999,-9e400], "n": [1e3, -2.5, true, null]}"#;
        let Tree(tree) = serde_json::from_str(&quoted(text).unwrap()).unwrap();
        assert_eq!(odd_number(&tree["NaN"]), Some("NaN"));
        let list: Vec<_> = tree["é\""].as_array().unwrap().iter().map(described).collect();
        assert_eq!(list, ["-Infinity", "Infinity", "1e999", "-9e400"]);
        assert_eq!(tree["n"], serde_json::json!([1e3, -2.5, true, null]));
        assert_eq!(quoted(r#"{"a": ["NaN", "1e999", 1, nan, inf]}"#), None);
        assert_eq!(quoted(r#"["open NaN"#), None);
    }
}
