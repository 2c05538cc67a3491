//! Every function, as pure arithmetic: a name, what it returns, and how a value of it is reckoned.
//!
//! What needs labels or several series at once (`label_replace`, `histogram_quantile`, `absent`) is
//! only named here; [`crate::eval`] does it.

pub(crate) mod date;
pub(crate) mod histogram;
mod math;
mod over_time;
mod rate;
pub(crate) mod regression;
pub(crate) mod spans;
pub(crate) mod statistics;

use crate::{eval::Grid, expr::Type, source::Sample};

/// The samples that one step of a range vector sees.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window<'a> {
    /// At least one, by time, without stale markers.
    pub(crate) samples: &'a [Sample],
    /// Where the range begins.
    pub(crate) start_ms: i64,
    /// Where the range ends: the step's time, moved by `offset` and `@`.
    pub(crate) end_ms: i64,
    /// The step's own time.
    pub(crate) now_ms: i64,
}

/// A value from a window and the function's scalars; none where there is no result.
pub(crate) type OfWindow = fn(&Window<'_>, &[f64]) -> Option<f64>;

/// A value from a value and the function's scalars; none where there is no result.
pub(crate) type OfValue = fn(f64, &[f64]) -> Option<f64>;

/// How a function gets its result.
#[derive(Clone, Copy)]
pub(crate) enum Body {
    /// From each window of a range vector.
    Window(OfWindow),
    /// The same, and the result is still the series it was.
    SameSeries(OfWindow),
    /// From each value of an instant vector.
    Value(OfValue),
    /// From a time in seconds: each value of an instant vector, or the step's own time.
    Date(fn(f64) -> f64),
    /// From two numbers.
    Pair(fn(f64, f64) -> f64),
    /// From the grid of the evaluation, or of the whole query.
    Grid(fn(Grid) -> f64),
    Absent,
    AbsentOverTime,
    HistogramFraction,
    HistogramQuantile,
    LabelJoin,
    LabelReplace,
    Pi,
    Scalar,
    /// Double exponential smoothing, which refuses wrong factors.
    Smooth,
    Sort,
    SortDescending,
    Time,
    Timestamp,
    Vector,
}

/// A function of the language.
#[derive(Clone, Copy)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) returns: Type,
    pub(crate) body: Body,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Function {
    /// Whether its result depends on the time at which it is evaluated even when its arguments don't.
    pub(crate) fn tells_time(&self) -> bool {
        let tells = matches!(self.body, Body::Date(_) | Body::Time | Body::Timestamp);
        tells || self.name == "predict_linear"
    }
}

/// The function of that name, if this engine has it.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

/// Whether a function says something else when some of the samples are missing, however alike the others.
pub(crate) fn counts_samples(name: &str) -> bool {
    ["changes", "count_over_time", "resets", "sum_over_time"].contains(&name)
}

const fn vector(name: &'static str, body: Body) -> Function {
    Function { name, returns: Type::Vector, body }
}

const fn scalar(name: &'static str, body: Body) -> Function {
    Function { name, returns: Type::Scalar, body }
}

const fn window(name: &'static str, of: OfWindow) -> Function {
    vector(name, Body::Window(of))
}

const fn value(name: &'static str, of: OfValue) -> Function {
    vector(name, Body::Value(of))
}

const fn date(name: &'static str, of: fn(f64) -> f64) -> Function {
    vector(name, Body::Date(of))
}

static FUNCTIONS: &[Function] = &[
    value("abs", |v, _| Some(v.abs())),
    vector("absent", Body::Absent),
    vector("absent_over_time", Body::AbsentOverTime),
    value("acos", |v, _| Some(v.acos())),
    value("acosh", |v, _| Some(v.acosh())),
    value("asin", |v, _| Some(v.asin())),
    value("asinh", |v, _| Some(v.asinh())),
    value("atan", |v, _| Some(v.atan())),
    value("atanh", |v, _| Some(v.atanh())),
    window("avg_over_time", over_time::avg),
    value("ceil", |v, _| Some(v.ceil())),
    window("changes", rate::changes),
    value("clamp", math::clamp),
    value("clamp_max", math::clamp_max),
    value("clamp_min", math::clamp_min),
    value("cos", |v, _| Some(v.cos())),
    value("cosh", |v, _| Some(v.cosh())),
    window("count_over_time", over_time::count),
    date("day_of_month", date::day_of_month),
    date("day_of_week", date::day_of_week),
    date("day_of_year", date::day_of_year),
    date("days_in_month", date::days_in_month),
    value("deg", |v, _| Some(v * 180.0 / std::f64::consts::PI)),
    window("delta", rate::delta),
    window("deriv", regression::deriv),
    vector("double_exponential_smoothing", Body::Smooth),
    scalar("end", Body::Grid(|query| query.end_ms() as f64 / 1000.0)),
    value("exp", |v, _| Some(v.exp())),
    vector("first_over_time", Body::SameSeries(over_time::first)),
    value("floor", |v, _| Some(v.floor())),
    vector("histogram_fraction", Body::HistogramFraction),
    vector("histogram_quantile", Body::HistogramQuantile),
    vector("holt_winters", Body::Smooth),
    date("hour", date::hour),
    window("idelta", rate::idelta),
    window("increase", rate::increase),
    window("irate", rate::irate),
    vector("label_join", Body::LabelJoin),
    vector("label_replace", Body::LabelReplace),
    vector("last_over_time", Body::SameSeries(over_time::last)),
    value("ln", |v, _| Some(v.ln())),
    value("log10", |v, _| Some(v.log10())),
    value("log2", |v, _| Some(v.log2())),
    window("mad_over_time", over_time::mad),
    scalar("max_of", Body::Pair(math::max)),
    window("max_over_time", over_time::max),
    scalar("min_of", Body::Pair(math::min)),
    window("min_over_time", over_time::min),
    date("minute", date::minute),
    date("month", date::month),
    scalar("pi", Body::Pi),
    window("predict_linear", regression::predict_linear),
    window("present_over_time", |_, _| Some(1.0)),
    window("quantile_over_time", over_time::quantile),
    value("rad", |v, _| Some(v * std::f64::consts::PI / 180.0)),
    scalar("range", Body::Grid(|query| (query.end_ms() - query.start_ms) as f64 / 1000.0)),
    window("rate", rate::rate),
    window("resets", rate::resets),
    value("round", math::round),
    scalar("scalar", Body::Scalar),
    value("sgn", |v, _| Some(math::sgn(v))),
    value("sin", |v, _| Some(v.sin())),
    value("sinh", |v, _| Some(v.sinh())),
    vector("sort", Body::Sort),
    vector("sort_desc", Body::SortDescending),
    value("sqrt", |v, _| Some(v.sqrt())),
    scalar("start", Body::Grid(|query| query.start_ms as f64 / 1000.0)),
    window("stddev_over_time", over_time::stddev),
    window("stdvar_over_time", over_time::stdvar),
    scalar("step", Body::Grid(Grid::step_seconds)),
    window("sum_over_time", over_time::sum),
    value("tan", |v, _| Some(v.tan())),
    value("tanh", |v, _| Some(v.tanh())),
    scalar("time", Body::Time),
    vector("timestamp", Body::Timestamp),
    window("ts_of_first_over_time", over_time::time_of_first),
    window("ts_of_last_over_time", over_time::time_of_last),
    window("ts_of_max_over_time", over_time::time_of_max),
    window("ts_of_min_over_time", over_time::time_of_min),
    vector("vector", Body::Vector),
    date("year", date::year),
];

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn every_function_and_aggregation_is_in_the_corpus() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
        let files =
            fs::read_dir(corpus).unwrap().map(|file| fs::read_to_string(file.unwrap().path()));
        let scripts = files.collect::<Result<Vec<_>, _>>().unwrap().concat();
        let evals: Vec<_> = scripts.lines().filter(|line| line.starts_with("eval")).collect();
        let asked = |name: &str| {
            let calls = [format!(" {name}("), format!("({name}("), format!(" {name} by")];
            evals.iter().any(|eval| calls.iter().any(|call| eval.contains(call)))
        };
        let aggregations = "sum min max avg group stddev stdvar count count_values bottomk topk \
                            quantile limitk";
        let functions = FUNCTIONS.iter().map(|function| function.name);
        let missing: Vec<_> =
            functions.chain(aggregations.split_whitespace()).filter(|name| !asked(name)).collect();
        assert!(missing.is_empty(), "no script asks {missing:?}");
    }

    #[test]
    fn functions_are_listed_once() {
        let mut names: Vec<_> = FUNCTIONS.iter().map(|function| function.name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
