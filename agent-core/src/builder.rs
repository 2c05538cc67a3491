//! An agent inside any program: what to read, where to send it, and run.

use std::{future::Future, path::PathBuf, time::Duration};

use crate::{
    agent::{Agent, AgentError, AgentOptions},
    collector::Collector,
    plan::{Plan, PlannedCollector, PlannedSink},
    shipper::Stop,
    sink::Sink,
    wal::{SledWal, WalOptions},
};

/// Puts an agent together; see [`Agent::builder`].
pub struct Builder {
    data_dir: PathBuf,
    version: String,
    pending_bytes_max: usize,
    wal: WalOptions,
    plan: Plan,
}

impl Builder {
    pub(crate) fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pending_bytes_max: PENDING_BYTES_MAX,
            wal: WalOptions::default(),
            plan: Plan {
                interval: Duration::from_secs(10),
                collector_deadline: Duration::from_secs(5),
                shutdown_deadline: Duration::from_secs(10),
                collectors: Vec::new(),
                sinks: Vec::new(),
                companions: Vec::new(),
            },
        }
    }

    /// Adds a collector; its name labels what the agent says of it.
    #[must_use]
    pub fn collector(
        mut self,
        name: impl Into<String>,
        collector: impl Collector + 'static,
    ) -> Self {
        self.plan.collectors.push(PlannedCollector::new(name, Box::new(collector)));
        self
    }

    /// Adds a collector that doesn't run in every tick: see [`PlannedCollector::interval`].
    #[must_use]
    pub fn collector_every(
        mut self,
        interval: Duration,
        name: impl Into<String>,
        collector: impl Collector + 'static,
    ) -> Self {
        let planned = PlannedCollector::new(name, Box::new(collector)).every(interval);
        self.plan.collectors.push(planned);
        self
    }

    /// Adds a sink. Its name is that of its place in the log: keep it, and it goes on where it was.
    #[must_use]
    pub fn sink(mut self, name: impl Into<String>, sink: impl Sink + 'static) -> Self {
        self.plan.sinks.push(PlannedSink::new(name, Box::new(sink)));
        self
    }

    /// Time between two ticks. Default 10 s.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.plan.interval = interval;
        self
    }

    /// Bounds of the log.
    #[must_use]
    pub fn wal(mut self, options: WalOptions) -> Self {
        self.wal = options;
        self
    }

    /// Version that the agent tells of itself. Default: this library's.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Runs until `shutdown`, then delivers what it can and ends; the rest stays in the log. Needs a
    /// Tokio runtime with time enabled.
    ///
    /// # Errors
    /// [`AgentError`] when data directory or log can't be used.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
        let wal = SledWal::open(&self.data_dir.join(WAL_DIRECTORY), self.wal)?;
        let options = AgentOptions {
            data_dir: self.data_dir,
            version: self.version,
            pending_bytes_max: self.pending_bytes_max,
        };
        let mut agent = Agent::open(options, Box::new(wal))?;
        let stop = async {
            shutdown.await;
            Stop::Drain
        };
        agent.run(self.plan, stop).await?;
        agent.close().await
    }
}

/// Bytes of ticks that may wait in memory while the log refuses them.
const PENDING_BYTES_MAX: usize = 4 << 20;

/// Where the log lies below the data directory.
pub const WAL_DIRECTORY: &str = "wal";
