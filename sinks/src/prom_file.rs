//! A file with the newest tick as Prometheus text, for a textfile collector.
//!
//! The page is node_exporter's ([`render::prometheus`](crate::render::prometheus)). The file is replaced
//! as a whole, so that who reads it finds the page of one tick or of the next. It is no archive: of a
//! backlog only the last tick is written, and gaps leave it as it is. A collector that runs less often
//! than the agent ticks is shown with what it last had until it was due again.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions, Permissions},
    io::{self, BufWriter, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use agent_core::{Batch, BatchLimits, Sink, SinkError, sink::BoxFuture};
use wire::EncodedSchema;

use crate::{
    intervals::Intervals,
    offload,
    records::{Joined, decode_records},
    render::{Block, prometheus},
};

/// Only the last of a batch is written.
const LIMITS: BatchLimits = BatchLimits { records: 512, bytes: 256 << 10 };

/// Readable by all, as node_exporter's page is: whoever reads it is another user.
const MODE: u32 = 0o644;

/// Keeps a `.prom` file.
pub struct PromFileSink {
    page: Arc<Mutex<Page>>,
}

struct Page {
    path: PathBuf,
    intervals: Intervals,
    collectors: BTreeMap<String, Last>,
}

struct Last {
    schema: Arc<EncodedSchema>,
    values: Vec<f64>,
    time_ms: i64,
}

impl PromFileSink {
    /// A sink to a file, whose directory must be there. `intervals` names the collectors that don't run
    /// in every tick.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, intervals: BTreeMap<String, Duration>) -> Self {
        let intervals = Intervals::new(intervals);
        let page = Page { path: path.into(), intervals, collectors: BTreeMap::new() };
        Self { page: Arc::new(Mutex::new(page)) }
    }
}

impl Sink for PromFileSink {
    fn limits(&self) -> BatchLimits {
        LIMITS
    }

    fn send<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<u64, SinkError>> {
        let batch = batch.clone();
        Box::pin(offload::run(&self.page, move |page| page.take(&batch)))
    }
}

impl Page {
    fn take(&mut self, batch: &Batch) -> Result<u64, SinkError> {
        let mut is_new = false;
        for decoded in decode_records(batch) {
            if let Joined::Metrics { time_ms, schemas, values } = decoded?.body {
                self.add(batch, time_ms, &schemas, &values);
                is_new = true;
            }
        }
        if is_new {
            self.write().map_err(|error| SinkError::Transient {
                reason: format!("write {}: {error}", self.path.display()),
                retry_after: None,
            })?;
        }
        Ok(batch.records.last().map_or(0, |record| record.seq))
    }

    fn add(&mut self, batch: &Batch, time_ms: i64, schemas: &[&EncodedSchema], values: &[f64]) {
        let intervals = &self.intervals;
        self.collectors.retain(|name, last| !intervals.was_due(name, last.time_ms, time_ms));
        let mut left = values;
        for schema in schemas {
            let (values, rest) = left.split_at(schema.schema.series.len().min(left.len()));
            left = rest;
            let Some(schema) = batch.schemas.get(&schema.id) else { continue };
            let last = Last { schema: Arc::clone(schema), values: values.to_vec(), time_ms };
            self.collectors.insert(schema.schema.collector.clone(), last);
        }
    }

    /// Writes the page beside the file, and puts it in its place.
    fn write(&self) -> io::Result<()> {
        let beside = beside(&self.path);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(MODE).open(&beside)?;
        // the process's mask must not hide it
        file.set_permissions(Permissions::from_mode(MODE))?;
        self.render(&file)?;
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)
    }

    fn render(&self, file: &File) -> io::Result<()> {
        let samples = self
            .collectors
            .values()
            .flat_map(|last| Block { schema: &last.schema.schema, values: &last.values }.samples());
        let mut out = BufWriter::new(file);
        prometheus::samples(&mut out, samples)?;
        out.flush()
    }
}

/// A name that no textfile collector reads.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::fixture;

    #[tokio::test]
    async fn the_newest_tick_is_there_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("host.prom");
        let page = || fs::read_to_string(&path).unwrap_or_default();
        let mut sink = PromFileSink::new(&path, BTreeMap::new());
        assert_eq!(sink.send(&fixture::batch(vec![fixture::gap_record(1)])).await.unwrap(), 1);
        assert_eq!(page(), "", "a gap is no page");
        assert_eq!(sink.send(&fixture::ticks(2..=3)).await.unwrap(), 3);
        assert_eq!(
            page(),
            "# HELP node_cpu_seconds_total Seconds the CPUs spent in each mode.
# TYPE node_cpu_seconds_total counter
node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} 30
node_cpu_seconds_total{cpu=\"0\",mode=\"user\"} 3.25
# HELP node_load1 1m load average.
# TYPE node_load1 gauge
node_load1 0.03
"
        );
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing is left beside it");
        fs::remove_dir_all(&directory).unwrap();
        let error = sink.send(&fixture::ticks([4])).await.unwrap_err();
        assert!(matches!(error, SinkError::Transient { .. }), "{error}");
        assert!(error.to_string().contains("host.prom: No such file"), "{error}");
    }

    #[tokio::test]
    async fn a_slow_collector_stays_until_it_was_due() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("host.prom");
        let intervals = [("loadavg".to_owned(), Duration::from_secs(10))].into();
        let mut sink = PromFileSink::new(&path, intervals);
        let cpu = |seq: u64| {
            let blocks: [(_, &[f64]); 1] = [(fixture::cpu_schema().id, &[1.0, 2.0])];
            let tick = wire::Tick::encode(seq as i64 * 1_000, &blocks);
            fixture::batch(vec![fixture::record(seq, wire::Kind::Metrics, &tick)])
        };
        let has_load = || fs::read_to_string(&path).unwrap().contains("node_load1 0.08");
        sink.send(&fixture::ticks([8])).await.unwrap();
        sink.send(&cpu(9)).await.unwrap();
        assert!(has_load());
        sink.send(&cpu(10)).await.unwrap();
        assert!(!has_load());
    }
}
