//! One JSON object a line.

use serde_json::{Map, Value, json};

/// Prints rows.
#[derive(Default)]
pub struct Report;

impl Report {
    /// A figure that is no target.
    pub fn figure(&self, name: &str, raw: &[(&str, f64)]) {
        let mut row = Map::from_iter([("name".to_owned(), json!(name))]);
        extend(&mut row, raw);
        println!("{}", Value::Object(row));
    }

    /// A ratio (or figure) with a lower bound.
    pub fn at_least(&self, name: &str, value: f64, target: f64, raw: &[(&str, f64)]) {
        Self::row(name, value, target, value >= target, raw);
    }

    /// A ratio (or figure) with an upper bound.
    pub fn at_most(&self, name: &str, value: f64, target: f64, raw: &[(&str, f64)]) {
        Self::row(name, value, target, value <= target, raw);
    }

    fn row(name: &str, value: f64, target: f64, met: bool, raw: &[(&str, f64)]) {
        let mut row = Map::from_iter([
            ("name".to_owned(), json!(name)),
            ("value".to_owned(), json!(round(value))),
            ("target".to_owned(), json!(target)),
            ("met".to_owned(), json!(met)),
        ]);
        extend(&mut row, raw);
        println!("{}", Value::Object(row));
    }
}

fn extend(row: &mut Map<String, Value>, raw: &[(&str, f64)]) {
    for (key, value) in raw {
        row.insert((*key).to_owned(), json!(round(*value)));
    }
}

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
