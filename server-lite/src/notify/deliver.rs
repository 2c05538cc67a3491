//! Drains the outbox.
//!
//! What it promises:
//! - Each notifier gets its notifications in the order they were queued, one at a time; one that is
//!   down holds up no other.
//! - What can't be delivered now is tried again, with growing waits, until it is delivered or
//!   *dead*: refused [`REFUSALS_MAX`] times, or undeliverable for longer than the webhook's
//!   `give_up_after`. A dead one is kept with its reason, counted, and logged once as an error.
//! - A notification is marked only after the notifier has it. If the hub dies in between, it is
//!   delivered once more with the same id. There is no way around that over a wire: the id lets the
//!   receiver drop it.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet};
use tracing::{debug, error, info, warn};

use super::{
    config::NotifyConfig,
    message::{Notification, State},
    retry,
    webhook::{BuildError, SendError, Webhook},
};
use crate::rules::{
    alert_store::{AlertStore, AlertStoreError, Delivery},
    metrics::RuleMetrics,
    runner::{Clock, chain},
};

/// How often a notification may be refused before it is given up: a receiver that is being deployed
/// may say 404 for a moment.
pub const REFUSALS_MAX: u32 = 5;

/// Somebody who is told.
#[derive(Debug)]
pub enum Notifier {
    /// The hub's own log.
    Log,
    /// A webhook.
    Webhook(Webhook),
}

impl Notifier {
    /// The notifiers of a configuration.
    ///
    /// # Errors
    /// [`BuildError`] names the webhook that can't be used.
    pub fn all(config: &NotifyConfig) -> Result<Vec<Self>, BuildError> {
        let log = config.log.enabled.then_some(Ok(Self::Log));
        let webhooks = config
            .webhooks
            .iter()
            .map(|(name, config)| Webhook::new(name, config).map(Self::Webhook));
        log.into_iter().chain(webhooks).collect()
    }

    /// Its name in the outbox: `log`, or `webhook:<name>`.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Log => "log",
            Self::Webhook(webhook) => &webhook.name,
        }
    }

    fn give_up_after(&self) -> Duration {
        match self {
            Self::Log => Duration::MAX,
            Self::Webhook(webhook) => webhook.give_up_after,
        }
    }

    async fn send(&self, notification: &Notification) -> Result<(), SendError> {
        match self {
            Self::Log => {
                log(notification);
                Ok(())
            }
            Self::Webhook(webhook) => webhook.send(notification).await,
        }
    }
}

fn log(notification: &Notification) {
    let Notification { id, rule, severity, host, summary, .. } = notification;
    let headline = notification.headline();
    match notification.state {
        State::Firing => warn!(%id, %rule, %severity, %host, %summary, "alert: {headline}"),
        State::Resolved => info!(%id, %rule, %severity, %host, %summary, "alert: {headline}"),
    }
}

/// Delivers what is in the outbox and what comes into it, until `shutdown`; what is being sent then
/// is finished first.
pub async fn run(
    notifiers: Vec<Notifier>,
    store: AlertStore,
    clock: Clock,
    metrics: Arc<RuleMetrics>,
    shutdown: impl Future<Output = ()>,
) {
    let wait = |attempt| retry::wait(attempt, retry::random());
    run_with(notifiers, store, clock, metrics, wait, shutdown).await;
}

/// [`run`] with waits of the caller's.
pub(crate) async fn run_with(
    notifiers: Vec<Notifier>,
    store: AlertStore,
    clock: Clock,
    metrics: Arc<RuleMetrics>,
    wait: fn(u32) -> Duration,
    shutdown: impl Future<Output = ()>,
) {
    let (stop, stopped) = watch::channel(false);
    let names: Vec<_> = notifiers.iter().map(|notifier| notifier.name().to_owned()).collect();
    let mut workers = JoinSet::new();
    for notifier in notifiers {
        let worker = Worker {
            notifier,
            store: store.clone(),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            wait,
            stopped: stopped.clone(),
        };
        workers.spawn(worker.run());
    }
    bury_unconfigured(store, names, clock()).await;
    shutdown.await;
    stop.send_replace(true);
    while let Some(ended) = workers.join_next().await {
        if let Err(error) = ended {
            error!(%error, "notifier ended early");
        }
    }
}

/// What waits for a notifier that is gone would wait for ever.
async fn bury_unconfigured(store: AlertStore, names: Vec<String>, now_ms: i64) {
    match store.blocking(move |store| store.bury_unconfigured(&names, now_ms)).await {
        Ok(0) => {}
        Ok(notifications) => {
            warn!(notifications, "gave up on notifications whose notifier is no longer configured");
        }
        Err(error) => warn!(error = chain(&error), "can't look for orphaned notifications"),
    }
}

/// Delivers to one notifier.
struct Worker {
    notifier: Notifier,
    store: AlertStore,
    clock: Clock,
    metrics: Arc<RuleMetrics>,
    wait: fn(u32) -> Duration,
    stopped: watch::Receiver<bool>,
}

/// What became of a try.
#[derive(Clone, Debug)]
enum Outcome {
    Delivered,
    Failed { reason: String, refused: bool, retry_after: Option<Duration> },
    Dead { reason: String, refused: bool },
}

