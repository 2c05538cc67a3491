//! Questions by Prometheus's API, over a connection that stays open, and how long their answers take.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// Something that a dashboard asks.
#[derive(Clone, Debug)]
pub struct Question {
    path: &'static str,
    parameters: Vec<(&'static str, String)>,
}

impl Question {
    /// At one time, Unix milliseconds.
    #[must_use]
    pub fn instant(query: impl Into<String>, at_ms: i64) -> Self {
        let parameters = vec![("query", query.into()), ("time", seconds(at_ms))];
        Self { path: "/api/v1/query", parameters }
    }

    /// From a time to another, Unix milliseconds.
    #[must_use]
    pub fn range(query: impl Into<String>, (from_ms, to_ms): (i64, i64), step_ms: i64) -> Self {
        let parameters = vec![
            ("query", query.into()),
            ("start", seconds(from_ms)),
            ("end", seconds(to_ms)),
            ("step", seconds(step_ms)),
        ];
        Self { path: "/api/v1/query_range", parameters }
    }

    /// All of one host's time: the rates of one of its collectors' series.
    pub(super) fn host_range(host: &str, from_ms: i64, to_ms: i64) -> Self {
        let step_ms = ((to_ms - from_ms) / 300).max(1_000);
        let query = format!("rate(bench_metric_0_bytes_total{{instance=\"{host}\"}}[1m])");
        Self::range(query, (from_ms, to_ms), step_ms)
    }

    /// The whole fleet at one time.
    pub(super) fn fleet_now(at_ms: i64) -> Self {
        Self::instant("topk(5, sum by (instance) (bench_metric_0_bytes_total))", at_ms)
    }
}

fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms.div_euclid(1_000), ms.rem_euclid(1_000))
}

/// Who asks one store.
#[derive(Clone, Debug)]
pub struct Asker {
    agent: ureq::Agent,
    url: String,
    token: Option<&'static str>,
}

impl Asker {
    pub(super) fn new(url: &str, token: Option<&'static str>) -> Self {
        let agent = ureq::Agent::config_builder().build().new_agent();
        Self { agent, url: url.to_owned(), token }
    }

    /// How long the whole answer took, and what it says.
    ///
    /// # Errors
    /// When the store can't be reached, refuses, or has nothing to say.
    pub fn ask(&self, question: &Question) -> Result<(Duration, Value)> {
        let mut request = self.agent.get(format!("{}{}", self.url, question.path));
        for (name, value) in &question.parameters {
            request = request.query(*name, value);
        }
        if let Some(token) = self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let begun = Instant::now();
        let mut response = request.call().with_context(|| format!("ask {}", self.url))?;
        let text = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string()?;
        let took = begun.elapsed();
        let answer: Value = serde_json::from_str(&text)?;
        let is_empty = answer["data"]["result"].as_array().is_none_or(Vec::is_empty);
        ensure!(!is_empty, "{} has no answer to {question:?}: {text}", self.url);
        Ok((took, answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds() {
        for (ms, text) in [(0, "0.000"), (1_234, "1.234"), (-1, "-1.999")] {
            assert_eq!(seconds(ms), text);
        }
    }
}
