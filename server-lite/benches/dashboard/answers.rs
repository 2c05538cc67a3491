//! Answers, to be compared whatever the order of their series.

use std::collections::BTreeMap;

use serde_json::Value;

/// Times in Unix milliseconds and values, by labels.
pub(crate) struct Answer(BTreeMap<String, Vec<(i64, f64)>>);

impl Answer {
    /// Of JSON as Prometheus's API has it.
    pub(crate) fn of(json: &Value) -> Self {
        let result = json["data"]["result"].as_array().expect("a result");
        let series = result.iter().map(|one| {
            let samples = match one["values"].as_array() {
                Some(all) => all.iter().map(sample).collect(),
                None => vec![sample(&one["value"])],
            };
            // serde_json keeps its maps sorted.
            (one["metric"].to_string(), samples)
        });
        Self(series.collect())
    }

    /// Whether another has the same series, times and values.
    ///
    /// # Errors
    /// The first difference.
    pub(crate) fn is_like(&self, other: &Self, tolerance: f64) -> Result<(), String> {
        if !self.0.keys().eq(other.0.keys()) {
            return Err(format!("series {:?}, not {:?}", other.0.keys(), self.0.keys()));
        }
        for ((labels, ours), theirs) in self.0.iter().zip(other.0.values()) {
            if ours.len() != theirs.len() {
                return Err(format!("{labels}: {} samples, not {}", theirs.len(), ours.len()));
            }
            for (one, other) in ours.iter().zip(theirs) {
                if one.0 != other.0 || !is_near(one.1, other.1, tolerance) {
                    return Err(format!("{labels}: {other:?}, not {one:?}"));
                }
            }
        }
        Ok(())
    }
}

fn is_near(one: f64, other: f64, tolerance: f64) -> bool {
    let apart = (one - other).abs();
    apart <= tolerance * one.abs().max(other.abs()) || one.is_nan() && other.is_nan()
}

fn sample(pair: &Value) -> (i64, f64) {
    let time_ms = (pair[0].as_f64().expect("a time") * 1e3).round() as i64;
    (time_ms, pair[1].as_str().expect("a value").parse().expect("a number"))
}
