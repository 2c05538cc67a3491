//! Evaluation: pure, with time passed in.
//!
//! What it promises:
//! - **Judged at its own time.** A state changes at the time of a sample, never at the time of
//!   asking. Given the same data again, nothing changes.
//! - **Unknown is never fine.** Without a sample younger than [`Moment::stale_after_ms`] a series is
//!   *unknown*: a firing alert stays firing, a pending one stays pending, and both say since when.
//!   What a series is that never crossed and went silent, rules don't say; presence of hosts does.
//! - **What can't be read is unknown.** A series whose samples no longer read back says nothing, however
//!   young they are; the others are judged.
//! - **`for` counts known time only.** Between two judged samples that lie further apart than
//!   [`Moment::stale_after_ms`], because the host or this hub was away, nobody knows whether the
//!   threshold was crossed: that time doesn't count, and it doesn't start the count anew either. A
//!   pending alert that has been unknown for [`PENDING_FORGOTTEN_AFTER_MS`] is forgotten: nobody was
//!   told of it.
//! - **NaN never crosses.** It is no sample at all.
//!
//! [`evaluate`] judges the newest value of each series. Judging the past is the same [`step`] with
//! older observations, in order: a later caller can hand it every sample since the last.

use std::collections::BTreeMap;

use super::{
    aggregate::{Observation, observe},
    alert::{
        Alert, Change, End, EndReason, Incident, Phase, RuleAlerts, SeriesKey, Transition,
        incident_id,
    },
    rule::Rule,
    source::{Found, SeriesSamples},
    summary::Facts,
};

/// A pending alert without data for this long is forgotten, in milliseconds: one day.
pub const PENDING_FORGOTTEN_AFTER_MS: i64 = 24 * 60 * 60 * 1_000;

/// When evaluation takes place, and what it calls old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Unix milliseconds.
    pub now_ms: i64,
    /// A series whose newest sample is older than this is unknown, in milliseconds.
    pub stale_after_ms: i64,
}

impl Moment {
    fn is_stale(&self, seen_ms: i64) -> bool {
        self.now_ms.saturating_sub(seen_ms) > self.stale_after_ms
    }
}

/// One series and what it says.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Which series.
    pub series: &'a SeriesKey,
    /// Of which host.
    pub host: &'a str,
    /// Its value, and when.
    pub observation: Observation,
}

/// What changes for `rule`, whose alerts are `alerts`, given what is `found`; in the order of the
/// series.
#[must_use]
pub fn evaluate(rule: &Rule, alerts: &RuleAlerts, found: &Found, moment: Moment) -> Vec<Change> {
    let observed = fresh(rule, &found.series, moment);
    let judged = observed.values().filter_map(|observed| {
        let before = alerts.get(observed.series);
        let (after, transition) = step(rule, before, *observed, moment.stale_after_ms);
        let after = after.map(|alert| marked(alert, moment));
        change(rule, observed.series, before, after, transition)
    });
    let unjudged = alerts
        .iter()
        .filter(|(series, _)| !observed.contains_key(series))
        .filter_map(|(series, alert)| unobserved(rule, series, alert, found, moment));
    let mut changes: Vec<_> = judged.chain(unjudged).collect();
    changes.sort_by(|a, b| a.series.cmp(&b.series));
    changes
}

/// The series that the rule looks at and that have something to say that is not old.
fn fresh<'a>(
    rule: &Rule,
    data: &'a [SeriesSamples],
    moment: Moment,
) -> BTreeMap<&'a SeriesKey, Observed<'a>> {
    let until_ms = i64::MAX;
    data.iter()
        .filter(|one| rule.selector.selects(&one.key, &one.host))
        .filter_map(|one| {
            let (kind, window_ms) = (one.kind, rule.window_ms);
            let observation = observe(&one.samples, kind, rule.aggregation, window_ms, until_ms)?;
            let observed = Observed { series: &one.key, host: &one.host, observation };
            (!moment.is_stale(observation.at_ms)).then_some((&one.key, observed))
        })
        .collect()
}

