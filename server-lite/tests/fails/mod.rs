//! A database that fails in the ways that databases fail: whatever was acknowledged is there once, whoever
//! sends meanwhile is told to come again, and the hub goes on by itself when its database does.

mod connections;
mod disk;
mod failover;
mod network;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use remote_write::{Encoder, Label, Metadata, Sample, Version, snappy};

use super::{
    killed::{Home, Hub, Senders, check, run_hub},
    nothing_acked,
};

const PATIENCE: Duration = Duration::from_secs(90);
/// Records of each agent between two events.
const RECORDS: u64 = 50;

/// Asks the hub.
#[derive(Clone)]
struct Getter {
    client: ureq::Agent,
    url: String,
}

impl Getter {
    /// Status and text.
    fn get(&self, path: &str) -> (u16, String) {
        let mut answer = self.client.get(format!("{}{path}", self.url)).call().expect("an answer");
        (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text"))
    }
}

/// A hub, agents that send to it all the time, and a sender by remote write that is asked to.
struct Story<'a> {
    home: Home<'a>,
    hub: Hub,
    senders: Senders,
    acked: Vec<Arc<AtomicU64>>,
    getter: Getter,
    /// Time of the first sample by remote write; those after it follow one a millisecond.
    begun_ms: i64,
    /// How many were acknowledged.
    written: u64,
}

impl<'a> Story<'a> {
    fn begin(data_dir: &'a Path, database: &'a str) -> Self {
        let home = Home { data_dir, database };
        let (acked, hub) = (nothing_acked(), Hub::start(home));
        let senders = Senders::start(&hub.url, &acked);
        let config = ureq::Agent::config_builder().http_status_as_error(false).build();
        let getter = Getter { client: config.into(), url: hub.url.clone() };
        let begun_ms = server_lite::clock::system()();
        let mut story = Self { home, hub, senders, acked, getter, begun_ms, written: 0 };
        story.goes_on();
        story
    }

    /// Sends the next sample by remote write; the status, and whether it says when to come again.
    fn write(&mut self) -> (u16, bool) {
        let mut encoder = Encoder::new(Version::V1);
        let labels = [Label::new("__name__", "written"), Label::new("job", "test")];
        let time_ms = self.begun_ms + self.written.cast_signed();
        let sample = [Sample::new(time_ms, self.written as f64)];
        encoder.series(&labels, &sample, &Metadata::default());
        let answer = self
            .getter
            .client
            .post(format!("{}/api/v1/write", self.hub.url))
            .header("content-type", Version::V1.content_type())
            .header("content-encoding", "snappy")
            .send(snappy::compress(&encoder.finish()))
            .expect("an answer");
        let status = answer.status().as_u16();
        if status == 204 {
            self.written += 1;
        }
        (status, answer.headers().contains_key("retry-after"))
    }

    /// Until the hub says that it can't store, and when to come again; its metrics have counted it.
    fn fails(&mut self) {
        self.fails_while(|| ());
    }

    fn fails_while(&mut self, mut meanwhile: impl FnMut()) {
        let begun = Instant::now();
        loop {
            meanwhile();
            match self.write() {
                (204, _) => assert!(begun.elapsed() < PATIENCE, "the database didn't fail"),
                other => break assert_eq!(other, (503, true)),
            }
        }
        let (answer, text) = self.get("/metrics");
        assert_eq!(answer, 200);
        let failures = "holdfast_hub_store_failures_total ";
        let failures = text.lines().find_map(|line| line.strip_prefix(failures)).expect("a metric");
        assert_ne!(failures, "0");
    }

    fn getter(&self) -> Getter {
        self.getter.clone()
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.getter.get(path)
    }

    /// Until all is stored again: of every agent, and by remote write.
    fn goes_on(&mut self) {
        let begun = Instant::now();
        while self.write().0 != 204 {
            assert!(begun.elapsed() < PATIENCE, "the hub doesn't go on by itself");
            thread::sleep(Duration::from_millis(100));
        }
        let most = self.acked.iter().map(|acked| acked.load(SeqCst)).max().unwrap_or_default();
        self.senders.wait(&self.acked, most + RECORDS);
        assert_eq!(self.get("/readyz").0, 200);
    }

    /// Whether all that was acknowledged is there, once and in order.
    fn end(self, when: &str) {
        self.hub.kill();
        self.senders.join();
        check(self.home, &self.acked, when);
        let lines = run_hub(self.home, &["samples", "--metric", "written"]);
        let times: Vec<i64> = lines
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
            .map(|sample| sample["time_ms"].as_i64().expect("a time") - self.begun_ms)
            .collect();
        // The last may be stored, and nobody was told.
        let (stored, most) = (times.len() as u64, self.written + 1);
        assert!((self.written..=most).contains(&stored), "{stored} stored, {} told", self.written);
        assert_eq!(times, (0..stored.cast_signed()).collect::<Vec<_>>(), "after {when}");
    }
}
