//! Receivers as they are: what they refuse, and what of a refused request they keep.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use agent_core::sink::BoxFuture;
use remote_write::{Limits, Version, content, decode, labels, snappy};
use reqwest::{StatusCode, header::HeaderMap};

use crate::http::{Post, Reply, Transport};

/// How a receiver takes samples that don't come in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Prometheus: a request with one of them is refused, and nothing of it kept.
    AllOrNothing,
    /// Mimir, Thanos: what can be kept is, the request is refused all the same.
    Partly,
    /// VictoriaMetrics: takes everything.
    Anything,
}

#[derive(Default)]
pub(super) struct Store {
    /// By labels: times in seconds, and values.
    pub(super) series: BTreeMap<String, Vec<(i64, f64)>>,
    /// Messages, and in which version.
    pub(super) requests: Vec<(Version, usize)>,
    pub(super) last_headers: HeaderMap,
    /// What it says instead of an answer; nothing: the reply is lost on the way, after it has stored.
    pub(super) script: VecDeque<Option<(u16, &'static str)>>,
    /// Samples in a request that it takes.
    pub(super) samples_max: usize,
    /// Older than this it takes nothing.
    pub(super) not_before_s: i64,
    /// Whether it understands 2.0, and what it says if not.
    pub(super) v1_says: Option<u16>,
}

/// A receiver in memory, that a sink speaks to without sockets.
#[derive(Clone)]
pub(super) struct Receiver {
    pub(super) store: Rc<RefCell<Store>>,
    manner: Manner,
}

impl Receiver {
    pub(super) fn new(manner: Manner) -> Self {
        let store = Store { samples_max: usize::MAX, ..Store::default() };
        Self { store: Rc::new(RefCell::new(store)), manner }
    }

    /// Times and values of a series, in the order they came; the marker as `stale`.
    pub(super) fn held(&self, series: &str) -> String {
        let store = self.store.borrow();
        let held = store.series.get(series).cloned().unwrap_or_default();
        let text = held.iter().map(|(time_s, value)| match remote_write::is_stale(*value) {
            true => format!("{time_s}:stale"),
            false => format!("{time_s}:{value}"),
        });
        text.collect::<Vec<_>>().join(" ")
    }

    fn answer(&self, post: &Post) -> Result<Reply, String> {
        let mut store = self.store.borrow_mut();
        store.last_headers = post.headers.clone();
        let scripted = store.script.pop_front();
        if let Some(Some((status, header))) = scripted {
            return Ok(reply(status, header, None));
        }
        let version = content::accept(Some(post.content_type), Some("snappy")).unwrap();
        if version == Version::V2
            && let Some(status) = store.v1_says
        {
            return Ok(reply(status, "", None));
        }
        let reply = store.write(self.manner, version, &post.body);
        if scripted.is_some() { Err("connection reset".to_owned()) } else { Ok(reply) }
    }
}

impl Transport for Receiver {
    fn post(&self, request: Post) -> BoxFuture<'_, Result<Reply, String>> {
        let answer = self.answer(&request);
        Box::pin(std::future::ready(answer))
    }
}

impl Store {
    fn write(&mut self, manner: Manner, version: Version, body: &[u8]) -> Reply {
        let limits = Limits::default();
        let message = snappy::decompress(body, limits.message_bytes).unwrap();
        let request = decode(version, &message, &limits).unwrap();
        self.requests.push((version, request.samples()));
        if request.samples() > self.samples_max {
            return reply(413, "", None);
        }
        let mut after = self.series.clone();
        let (mut written, mut refused) = (0, 0);
        for series in request.series() {
            labels::check(series.labels, &limits).unwrap();
            let name = series.labels.iter().map(|label| match label.name {
                labels::NAME => label.value.to_owned(),
                name => format!("{name}={}", label.value),
            });
            let held = after.entry(name.collect::<Vec<_>>().join(" ")).or_default();
            for sample in series.samples {
                let (time_s, value) = (sample.time_ms / 1000, sample.value);
                let newest = held.last().copied();
                let is_newest = newest
                    .is_some_and(|(time, old)| (time, old.to_bits()) == (time_s, value.to_bits()));
                let is_newer = newest.is_none_or(|(time, _)| time_s > time);
                let is_good = is_newer && time_s >= self.not_before_s || is_newest;
                if manner == Manner::Anything || is_good {
                    written += 1;
                    if !held.iter().any(|(time, _)| *time == time_s) {
                        held.push((time_s, value));
                    }
                } else {
                    refused += 1;
                }
            }
        }
        if refused == 0 || manner != Manner::AllOrNothing {
            self.series = after;
        }
        let written = (version == Version::V2).then_some(written);
        reply(if refused > 0 { 400 } else { 204 }, "", written)
    }
}

fn reply(status: u16, retry_after: &'static str, written: Option<usize>) -> Reply {
    let mut headers = HeaderMap::new();
    if let Some(written) = written {
        let name = content::SAMPLES_WRITTEN_HEADER.to_lowercase();
        let name: reqwest::header::HeaderName = name.parse().unwrap();
        headers.insert(name, written.to_string().parse().unwrap());
    }
    if !retry_after.is_empty() {
        headers.insert("retry-after", retry_after.parse().unwrap());
    }
    Reply { status: StatusCode::from_u16(status).unwrap(), headers, body: b"words".to_vec() }
}