/// One series' next state, given its value at one time. Observations come in the order of their
/// times; one that is not newer than the last changes nothing.
#[must_use]
pub fn step(
    rule: &Rule,
    before: Option<&Alert>,
    observed: Observed<'_>,
    stale_after_ms: i64,
) -> (Option<Alert>, Option<Transition>) {
    let crosses = rule.crosses(observed.observation.value);
    match before {
        Some(alert) if observed.observation.at_ms <= alert.seen_ms => (before.cloned(), None),
        None if !crosses => (None, None),
        None => advance(rule, observed, observed.observation.at_ms, 0),
        Some(alert) => match &alert.phase {
            Phase::Pending { .. } if !crosses => (None, None),
            Phase::Pending { held_ms } => {
                let elapsed = observed.observation.at_ms.saturating_sub(alert.seen_ms);
                let known = if elapsed > stale_after_ms { 0 } else { elapsed };
                advance(rule, observed, alert.since_ms, held_ms.saturating_add(known))
            }
            Phase::Firing(incident) if !crosses => {
                (None, Some(Transition::Resolved(incident.as_ref().clone(), end(rule, observed))))
            }
            Phase::Firing(_) => {
                (Some(with_phase(observed, alert.since_ms, alert.phase.clone())), None)
            }
        },
    }
}

/// Pending, or firing once the threshold has been crossed for long enough.
fn advance(
    rule: &Rule,
    observed: Observed<'_>,
    since_ms: i64,
    held_ms: i64,
) -> (Option<Alert>, Option<Transition>) {
    if held_ms < rule.for_ms {
        return (Some(with_phase(observed, since_ms, Phase::Pending { held_ms })), None);
    }
    let incident = incident(rule, observed, since_ms);
    let phase = Phase::Firing(Box::new(incident.clone()));
    (Some(with_phase(observed, since_ms, phase)), Some(Transition::Fired(incident)))
}

fn with_phase(observed: Observed<'_>, since_ms: i64, phase: Phase) -> Alert {
    Alert {
        host: observed.host.to_owned(),
        since_ms,
        seen_ms: observed.observation.at_ms,
        value: observed.observation.value,
        unknown_since_ms: None,
        phase,
    }
}

fn incident(rule: &Rule, observed: Observed<'_>, since_ms: i64) -> Incident {
    let Observed { series, host, observation } = observed;
    Incident {
        id: incident_id(&rule.name, series, observation.at_ms),
        rule: rule.name.clone(),
        severity: rule.severity.clone(),
        series: series.clone(),
        host: host.to_owned(),
        op: rule.op,
        threshold: rule.threshold,
        since_ms,
        started_ms: observation.at_ms,
        value: observation.value,
        summary: summary(rule, observed),
    }
}

fn end(rule: &Rule, observed: Observed<'_>) -> End {
    End {
        ended_ms: observed.observation.at_ms,
        value: observed.observation.value,
        reason: EndReason::Recovered,
        summary: summary(rule, observed),
    }
}

fn summary(rule: &Rule, observed: Observed<'_>) -> String {
    rule.summary.render(&Facts {
        host: observed.host,
        metric: &observed.series.metric,
        labels: &observed.series.labels,
        value: observed.observation.value,
        threshold: rule.threshold,
    })
}

/// What becomes of an alert that nothing fresh is known of.
fn unobserved(
    rule: &Rule,
    series: &SeriesKey,
    alert: &Alert,
    found: &Found,
    moment: Moment,
) -> Option<Change> {
    if !rule.selector.selects(series, &alert.host) {
        return Some(alert.abandon(&rule.name, series, EndReason::RuleChanged, moment.now_ms));
    }
    if found.elsewhere.contains_key(&series.agent_id) {
        return Some(alert.abandon(&rule.name, series, EndReason::HostRenamed, moment.now_ms));
    }
    let forgotten = matches!(alert.phase, Phase::Pending { .. })
        && moment.now_ms.saturating_sub(alert.seen_ms) > PENDING_FORGOTTEN_AFTER_MS;
    let mut after = (!forgotten).then(|| marked(alert.clone(), moment));
    if found.unread.contains_key(series)
        && let Some(after) = &mut after
    {
        after.unknown_since_ms = Some(after.seen_ms);
    }
    change(rule, series, Some(alert), after, None)
}

/// Says of an alert whether it is known what it is now.
fn marked(mut alert: Alert, moment: Moment) -> Alert {
    alert.unknown_since_ms = moment.is_stale(alert.seen_ms).then_some(alert.seen_ms);
    alert
}

fn change(
    rule: &Rule,
    series: &SeriesKey,
    before: Option<&Alert>,
    after: Option<Alert>,
    transition: Option<Transition>,
) -> Option<Change> {
    (before != after.as_ref()).then(|| Change {
        rule: rule.name.clone(),
        series: series.clone(),
        after,
        transition,
    })
}

#[cfg(test)]
mod tests;
