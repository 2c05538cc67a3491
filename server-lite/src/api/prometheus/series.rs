//! `/api/v1/series`, `/api/v1/labels`, `/api/v1/label/{name}/values` and `/api/v1/metadata`.
//!
//! | parameter | | |
//! |---|---|---|
//! | `match[]` | required for `series` | a selector; several are joined by or |
//! | `start`, `end` | ever | series that have no sample in that time may be left out |
//! | `limit` | | results in the answer; a warning says when there are more |
//! | `metric`, `limit_per_metric` | | of `metadata` |

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::extract::{Path, Request, State};
use promql::Labels;
use serde::Serialize;
use wire::{Family, MetricKind};

use super::{
    answer::{Answer, Failure, TRUNCATED},
    params::{EVER_MS, Params},
    values,
};
use crate::{
    api::Hub,
    query::names,
    store::{BoxFuture, Reader, Selector, StoreError},
};

/// The labels of series.
///
/// # Errors
/// [`Failure`].
pub async fn series(State(hub): State<Arc<Hub>>, request: Request) -> Result<Answer, Failure> {
    let params = Params::of(request).await?;
    let selectors = selectors(&params, |refused| Failure::parameter("match[]", refused))?;
    if params.all("match[]").next().is_none() {
        return Err(Failure::bad_data("no match[] parameter provided"));
    }
    let (limit, most) = (params.limit()?, hub.expressions.series_max());
    let mut all = BTreeSet::new();
    for selector in selectors {
        let selector = Selector { limit: Some(limit.min(most).saturating_add(1)), ..selector };
        let found = hub.expressions.look(|reader| reader.series(selector)).await?;
        all.extend(labels(&found));
        if all.len() > most && limit > most {
            let message = format!("query selects too many series: more than {most}");
            return Err(promql::Error::TooLarge(message).into());
        }
    }
    let (all, warnings) = limited(all, limit);
    let mut data = String::new();
    values::list(&mut data, &all, values::labels);
    Ok(Answer::raw(data, warnings))
}

/// The labels of each series; of those that would have the same, with their agent.
fn labels(series: &[crate::store::Series]) -> Vec<Labels> {
    let named = names::groups(series).into_iter().flat_map(|group| match group.members.len() {
        1 => vec![group.labels],
        _ => {
            group.members.iter().map(|at| names::with_agent(&group.labels, &series[*at])).collect()
        }
    });
    named.collect()
}

/// The names of labels.
///
/// # Errors
/// [`Failure`].
pub async fn names(State(hub): State<Arc<Hub>>, request: Request) -> Result<Answer, Failure> {
    let params = Params::of(request).await?;
    texts(&hub, &params, |reader, selector| reader.label_names(selector)).await
}

/// The values of one label.
///
/// # Errors
/// [`Failure`].
pub async fn values(
    State(hub): State<Arc<Hub>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Answer, Failure> {
    let params = Params::of(request).await?;
    if !wire::schema::is_label_name(&name) {
        return Err(Failure::bad_data(format!("invalid label name: {name:?}")));
    }
    texts(&hub, &params, |reader, selector| reader.label_values(name.clone(), selector)).await
}

type Texts<'a> = BoxFuture<'a, Result<Vec<String>, StoreError>>;

/// What is asked for of each selector, put together.
async fn texts<'a>(
    hub: &'a Hub,
    params: &Params,
    ask: impl Fn(&'a dyn Reader, Selector) -> Texts<'a>,
) -> Result<Answer, Failure> {
    // Only `series` names the parameter where its value is refused, as Prometheus does.
    let (selectors, limit) = (selectors(params, Failure::bad_data)?, params.limit()?);
    let mut all = BTreeSet::new();
    for selector in selectors {
        all.extend(hub.expressions.look(|reader| ask(reader, selector)).await?);
    }
    let (all, warnings) = limited(all, limit);
    Answer::of(&all, warnings)
}

/// One for each `match[]`, or one for all series.
fn selectors(
    params: &Params,
    refusal: impl Fn(String) -> Failure,
) -> Result<Vec<Selector>, Failure> {
    let span = Some(params.span_ms()?).filter(|span| *span != EVER_MS);
    let of = |matchers| Selector { matchers, span, ..Selector::default() };
    let all: Vec<_> = params.matchers().map_err(refusal)?.into_iter().map(of).collect();
    Ok(if all.is_empty() { vec![of(vec![])] } else { all })
}

fn limited<T>(all: BTreeSet<T>, limit: usize) -> (Vec<T>, Vec<String>) {
    let warnings = if all.len() > limit { vec![TRUNCATED.to_owned()] } else { vec![] };
    (all.into_iter().take(limit).collect(), warnings)
}

/// What metrics mean.
///
/// # Errors
/// [`Failure`].
pub async fn metadata(State(hub): State<Arc<Hub>>, request: Request) -> Result<Answer, Failure> {
    let params = Params::of(request).await?;
    let (limit, per_metric) = (number(&params, "limit")?, number(&params, "limit_per_metric")?);
    let families = hub.expressions.look(Reader::families).await?;
    let metric = params.get("metric");
    let mut all: BTreeMap<String, Vec<Metadata>> = BTreeMap::new();
    for Family { name, kind, help } in families {
        if !metric.is_empty() && name != metric {
            continue;
        }
        if all.len() >= limit && !all.contains_key(&name) {
            break;
        }
        let of = all.entry(name).or_default();
        if per_metric == 0 || of.len() < per_metric {
            of.push(Metadata { kind: word(kind), help, unit: "" });
        }
    }
    Answer::of(&all, vec![])
}

/// What a metric says of itself.
#[derive(Serialize)]
struct Metadata {
    #[serde(rename = "type")]
    kind: &'static str,
    help: String,
    unit: &'static str,
}

const fn word(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Untyped => "unknown",
    }
}

/// A number, negative or left out for any.
fn number(params: &Params, name: &str) -> Result<usize, Failure> {
    match params.get(name) {
        "" => Ok(usize::MAX),
        text => {
            let number: i64 =
                text.parse().map_err(|_| Failure::bad_data(format!("{name} must be a number")))?;
            Ok(usize::try_from(number).unwrap_or(usize::MAX))
        }
    }
}
