//! Stored MessagePack as JSON, whatever it holds.

use rmpv::Value as Packed;
use serde_json::{Map, Number, Value};

/// Deepest nesting rendered.
const DEPTH_MAX: usize = 64;

/// The JSON form of one MessagePack value. Keys that are no strings are written as JSON, bytes as hexadecimal,
/// numbers without a JSON form as strings. `None` when the bytes are not exactly one value.
pub(super) fn to_json(bytes: &[u8]) -> Option<Value> {
    let mut rest = bytes;
    let packed = rmpv::decode::read_value_with_max_depth(&mut rest, DEPTH_MAX).ok()?;
    rest.is_empty().then(|| json(packed))
}

fn json(packed: Packed) -> Value {
    match packed {
        Packed::Nil => Value::Null,
        Packed::Boolean(value) => Value::Bool(value),
        Packed::Integer(value) => match (value.as_u64(), value.as_i64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::Null,
        },
        Packed::F32(value) => float(f64::from(value)),
        Packed::F64(value) => float(value),
        Packed::String(text) => match text.into_str() {
            Some(text) => Value::String(text),
            None => Value::Null,
        },
        Packed::Binary(bytes) | Packed::Ext(_, bytes) => Value::String(hex(&bytes)),
        Packed::Array(items) => Value::Array(items.into_iter().map(json).collect()),
        Packed::Map(pairs) => Value::Object(pairs.into_iter().map(pair).collect::<Map<_, _>>()),
    }
}

fn pair((key, value): (Packed, Packed)) -> (String, Value) {
    let key = match json(key) {
        Value::String(key) => key,
        other => other.to_string(),
    };
    (key, json(value))
}

fn float(value: f64) -> Value {
    Number::from_f64(value).map_or_else(|| Value::String(value.to_string()), Value::Number)
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use stanchion_actors::testing::bytes::{cases, damaged};

    use super::*;

    #[test]
    fn what_json_lacks_gets_a_readable_form() {
        let packed = Packed::Map(vec![
            (Packed::from(1), Packed::Binary(vec![0xAB, 1])),
            (Packed::from("nan"), Packed::F64(f64::NAN)),
        ]);
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &packed).unwrap();
        assert_eq!(to_json(&bytes), Some(json!({"1": "ab01", "nan": "NaN"})));
        bytes.push(0);
        assert_eq!(to_json(&bytes), None, "one value and no more");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: cases(1_000), failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn random_and_damaged_values_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), seed: u64) {
            let _ = to_json(&bytes);
            let value = json!({"a": [1, -2, 3.5, null, true], "b": {"c": "text", "d": [[[]]]}});
            let _ = to_json(&damaged(&stanchion_actors::store::encode(&value).unwrap(), seed));
        }
    }
}