impl Worker {
    async fn run(mut self) {
        let mut queued = self.store.queued();
        let mut failures = 0;
        while !*self.stopped.borrow() {
            match self.next().await {
                Ok(Some(delivery)) => self.handle(&delivery, &mut failures).await,
                // What was queued since it was looked for ends the wait at once.
                Ok(None) => tokio::select! {
                    _ = queued.changed() => {}
                    () = self.store.look_again() => {}
                    _ = self.stopped.wait_for(|stopped| *stopped) => {}
                },
                Err(error) => {
                    warn!(
                        notifier = self.notifier.name(),
                        error = chain(&error),
                        "can't read outbox"
                    );
                    self.pause(&mut failures, None).await;
                }
            }
        }
    }

    async fn next(&self) -> Result<Option<Delivery>, AlertStoreError> {
        let name = self.notifier.name().to_owned();
        self.store.blocking(move |store| store.next_delivery(&name)).await
    }

    /// Tries once, notes what became of it, and waits where that is due.
    async fn handle(&mut self, delivery: &Delivery, failures: &mut u32) {
        let sent = self.notifier.send(&delivery.notification).await;
        let outcome = self.judge(delivery, sent);
        self.report(delivery, &outcome, *failures);
        self.mark(delivery.id, &outcome).await;
        match outcome {
            // A receiver that refuses is there: the next may be to its liking.
            Outcome::Delivered | Outcome::Dead { refused: true, .. } => *failures = 0,
            Outcome::Dead { .. } => self.pause(failures, None).await,
            Outcome::Failed { retry_after, .. } => self.pause(failures, retry_after).await,
        }
    }

    fn judge(&self, delivery: &Delivery, sent: Result<(), SendError>) -> Outcome {
        let age_ms = (self.clock)().saturating_sub(delivery.created_ms).max(0).unsigned_abs();
        let too_old = u128::from(age_ms) > self.notifier.give_up_after().as_millis();
        match sent {
            Ok(()) => Outcome::Delivered,
            Err(SendError::Refused(reason)) => {
                if too_old || delivery.refusals + 1 >= REFUSALS_MAX {
                    Outcome::Dead { reason, refused: true }
                } else {
                    Outcome::Failed { reason, refused: true, retry_after: None }
                }
            }
            Err(SendError::Transient { reason, .. }) if too_old => {
                Outcome::Dead { reason, refused: false }
            }
            Err(SendError::Transient { reason, retry_after }) => {
                Outcome::Failed { reason, refused: false, retry_after }
            }
        }
    }

    fn report(&self, delivery: &Delivery, outcome: &Outcome, failures: u32) {
        let (notifier, id) = (self.notifier.name(), &delivery.notification.id);
        let attempt = delivery.attempts + 1;
        match outcome {
            Outcome::Delivered => {
                RuleMetrics::count(&self.metrics.notifications_delivered, 1);
                if failures > 0 {
                    info!(notifier, %id, attempt, "notifier works again");
                }
            }
            Outcome::Failed { reason, .. } => {
                RuleMetrics::count(&self.metrics.notification_failures, 1);
                // Said once when trouble begins, not at each try.
                if failures == 0 {
                    warn!(notifier, %id, attempt, reason, "notification not delivered, trying again");
                } else {
                    debug!(notifier, %id, attempt, reason, "notification not delivered, trying again");
                }
            }
            Outcome::Dead { reason, .. } => {
                RuleMetrics::count(&self.metrics.notification_failures, 1);
                RuleMetrics::count(&self.metrics.notifications_dead, 1);
                let headline = delivery.notification.headline();
                error!(notifier, %id, attempt, reason, headline, "gave up on notification");
            }
        }
    }

    /// Notes what became of a try. A disk that refuses is asked again, so that what was delivered is
    /// not delivered again meanwhile.
    async fn mark(&mut self, id: i64, outcome: &Outcome) {
        let mut failures = 0;
        loop {
            let (outcome, now_ms) = (outcome.clone(), (self.clock)());
            let marked = self.store.blocking(move |store| match outcome {
                Outcome::Delivered => store.mark_delivered(id, now_ms),
                Outcome::Failed { reason, refused, .. } => store.mark_failed(id, &reason, refused),
                Outcome::Dead { reason, .. } => store.mark_dead(id, &reason, now_ms),
            });
            let Err(error) = marked.await else { return };
            warn!(
                notifier = self.notifier.name(),
                id,
                error = chain(&error),
                "can't mark notification"
            );
            self.pause(&mut failures, None).await;
            if *self.stopped.borrow() {
                return;
            }
        }
    }

    /// Waits after a failure; a stop ends the wait.
    async fn pause(&mut self, failures: &mut u32, asked: Option<Duration>) {
        *failures = failures.saturating_add(1);
        let wait = retry::respecting((self.wait)(*failures), asked);
        let stopped = pin!(self.stopped.wait_for(|stopped| *stopped));
        // Elapsed is what is waited for; an error says that nobody can stop us any more.
        let _ = tokio::time::timeout(wait, stopped).await;
    }
}

#[cfg(test)]
mod tests;
