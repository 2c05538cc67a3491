//! Evaluates all rules, again and again.
//!
//! One round reads each rule's samples, evaluates, and commits everything that changed in one
//! transaction; only then does it count. A round that can't be committed changes nothing, and the
//! next finds the same transitions again. A rule whose samples can't be read leaves its alerts as
//! they are, *unknown* once they are old, and holds up no other rule. A host some of whose samples can't
//! be read is unknown to the rules that look at them, and holds up no other host.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use super::{
    alert::{AlertStates, Change, Phase, Transition},
    alert_store::AlertStore,
    evaluate::{Moment, evaluate},
    metrics::RuleMetrics,
    rule::Rule,
    source::{Found, Query, SampleSource},
};

/// Time between two rounds, unless configured.
pub const INTERVAL_DEFAULT: Duration = Duration::from_secs(10);
/// Age from which a series without newer samples is unknown, unless configured; Prometheus's too.
pub const STALE_AFTER_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// Longest time that reading one rule's samples may take.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How far a host's clock may run ahead of ours, in milliseconds, before its newest samples are left
/// out until their time has come; as much as a request's signature may.
pub const CLOCK_AHEAD_MAX_MS: i64 = 5 * 60 * 1_000;

/// Hosts whose samples can't be read that are named for a rule.
const UNREAD_HOSTS_SHOWN: usize = 20;
const PRUNE_EVERY_MS: i64 = 60 * 60 * 1_000;

/// Says what time it is, in Unix milliseconds.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What a runner needs.
pub struct Parts {
    /// The rules; their names are unique.
    pub rules: Vec<Rule>,
    /// Where samples come from.
    pub source: Arc<dyn SampleSource>,
    /// Where states, history and outbox are kept.
    pub store: AlertStore,
    /// Names of the notifiers that are told: [`crate::notify::Notifier::name`].
    pub notifiers: Vec<String>,
    /// What time it is.
    pub clock: Clock,
    /// Where counts go.
    pub metrics: Arc<RuleMetrics>,
    /// Whether this hub, of all that share a store, evaluates: a round in which it doesn't changes nothing.
    pub leads: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Time between two rounds.
    pub interval: Duration,
    /// Age from which a series without newer samples is unknown.
    pub stale_after: Duration,
}

/// Rules and the states of their alerts.
pub struct Runner {
    parts: Parts,
    states: AlertStates,
    /// Whether `states` are those that were committed last: not once another hub may have led.
    is_current: bool,
    pruned_ms: Option<i64>,
}

