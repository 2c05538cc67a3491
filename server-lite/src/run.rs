//! Everything together: a hub on a socket, until told to stop.
//!
//! Stopping is a drain with a deadline: no new connections, requests under way are answered; then rules
//! and notifiers stop, within as long again; then the store commits what is queued and is closed.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::watch,
    task::{self, JoinSet},
    time::{self, MissedTickBehavior},
};

use crate::{
    Config,
    api::{self, Hub},
    clock::{self, Clock},
    config::Limits,
    ingest::Ingest,
    instances::Instances,
    listen,
    notify::{self, Notifier},
    presence::Presence,
    query::{QueryLimits, expression::Expressions},
    rules::{self, AlertStore, AlertStoreError, RuleMetrics, Runner, StoreSource, alert_store},
    store::{Embedded, Postgres, Retention, Store, StoreError, embedded::Options, postgres},
    telemetry::Telemetry,
};

/// Time between two notes of who was seen.
const SEEN_EVERY: Duration = Duration::from_secs(30);
/// Time between two rounds of housekeeping in the store.
const MAINTAIN_EVERY: Duration = Duration::from_secs(10 * 60);

/// Why a hub can't start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Anyone could write and read.
    #[error(
        "{0} is no loopback address and no secret is set: set auth.token (or AGENT_TOKEN), or listen on loopback"
    )]
    Open(SocketAddr),
    /// The store can't be used.
    #[error("open store")]
    Store(#[from] StoreError),
    /// Alerts can't be read.
    #[error("open alerts")]
    Alerts(#[from] AlertStoreError),
    /// A notifier can't be made.
    #[error("build notifiers")]
    Notify(#[from] notify::webhook::BuildError),
    /// The socket failed.
    #[error("serve")]
    Serve(#[source] io::Error),
}

/// Runs a hub on `listener` until `shutdown`.
///
/// # Errors
/// [`HubError`]; whatever was acknowledged before is committed.
pub async fn run(
    listener: TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), HubError> {
    let address = listener.local_addr().map_err(HubError::Serve)?;
    if config.auth.token.is_none() && !address.ip().is_loopback() {
        return Err(HubError::Open(address));
    }
    let (store, alerts) = open_store(&config).await?;
    // Better now than in the first round: what can't be read is told to who starts the hub.
    alerts.blocking(|alerts| alerts.load().map(drop)).await?;
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let hub = assemble(&config, Arc::clone(&store), alerts, &mut tasks, &stopped)?;
    say(address, &config);
    let deadline = config.shutdown_deadline.get();
    let limits = listen::Limits {
        connections: config.limits.connections as usize,
        head_time: listen::HEAD_TIME_MAX,
        shutdown_deadline: deadline,
    };
    let served = tokio::select! {
        () = listen::serve(listener, api::router(Arc::clone(&hub)), limits, shutdown) => Ok(()),
        () = store_ended(store.as_ref()) => Err(StoreError::Closed.into()),
    };
    stop.send_replace(true);
    if time::timeout(deadline, join(&mut tasks)).await.is_err() {
        tracing::warn!("a notifier did not finish in time; what it was sending is sent again");
        tasks.shutdown().await;
    }
    save_seen(&hub.presence, store.as_ref()).await;
    store.close().await;
    tracing::info!("hub stopped");
    served
}

async fn join(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a task of the hub ended early");
        }
    }
}

fn say(address: SocketAddr, config: &Config) {
    let (data_dir, rules) = (config.data_dir.display(), config.rules.len());
    tracing::info!(%address, %data_dir, rules, version = env!("CARGO_PKG_VERSION"), "hub listens");
    if config.auth.token.is_none() {
        tracing::warn!("no secret is set: any process on this host may write and read");
    }
}

async fn open_store(config: &Config) -> Result<(Arc<dyn Store>, AlertStore), HubError> {
    if config.database.url().is_some() {
        return open_database(config).await;
    }
    let options = Options {
        directory: config.data_dir.clone(),
        series_per_agent: config.limits.series_per_agent.into(),
        readers: config.limits.queries as usize,
    };
    let opened = task::spawn_blocking(move || Embedded::open(&options)).await;
    let store = opened.unwrap_or(Err(StoreError::Closed))?;
    let alerts = AlertStore::open(&config.data_dir.join(alert_store::FILE))?;
    Ok((Arc::new(store), alerts))
}

/// The store in a database, and with it the states of alerts.
async fn open_database(config: &Config) -> Result<(Arc<dyn Store>, AlertStore), HubError> {
    let options = postgres::Options {
        url: config.database.url.clone(),
        series_per_agent: config.limits.series_per_agent.into(),
        readers: config.limits.queries as usize,
        writers: config.database.connections as usize,
    };
    let store = Postgres::open(&options).await?;
    let alerts = AlertStore::shared(store.shared());
    Ok((Arc::new(store), alerts))
}

/// Makes the parts and starts what runs beside the API.
fn assemble(
    config: &Config,
    store: Arc<dyn Store>,
    alerts: AlertStore,
    tasks: &mut JoinSet<()>,
    stopped: &watch::Receiver<bool>,
) -> Result<Arc<Hub>, HubError> {
    let (clock, presence) = (clock::system(), Arc::new(Presence::default()));
    let instances = Arc::new(Instances::new(clock()));
    let telemetry = Arc::new(Telemetry::default());
    let rule_metrics = Arc::new(RuleMetrics::default());
    watch_rules(config, &store, &alerts, &rule_metrics, &clock, tasks, stopped)?;
    let keep = config.retention.keep();
    let house = keep_house(Arc::clone(&store), Arc::clone(&presence), Arc::clone(&clock), keep);
    let stop = wait(stopped.clone());
    tasks.spawn(async move {
        tokio::select! { () = house => {}, () = stop => {} }
    });
    let Limits { ingest_memory, query_series, query_points, .. } = config.limits;
    let expressions = Expressions::new(Arc::clone(&store) as _, config.limits.expressions());
    let ingest = Ingest::new(
        Arc::clone(&store),
        Arc::clone(&instances),
        Arc::clone(&presence),
        Arc::clone(&telemetry),
        Arc::clone(&clock),
        ingest_memory.bytes(),
    );
    Ok(Arc::new(Hub {
        store,
        ingest,
        instances,
        presence,
        telemetry,
        alerts,
        rules: config.rules.clone(),
        rule_interval: config.rule_interval.get(),
        rule_metrics,
        token: config.auth.token.clone(),
        query_limits: QueryLimits { series: query_series as usize, points: query_points.into() },
        expressions,
        clock,
    }))
}

fn watch_rules(
    config: &Config,
    store: &Arc<dyn Store>,
    alerts: &AlertStore,
    metrics: &Arc<RuleMetrics>,
    clock: &Clock,
    tasks: &mut JoinSet<()>,
    stopped: &watch::Receiver<bool>,
) -> Result<(), HubError> {
    let notifiers = Notifier::all(&config.notify)?;
    let runner = Runner::new(rules::Parts {
        rules: config.rules.clone().into(),
        source: Arc::new(StoreSource::new(store.apart())),
        store: alerts.clone(),
        notifiers: notifiers.iter().map(|notifier| notifier.name().to_owned()).collect(),
        clock: Arc::clone(clock),
        metrics: Arc::clone(metrics),
        leads: {
            let store = Arc::clone(store);
            Arc::new(move || store.is_leader())
        },
        interval: config.rule_interval.get(),
        stale_after: config.rule_stale_after.get(),
    });
    tasks.spawn(runner.run(wait(stopped.clone())));
    let (alerts, clock, metrics) = (alerts.clone(), Arc::clone(clock), Arc::clone(metrics));
    tasks.spawn(notify::run(notifiers, alerts, clock, metrics, wait(stopped.clone())));
    Ok(())
}

async fn wait(mut stopped: watch::Receiver<bool>) {
    // It only ends early if the hub itself has.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Ends when the store's writer has: a hub that can never store again has to be started anew.
async fn store_ended(store: &dyn Store) {
    let mut checks = time::interval(SEEN_EVERY);
    loop {
        checks.tick().await;
        if let Err(StoreError::Closed) = store.check().await {
            tracing::error!("the store has ended");
            return;
        }
    }
}

/// What is due now and then. Housekeeping may take minutes, and who was seen doesn't wait for it.
async fn keep_house(store: Arc<dyn Store>, presence: Arc<Presence>, clock: Clock, keep: Retention) {
    let mut seen = time::interval(SEEN_EVERY);
    let mut maintain = time::interval(MAINTAIN_EVERY);
    seen.set_missed_tick_behavior(MissedTickBehavior::Delay);
    maintain.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let saving = async {
        loop {
            seen.tick().await;
            save_seen(&presence, store.as_ref()).await;
        }
    };
    let maintaining = async {
        loop {
            maintain.tick().await;
            if let Err(error) = store.maintain(clock(), keep).await {
                tracing::error!(error = &error as &dyn std::error::Error, "housekeeping failed");
            }
        }
    };
    tokio::join!(saving, maintaining);
}

async fn save_seen(presence: &Presence, store: &dyn Store) {
    let seen = presence.take_unsaved();
    if seen.is_empty() {
        return;
    }
    if let Err(error) = store.note_seen(seen).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "could not note who was seen");
    }
}

/// Whether everything that a configuration names can be made; nothing is opened.
///
/// # Errors
/// [`HubError`] names what can't.
pub fn check(config: &Config) -> Result<(), HubError> {
    Notifier::all(&config.notify)?;
    Ok(())
}
