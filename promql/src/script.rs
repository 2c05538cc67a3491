//! Test scripts in the format of Prometheus's own tests.
//!
//! ```text
//! load 5m
//!   http_requests{job="api"}  0+10x10 _ stale 5x3
//!
//! eval instant at 50m sum(http_requests)
//!   {} 100
//!
//! eval range from 0 to 10m step 5m http_requests
//!   http_requests{job="api"} 0 10 20
//!
//! eval instant at 0 ceil("a")
//!   expect fail
//!
//! clear
//! ```
//!
//! `load` adds samples from time zero on, one each interval: `a`, `a+bxN` (a and N more, each b higher),
//! `axN` (a and N more), `_` and `_xN` (none), `stale`. What follows `eval` up to an empty line is
//! expected: series with their values, or a bare number for a scalar. `eval_fail` and `expect fail`
//! want an error (`expected_fail_message`, `expected_fail_regexp`, `msg:`, `regex:`), `eval_ordered` and
//! `expect ordered` this order, `expect string` a text, `expect range vector from A to B step C` samples. An
//! instant query is also asked as a range query around its time, where the order doesn't matter.
//!
//! `load_with_nhcb` loads the classic histograms that it names. Native ones, and the warnings that Prometheus gives beside a result, aren't known here: what
//! expects them fails.

mod compare;
mod lines;
mod notation;
mod run;

/// What became of one command of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its line, from 1.
    pub line: usize,
    /// The line itself.
    pub command: String,
    /// What was wrong; nothing when it was as expected.
    pub failure: Option<String>,
}

/// Runs a script. Each `eval` has an outcome, and so has what can't be read.
#[must_use]
pub fn run(script: &str) -> Vec<Outcome> {
    let mut session = run::Session::default();
    let blocks = lines::blocks(script);
    blocks.into_iter().filter_map(|block| session.run(&block)).collect()
}