impl Runner {
    /// Has no states yet: it reads those that were committed last when it begins to lead.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self { parts, states: AlertStates::default(), is_current: false, pruned_ms: None }
    }

    /// Evaluates at once and then every interval, until `shutdown`. A round that takes longer than
    /// the interval makes the next one come later; none runs twice.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut ticks = tokio::time::interval(self.parts.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let rounds = async {
            loop {
                ticks.tick().await;
                self.round().await;
            }
        };
        tokio::select! {
            () = rounds => {}
            () = shutdown => {}
        }
    }

    /// One round.
    pub(crate) async fn round(&mut self) {
        if !(self.parts.leads)() {
            self.is_current = false;
            return;
        }
        if !self.is_current && !self.load().await {
            return;
        }
        let now_ms = (self.parts.clock)();
        let mut changes = self.states.orphans(&self.parts.rules, now_ms);
        for rule in &self.parts.rules {
            changes.extend(self.changes_of(rule, now_ms).await);
        }
        self.commit(changes, now_ms).await;
        self.keep_house(now_ms).await;
    }

    /// Takes up where this hub, or the one that led before, has left off.
    async fn load(&mut self) -> bool {
        let (notifiers, now_ms) = (self.parts.notifiers.clone(), (self.parts.clock)());
        let load = move |store: &AlertStore| {
            store.bury_unconfigured(&notifiers, now_ms)?;
            store.load()
        };
        match self.parts.store.blocking(load).await {
            Ok(states) => {
                self.parts.metrics.note_states(&states);
                (self.states, self.is_current) = (states, true);
            }
            Err(error) => {
                RuleMetrics::count(&self.parts.metrics.commit_failures, 1);
                error!(error = chain(&error), "can't read alerts, trying again");
            }
        }
        self.is_current
    }

    async fn changes_of(&self, rule: &Rule, now_ms: i64) -> Vec<Change> {
        let stale_after_ms = millis(self.parts.stale_after);
        let metrics = &self.parts.metrics;
        RuleMetrics::count(&metrics.evaluations, 1);
        let found = match self.read(rule, now_ms, stale_after_ms).await {
            Ok(found) => {
                RuleMetrics::count(&metrics.unread_series, found.unread.len());
                self.note_success(rule, &found, now_ms);
                found
            }
            Err(reason) => {
                RuleMetrics::count(&metrics.evaluation_failures, 1);
                self.note_failure(rule, reason);
                Found::default()
            }
        };
        let moment = Moment { now_ms, stale_after_ms };
        evaluate(rule, self.states.of(&rule.name), &found, moment)
    }

    async fn read(&self, rule: &Rule, now_ms: i64, stale_after_ms: i64) -> Result<Found, String> {
        let query = Query {
            selector: &rule.selector,
            from_ms: now_ms.saturating_sub(stale_after_ms).saturating_sub(rule.window_ms),
            to_ms: now_ms.saturating_add(CLOCK_AHEAD_MAX_MS),
        };
        match tokio::time::timeout(READ_TIMEOUT, self.parts.source.samples(query)).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err(format!("samples were not read within {} s", READ_TIMEOUT.as_secs())),
        }
    }

    fn note_success(&self, rule: &Rule, found: &Found, now_ms: i64) {
        let unread: BTreeMap<_, _> = found
            .unread
            .values()
            .map(|unread| (unread.host.clone(), unread.reason.clone()))
            .take(UNREAD_HOSTS_SHOWN)
            .collect();
        self.parts.metrics.note_rule(&rule.name, |status| {
            if status.error.take().is_some() {
                info!(rule = rule.name, "rule is evaluated again");
            }
            for (host, reason) in &unread {
                if !status.unread.contains_key(host) {
                    warn!(rule = rule.name, host, reason, "rule can't be evaluated for a host");
                }
            }
            status.series = found.series.len();
            status.unread = unread;
            status.evaluated_ms = Some(now_ms);
        });
    }

    fn note_failure(&self, rule: &Rule, reason: String) {
        self.parts.metrics.note_rule(&rule.name, |status| {
            if status.error.is_none() {
                warn!(rule = rule.name, reason, "rule can't be evaluated");
            }
            status.error = Some(reason);
        });
    }

    async fn commit(&mut self, changes: Vec<Change>, now_ms: i64) {
        let metrics = &self.parts.metrics;
        let (written, notifiers) = (changes.clone(), self.parts.notifiers.clone());
        let commit = move |store: &AlertStore| store.commit(&written, &notifiers, now_ms);
        match self.parts.store.blocking(commit).await {
            Ok(_) => {
                self.note_changes(&changes);
                self.states.apply(changes);
                metrics.note_states(&self.states);
            }
            Err(error) => {
                RuleMetrics::count(&metrics.commit_failures, 1);
                // Another hub may have led meanwhile, or all of it is there and only the answer was lost.
                self.is_current = false;
                error!(
                    error = chain(&error),
                    changes = changes.len(),
                    "can't commit alerts, trying again"
                );
            }
        }
    }

    fn note_changes(&self, changes: &[Change]) {
        let metrics = &self.parts.metrics;
        for change in changes {
            match &change.transition {
                Some(Transition::Fired(_)) => RuleMetrics::count(&metrics.fired, 1),
                Some(Transition::Resolved(..)) => RuleMetrics::count(&metrics.resolved, 1),
                None => self.note_unknown(change),
            }
        }
    }

    /// Says when it is no longer known, or known again, how an alert stands.
    fn note_unknown(&self, change: &Change) {
        let Some(before) = self.states.of(&change.rule).get(&change.series) else { return };
        let (rule, host) = (&change.rule, &before.host);
        match (&change.after, before.unknown_since_ms) {
            (Some(after), None) if after.unknown_since_ms.is_some() => {
                let firing = matches!(after.phase, Phase::Firing(_));
                let since_ms = after.seen_ms;
                warn!(rule, host, firing, since_ms, "alert is unknown: no newer samples");
            }
            (Some(after), Some(_)) if after.unknown_since_ms.is_none() => {
                info!(rule, host, "alert is known again");
            }
            (None, Some(since_ms)) => {
                info!(rule, host, since_ms, "pending alert forgotten: no samples for too long");
            }
            _ => {}
        }
    }

    async fn keep_house(&mut self, now_ms: i64) {
        let store = &self.parts.store;
        match store.blocking(AlertStore::outbox_counts).await {
            Ok(counts) => self.parts.metrics.note_outbox(counts),
            Err(error) => warn!(error = chain(&error), "can't count notifications"),
        }
        if self.pruned_ms.is_some_and(|pruned| now_ms.saturating_sub(pruned) < PRUNE_EVERY_MS) {
            return;
        }
        match store.blocking(move |store| store.prune(now_ms)).await {
            Ok(_) => self.pruned_ms = Some(now_ms),
            Err(error) => warn!(error = chain(&error), "can't remove old incidents"),
        }
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
