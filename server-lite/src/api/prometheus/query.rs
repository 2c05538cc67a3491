//! `/api/v1/query`, `/api/v1/query_range` and `/api/v1/format_query`.
//!
//! | parameter | | |
//! |---|---|---|
//! | `query` | required | the expression |
//! | `time` | now | Unix seconds or RFC 3339; of an instant query |
//! | `start`, `end`, `step` | required | of a range query; the step in seconds, or as `1m` |
//! | `timeout` | `limits.query_timeout` | a shorter one |
//! | `lookback_delta` | `5m` | how old the newest sample of a series may be |
//! | `limit` | | series in the answer; a warning says when there are more |

use std::sync::Arc;

use axum::extract::{Request, State};
use promql::{Query, Steps, Value};

use super::{
    answer::{Answer, Failure, TRUNCATED},
    params::Params,
    values,
};
use crate::{api::Hub, query::expression::Wishes};

/// Steps of a range query, beside the first.
pub const STEPS_MAX: i64 = 11_000;

/// An answer at one time.
///
/// # Errors
/// [`Failure`].
pub async fn instant(State(hub): State<Arc<Hub>>, request: Request) -> Result<Answer, Failure> {
    let params = Params::of(request).await?;
    let time_ms = params.time_ms_or("time", hub.now_ms())?;
    let (wishes, limit) = (wishes(&params)?, params.limit()?);
    let query = parse(&params)?;
    let work =
        move |source: &dyn promql::Source, settings: &_, interrupt: &promql::Interrupt<'_>| {
            let mut value = query.instant(source, time_ms, settings, interrupt)?;
            let is_cut = match &mut value {
                Value::Vector(all) => cut(all, limit),
                Value::Matrix(all) => cut(all, limit),
                Value::Scalar(_) | Value::Text(_) => false,
            };
            Ok((values::instant(&value, time_ms), is_cut))
        };
    let ((data, is_cut), warnings) = hub.expressions.run(wishes, work).await?;
    Ok(Answer::raw(data, with_cut(warnings, is_cut)))
}

/// Answers at many times.
///
/// # Errors
/// [`Failure`].
pub async fn range(State(hub): State<Arc<Hub>>, request: Request) -> Result<Answer, Failure> {
    let params = Params::of(request).await?;
    let steps = steps(&params)?;
    let (wishes, limit) = (wishes(&params)?, params.limit()?);
    // What is wrong with it is said without the parameter's name here, as Prometheus does.
    let query =
        Query::parse(params.get("query")).map_err(|error| Failure::bad_data(error.to_string()))?;
    let work =
        move |source: &dyn promql::Source, settings: &_, interrupt: &promql::Interrupt<'_>| {
            let mut all = query.range(source, steps, settings, interrupt)?;
            let is_cut = cut(&mut all, limit);
            Ok((values::matrix(&all), is_cut))
        };
    let ((data, is_cut), warnings) = hub.expressions.run(wishes, work).await?;
    Ok(Answer::raw(data, with_cut(warnings, is_cut)))
}

/// The expression, laid out for people.
///
/// # Errors
/// [`Failure`] where it is none.
pub async fn format(request: Request) -> Result<Answer, Failure> {
    let params = Params::of(request).await?;
    let formatted = promql::format(params.get("query"));
    Answer::of(&formatted.map_err(|error| Failure::expression("query", &error))?, vec![])
}

fn parse(params: &Params) -> Result<Query, Failure> {
    Query::parse(params.get("query")).map_err(|error| Failure::expression("query", &error))
}

fn wishes(params: &Params) -> Result<Wishes, Failure> {
    Ok(Wishes { timeout: params.timeout()?, lookback_ms: params.lookback_ms()? })
}

fn steps(params: &Params) -> Result<Steps, Failure> {
    let (start_ms, end_ms) = (params.time_ms("start")?, params.time_ms("end")?);
    if end_ms < start_ms {
        return Err(Failure::parameter("end", "end timestamp must not be before start time"));
    }
    let step_ms = params.duration_ms("step")?;
    if step_ms <= 0 {
        let message = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(Failure::parameter("step", message));
    }
    if (end_ms - start_ms) / step_ms > STEPS_MAX {
        let message = "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)";
        return Err(Failure::bad_data(message));
    }
    Ok(Steps { start_ms, end_ms, step_ms })
}

fn cut<T>(all: &mut Vec<T>, limit: usize) -> bool {
    let is_cut = all.len() > limit;
    all.truncate(limit);
    is_cut
}

fn with_cut(mut warnings: Vec<String>, is_cut: bool) -> Vec<String> {
    warnings.extend(is_cut.then(|| TRUNCATED.to_owned()));
    warnings
}
