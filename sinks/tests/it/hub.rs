//! A hub in this process: the protocol of `POST /api/v1/ingest` over a real socket, with what it has
//! stored in memory. Replies can be put in its mouth.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    rc::Rc,
    sync::{Arc, Mutex},
};

use agent_core::clock::Clock;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Response, StatusCode, Uri},
    serve::Listener,
};
use sinks::{HttpConfig, HttpSink, Identity};
use tokio::net::TcpListener;
use wire::{
    AgentId, InstanceId, SchemaId, StreamId,
    api::{BadRecord, ErrorBody, HeartbeatReply, IngestReply},
    request::{self, Request},
};

pub(crate) const AGENT: AgentId = AgentId::from_bytes([1; 16]);
pub(crate) const INSTANCE: InstanceId = InstanceId::from_bytes([3; 16]);
pub(crate) const NOW_MS: i64 = 1_800_000_000_000;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn request(&self) -> Request {
        request::decode(&self.body).unwrap()
    }

    /// The numbers of its records, and of how many schemas it brought.
    pub(crate) fn summary(&self) -> (Vec<u64>, usize) {
        let request = self.request();
        (request.records.iter().map(|record| record.seq).collect(), request.schemas.len())
    }
}

#[derive(Default)]
struct Store {
    schemas: HashSet<SchemaId>,
    records: HashMap<StreamId, Vec<u64>>,
    seen: Vec<Seen>,
    script: VecDeque<Response<Body>>,
}

/// The hub's side of the tests.
#[derive(Clone, Default)]
pub(crate) struct Hub {
    store: Arc<Mutex<Store>>,
}

impl Hub {
    /// Begins to listen; returns itself and its URL.
    pub(crate) async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let hub = Self::default();
        hub.serve(listener);
        (hub, url)
    }

    /// Serves on any listener until the runtime ends.
    pub(crate) fn serve<L>(&self, listener: L)
    where
        L: Listener,
        L::Addr: std::fmt::Debug,
    {
        let app = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
    }

    /// What it will say next, once, instead of what it would say.
    pub(crate) fn will_say(&self, status: u16, headers: &[(&str, &str)], body: impl Into<Body>) {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        self.store.lock().unwrap().script.push_back(response.body(body.into()).unwrap());
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.store.lock().unwrap().seen.clone()
    }

    /// Numbers of the stream's records, in the order in which they were stored.
    pub(crate) fn held(&self, stream_id: StreamId) -> Vec<u64> {
        self.store.lock().unwrap().records.get(&stream_id).cloned().unwrap_or_default()
    }

    fn answer(&self, seen: Seen) -> Response<Body> {
        let mut store = self.store.lock().unwrap();
        store.seen.push(seen.clone());
        if let Some(scripted) = store.script.pop_front() {
            return scripted;
        }
        match seen.path.as_str() {
            "/api/v1/ingest" => store.ingest(&seen.body),
            "/api/v1/heartbeat" => json(StatusCode::OK, &HeartbeatReply { time_ms: NOW_MS }),
            _ => Response::builder().status(404).body(Body::empty()).unwrap(),
        }
    }
}

async fn answer(
    State(hub): State<Hub>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    hub.answer(Seen { path: uri.path().to_owned(), headers, body })
}

impl Store {
    fn ingest(&mut self, body: &[u8]) -> Response<Body> {
        let request = match request::decode(body) {
            Ok(request) => request,
            Err(error) => {
                let record = error.record().map(|(index, seq)| BadRecord { index, seq });
                let (offset, message) = (error.offset(), error.to_string());
                let body = ErrorBody { error: "malformed".into(), message, record, offset };
                return json(StatusCode::BAD_REQUEST, &body);
            }
        };
        self.schemas.extend(request.schemas.iter().map(|schema| schema.id));
        let held = self.records.entry(request.header.stream_id).or_default();
        let mut need_schemas = Vec::new();
        for record in request.records {
            if held.last().is_some_and(|last| record.seq <= *last) {
                continue;
            }
            if let request::Body::Metrics(tick) = &record.body {
                let unknown = tick.schemas.iter().filter(|id| !self.schemas.contains(*id));
                need_schemas = unknown.copied().collect();
            }
            if !need_schemas.is_empty() {
                break;
            }
            held.push(record.seq);
        }
        let acked_seq = held.last().copied().unwrap_or(0);
        json(StatusCode::OK, &IngestReply { acked_seq, need_schemas, time_ms: NOW_MS })
    }
}

fn json(status: StatusCode, body: &impl serde::Serialize) -> Response<Body> {
    let body = serde_json::to_vec(body).unwrap();
    Response::builder().status(status).body(body.into()).unwrap()
}

/// A clock that stands where it was set.
#[derive(Debug)]
pub(crate) struct TestClock(pub(crate) std::cell::Cell<i64>);

impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        self.0.get()
    }
}

pub(crate) fn clock() -> Rc<TestClock> {
    Rc::new(TestClock(NOW_MS.into()))
}

pub(crate) fn identity() -> Identity {
    Identity::new(AGENT, INSTANCE, "0.1.0", || "web-1".to_owned())
}

pub(crate) fn sink(url: &str) -> HttpSink {
    HttpSink::new(HttpConfig::new(url), identity(), clock()).unwrap()
}
