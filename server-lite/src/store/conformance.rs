//! What every store has to do, whichever way it does it: [`run`] goes over any [`Store`] that is
//! empty. Agents, streams and times are made up; nothing here waits or sleeps.

mod again;
mod labels;
mod replay;
pub(crate) mod rollups;
pub(crate) mod written;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use wire::{
    AgentId, EncodedSchema, Family, Gap, GapReason, InstanceId, Kind, MetricKind, Schema, SchemaId,
    StreamId, Tick, envelope, request,
};

use super::{
    GapFilter, Host, IngestBatch, IngestError, Ingested, LedgerReason, ReadRequest, Retention,
    Seen, Selector, Series, Store,
};

/// Times begin here, and one tick is ten seconds.
pub(crate) const START_MS: i64 = 1_700_000_000_000;

/// Makes requests as an agent does.
#[derive(Clone, Debug)]
pub(crate) struct FakeAgent {
    pub(crate) header: request::Header,
    /// Sent with each request.
    pub(crate) send: Vec<Arc<EncodedSchema>>,
}

/// What a record of a request is.
#[derive(Clone, Debug)]
pub(crate) enum Fake {
    /// A tick, with the values of each schema.
    Tick(u64, Vec<(SchemaId, Vec<f64>)>),
    /// A tick at a time of its own.
    TickAt(u64, i64, Vec<(SchemaId, Vec<f64>)>),
    /// A gap.
    Gap(u64, Gap),
}

/// A schema of gauges: `name{n="0"}` up to `series`.
pub(crate) fn schema(name: &str, series: usize) -> Arc<EncodedSchema> {
    let family = Family { name: name.into(), kind: MetricKind::Gauge, help: "Test.".into() };
    let series =
        (0..series).map(|n| wire::Series { family: 0, labels: vec![("n".into(), n.to_string())] });
    EncodedSchema::new(Schema {
        collector: "test".into(),
        families: vec![family],
        series: series.collect(),
    })
}

/// The time of a record.
pub(crate) fn time_of(seq: u64) -> i64 {
    START_MS + seq.cast_signed() * 10_000
}

/// The value of a series in a record, so that any test can say what it has to find.
pub(crate) fn value_of(seq: u64, series: usize) -> f64 {
    seq as f64 + series as f64 / 100.0
}

/// A tick whose values are those of [`value_of`].
pub(crate) fn tick(seq: u64, schema: &EncodedSchema) -> Fake {
    let values = (0..schema.schema.series.len()).map(|n| value_of(seq, n));
    Fake::Tick(seq, vec![(schema.id, values.collect())])
}

impl FakeAgent {
    pub(crate) fn new(agent: u8, stream: u8, schemas: &[&Arc<EncodedSchema>]) -> Self {
        let header = request::Header {
            agent_id: AgentId::from_bytes([agent; 16]),
            instance_id: InstanceId::from_bytes([agent; 16]),
            stream_id: StreamId::from_bytes([stream; 16]),
            hostname: format!("host-{agent}"),
            agent_version: "1.0".into(),
            sent_ms: START_MS,
            last_seq: None,
        };
        Self { header, send: schemas.iter().map(|schema| Arc::clone(schema)).collect() }
    }

    pub(crate) fn body(&self, records: &[Fake]) -> Vec<u8> {
        let records: Vec<Vec<u8>> = records.iter().map(envelope_of).collect();
        let schemas = self.send.iter().map(AsRef::as_ref);
        request::encode(&self.header, schemas, records.iter().map(Vec::as_slice)).unwrap()
    }

    pub(crate) fn batch(&self, records: &[Fake]) -> IngestBatch {
        let body = self.body(records);
        IngestBatch {
            request: request::decode(&body).unwrap(),
            body: Bytes::from(body),
            received_ms: START_MS,
            is_alone: true,
            number: 1,
            after: 1,
        }
    }

    pub(crate) async fn send(&self, store: &dyn Store, records: &[Fake]) -> Ingested {
        store.ingest(self.batch(records)).await.unwrap()
    }
}

fn envelope_of(record: &Fake) -> Vec<u8> {
    let encode = |time_ms, values: &[(SchemaId, Vec<f64>)]| {
        let blocks: Vec<(SchemaId, &[f64])> =
            values.iter().map(|(id, values)| (*id, values.as_slice())).collect();
        Tick::encode(time_ms, &blocks)
    };
    match record {
        Fake::Tick(seq, values) => {
            envelope::encode(Kind::Metrics, *seq, &encode(time_of(*seq), values))
        }
        Fake::TickAt(seq, time_ms, values) => {
            envelope::encode(Kind::Metrics, *seq, &encode(*time_ms, values))
        }
        Fake::Gap(seq, gap) => envelope::encode(Kind::Gap, *seq, &gap.encode()),
    }
    .unwrap()
}

/// A gap that says that these records are lost.
pub(crate) fn gap(first_seq: u64, last_seq: u64) -> Gap {
    Gap {
        reason: GapReason::LogOverflow,
        from_ms: time_of(first_seq),
        to_ms: time_of(last_seq),
        first_seq,
        last_seq,
        records: last_seq - first_seq + 1,
        samples: 0,
        detail: "test".into(),
    }
}

/// A gap of that reason in which no record was lost.
pub(crate) fn told(reason: GapReason, from_ms: i64, to_ms: i64) -> Gap {
    let (first_seq, last_seq, records) = (0, 0, 0);
    Gap { reason, from_ms, to_ms, first_seq, last_seq, records, ..gap(1, 1) }
}

/// The series of a metric of a host, in order of their label `n`.
pub(crate) async fn series_of(store: &dyn Store, host: &str, metric: &str) -> Vec<Series> {
    let selector = Selector::metric(metric).on(Some(Host::parse(host)));
    let mut series = store.series(selector).await.unwrap();
    series.sort_by_key(|series| series.labels.get("n").and_then(|n| n.parse::<usize>().ok()));
    series
}

/// All samples of a metric of a host, series by series.
pub(crate) async fn samples_of(
    store: &dyn Store,
    host: &str,
    metric: &str,
    (from_ms, to_ms): (i64, i64),
) -> Vec<Vec<(i64, f64)>> {
    let series = series_of(store, host, metric).await;
    let request =
        ReadRequest { series: series.iter().map(|series| series.id).collect(), from_ms, to_ms };
    store.read(request).await.unwrap().collect(series.len()).await.unwrap()
}

/// All time.
pub(crate) const EVER: (i64, i64) = (i64::MIN, i64::MAX);

/// Whether a host's series hold the values of [`value_of`] for exactly these records.
pub(crate) async fn check_samples(store: &dyn Store, host: &str, metric: &str, seqs: &[u64]) {
    let found = samples_of(store, host, metric, EVER).await;
    assert!(!found.is_empty(), "{host} {metric}");
    for (n, samples) in found.iter().enumerate() {
        let expected: Vec<_> = seqs.iter().map(|seq| (time_of(*seq), value_of(*seq, n))).collect();
        assert_eq!(*samples, expected, "{host} {metric} {n}");
    }
}

async fn gaps_of(store: &dyn Store, host: &str) -> Vec<(LedgerReason, u64, u64)> {
    let filter =
        GapFilter { host: Some(Host::parse(host)), from_ms: i64::MIN, to_ms: i64::MAX, limit: 100 };
    let mut gaps: Vec<_> = store
        .gaps(filter)
        .await
        .unwrap()
        .into_iter()
        .map(|gap| (gap.reason, gap.first_seq, gap.last_seq))
        .collect();
    gaps.sort_by_key(|gap| gap.1);
    gaps
}

/// Everything below, each with an agent of its own, on a store that is empty.
pub(crate) async fn run(store: &dyn Store) {
    assert!(store.agents().await.unwrap().is_empty());
    store.check().await.unwrap();
    records_are_stored_once(store).await;
    unknown_schemas_are_asked_for_at_once(store).await;
    a_bad_record_refuses_all(store).await;
    values_come_back_bit_for_bit(store).await;
    holes_are_told_and_explained(store).await;
    streams_of_an_agent_are_apart(store).await;
    gaps_without_records_are_told_once(store).await;
    of_two_samples_at_one_time_the_later_counts(store).await;
    series_are_selected_by_host_name_and_labels(store).await;
    agents_are_told_as_they_are(store).await;
    again::run(store).await;
    labels::run(store).await;
    rollups::run(store).await;
    replay::run(store).await;
    written::run(store).await;
    store.maintain(START_MS, Retention::all(Duration::from_secs(30 * 24 * 60 * 60))).await.unwrap();
}

async fn records_are_stored_once(store: &dyn Store) {
    let schema = schema("once", 3);
    let agent = FakeAgent::new(1, 1, &[&schema]);
    let ticks: Vec<Fake> = (5..=9).map(|seq| tick(seq, &schema)).collect();
    let first = agent.send(store, &ticks[..3]).await;
    let expected = Ingested { acked_seq: 7, records: 3, samples: 9, ..Ingested::default() };
    assert_eq!(first, expected);
    let again = agent.send(store, &ticks[..3]).await;
    assert_eq!(again, Ingested { acked_seq: 7, duplicates: 3, ..Ingested::default() });
    let overlapping = agent.send(store, &ticks[1..]).await;
    let expected =
        Ingested { acked_seq: 9, records: 2, samples: 6, duplicates: 2, ..Ingested::default() };
    assert_eq!(overlapping, expected);
    check_samples(store, "host-1", "once", &[5, 6, 7, 8, 9]).await;
    assert_eq!(gaps_of(store, "host-1").await, []);
}

async fn unknown_schemas_are_asked_for_at_once(store: &dyn Store) {
    let (a, b, c) = (schema("needs_a", 1), schema("needs_b", 2), schema("needs_c", 3));
    let agent = FakeAgent::new(2, 1, &[&a]);
    let ticks = [tick(1, &a), tick(2, &b), tick(3, &a), tick(4, &c)];
    let reply = agent.send(store, &ticks).await;
    let mut expected = vec![b.id, c.id];
    expected.sort_unstable();
    assert_eq!((reply.acked_seq, reply.records, reply.need_schemas), (1, 1, expected));
    let unsent = FakeAgent { send: vec![], ..agent.clone() };
    assert_eq!(unsent.send(store, &ticks[1..]).await.acked_seq, 1, "nothing to store yet");
    let with_all = FakeAgent { send: vec![c.clone(), b.clone()], ..agent.clone() };
    assert_eq!(with_all.send(store, &ticks[1..]).await.acked_seq, 4);
    let later = [tick(5, &b), tick(6, &c)];
    assert_eq!(unsent.send(store, &later).await.acked_seq, 6, "known for good");
    for (metric, seqs) in [("needs_a", &[1, 3][..]), ("needs_b", &[2, 5]), ("needs_c", &[4, 6])] {
        check_samples(store, "host-2", metric, seqs).await;
    }
}

async fn a_bad_record_refuses_all(store: &dyn Store) {
    let schema = schema("bad", 2);
    let agent = FakeAgent::new(3, 1, &[&schema]);
    let bad = Fake::Tick(2, vec![(schema.id, vec![1.0, 2.0, 3.0])]);
    let error = store.ingest(agent.batch(&[tick(1, &schema), bad])).await.unwrap_err();
    assert!(matches!(error, IngestError::BadRecord { index: 1, seq: 2, .. }), "{error:?}");
    assert!(series_of(store, "host-3", "bad").await.is_empty());
    assert!(store.agents().await.unwrap().iter().all(|agent| agent.hostname != "host-3"));
    let reply = agent.send(store, &[tick(1, &schema), tick(3, &schema)]).await;
    assert_eq!(reply.acked_seq, 3);
    check_samples(store, "host-3", "bad", &[1, 3]).await;
}

async fn values_come_back_bit_for_bit(store: &dyn Store) {
    let values = [f64::NAN, -f64::NAN, f64::INFINITY, -0.0, 5e-324, 0.1 + 0.2, 1e300];
    let schema = schema("bits", values.len());
    let agent = FakeAgent::new(4, 1, &[&schema]);
    agent.send(store, &[Fake::Tick(1, vec![(schema.id, values.to_vec())])]).await;
    let found = samples_of(store, "host-4", "bits", EVER).await;
    let bits: Vec<_> = found.iter().map(|samples| samples[0].1.to_bits()).collect();
    assert_eq!(bits, values.map(f64::to_bits));
    assert!(samples_of(store, "host-4", "bits", (0, time_of(1) - 1)).await.concat().is_empty());
    assert_eq!(
        samples_of(store, "host-4", "bits", (time_of(1), time_of(1))).await.concat().len(),
        7
    );
}

async fn holes_are_told_and_explained(store: &dyn Store) {
    use LedgerReason::{Agent, Unexplained};
    let overflow = Agent(GapReason::LogOverflow);
    let schema = schema("holes", 1);
    let agent = FakeAgent::new(5, 1, &[&schema]);
    agent.send(store, &[tick(10, &schema), tick(14, &schema)]).await;
    assert_eq!(gaps_of(store, "host-5").await, [(Unexplained, 11, 13)]);
    agent.send(store, &[tick(18, &schema), Fake::Gap(19, gap(15, 17))]).await;
    assert_eq!(gaps_of(store, "host-5").await, [(Unexplained, 11, 13), (overflow, 15, 17)]);
    agent.send(store, &[Fake::Gap(20, gap(11, 12))]).await;
    agent.send(store, &[Fake::Gap(20, gap(11, 12))]).await;
    let expected = [(overflow, 11, 12), (Unexplained, 13, 13), (overflow, 15, 17)];
    assert_eq!(gaps_of(store, "host-5").await, expected);
    check_samples(store, "host-5", "holes", &[10, 14, 18]).await;
    let none = GapFilter { host: None, from_ms: time_of(30), to_ms: i64::MAX, limit: 100 };
    assert_eq!(store.gaps(none).await.unwrap(), []);
}

async fn gaps_without_records_are_told_once(store: &dyn Store) {
    use GapReason::{AgentDown, ClockJump, HostOff};
    let schema = schema("told", 1);
    let agent = FakeAgent::new(11, 1, &[&schema]);
    // The clock was set back by 50 seconds: its gap ends before it begins.
    let gaps = [(AgentDown, 100, 200), (HostOff, 300, 400), (ClockJump, 450, 400)];
    let records: Vec<Fake> = (1..)
        .zip(gaps)
        .map(|(seq, (reason, from_ms, to_ms))| Fake::Gap(seq, told(reason, from_ms, to_ms)))
        .chain([tick(4, &schema)])
        .collect();
    let reply = agent.send(store, &records[..2]).await;
    assert_eq!((reply.acked_seq, reply.records), (2, 2));
    for _ in 0..2 {
        assert_eq!(agent.send(store, &records).await.acked_seq, 4);
    }
    check_samples(store, "host-11", "told", &[4]).await;
    let check = async |from_ms, to_ms, expected: &[(GapReason, i64, i64)]| {
        let host = Some(Host::parse("host-11"));
        let found = store.gaps(GapFilter { host, from_ms, to_ms, limit: 100 }).await.unwrap();
        let found: Vec<_> =
            found.iter().map(|gap| (gap.reason, gap.from_ms, gap.to_ms, gap.records)).collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(reason, from_ms, to_ms)| (LedgerReason::Agent(*reason), *from_ms, *to_ms, 0))
            .collect();
        assert_eq!(found, expected, "{from_ms} {to_ms}");
    };
    check(i64::MIN, i64::MAX, &gaps).await;
    check(0, 100, &[]).await;
    check(200, 301, &gaps[..2]).await;
    check(410, 420, &gaps[2..]).await;
    check(451, i64::MAX, &[]).await;
}

async fn streams_of_an_agent_are_apart(store: &dyn Store) {
    let schema = schema("streams", 1);
    let (first, second) = (FakeAgent::new(6, 1, &[&schema]), FakeAgent::new(6, 2, &[]));
    assert_eq!(first.send(store, &[tick(7, &schema)]).await.acked_seq, 7);
    assert_eq!(second.send(store, &[tick(3, &schema)]).await.acked_seq, 3, "begins anywhere");
    assert_eq!(first.send(store, &[tick(8, &schema)]).await.acked_seq, 8);
    check_samples(store, "host-6", "streams", &[3, 7, 8]).await;
    assert_eq!(gaps_of(store, "host-6").await, []);
}

async fn of_two_samples_at_one_time_the_later_counts(store: &dyn Store) {
    let schema = schema("set_back", 1);
    let agent = FakeAgent::new(7, 1, &[&schema]);
    let at = |seq, time_ms, value| Fake::TickAt(seq, time_ms, vec![(schema.id, vec![value])]);
    agent.send(store, &[at(1, 1_000, 1.0), at(2, 2_000, 2.0), at(3, 3_000, 3.0)]).await;
    agent.send(store, &[at(4, 2_000, 4.0), at(5, 500, 5.0)]).await;
    let found = samples_of(store, "host-7", "set_back", EVER).await.concat();
    assert_eq!(found, [(500, 5.0), (1_000, 1.0), (2_000, 4.0), (3_000, 3.0)]);
}

async fn series_are_selected_by_host_name_and_labels(store: &dyn Store) {
    let schema = schema("selected", 3);
    for agent in [8, 9] {
        FakeAgent::new(agent, 1, &[&schema]).send(store, &[tick(1, &schema)]).await;
    }
    let check = async |host: Option<&str>, labels: &[(&str, &str)], expected: &[(&str, &str)]| {
        let labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let selector =
            Selector::metric("selected").labelled(&labels.collect()).on(host.map(Host::parse));
        let found = store.series(selector).await.unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|series| (series.hostname.as_str(), series.labels["n"].as_str()))
            .collect();
        assert_eq!(found, expected, "{host:?}");
    };
    check(Some("host-8"), &[], &[("host-8", "0"), ("host-8", "1"), ("host-8", "2")]).await;
    check(None, &[("n", "1")], &[("host-8", "1"), ("host-9", "1")]).await;
    check(Some("09090909-0909-0909-0909-090909090909"), &[("n", "2")], &[("host-9", "2")]).await;
    check(Some("host-8"), &[("n", "")], &[]).await;
    check(Some("host-8"), &[("other", ""), ("n", "0")], &[("host-8", "0")]).await;
    check(Some("nobody"), &[], &[]).await;
    check(None, &[("instance", "host-9"), ("n", "1")], &[("host-9", "1")]).await;
    check(None, &[("job", "node"), ("n", "1")], &[("host-8", "1"), ("host-9", "1")]).await;
    check(None, &[("job", "other")], &[]).await;
}

async fn agents_are_told_as_they_are(store: &dyn Store) {
    let schema = schema("agents", 2);
    let mut agent = FakeAgent::new(10, 1, &[&schema]);
    agent.send(store, &[tick(1, &schema)]).await;
    agent.header.hostname = "renamed".into();
    agent.header.agent_version = "2.0".into();
    agent.send(store, &[tick(2, &schema)]).await;
    let seen = Seen { agent_id: agent.header.agent_id, at_ms: START_MS + 5 };
    store.note_seen(vec![seen]).await.unwrap();
    let agents = store.agents().await.unwrap();
    let found = agents.iter().find(|one| one.agent_id == agent.header.agent_id).unwrap();
    assert_eq!((found.hostname.as_str(), found.version.as_str()), ("renamed", "2.0"));
    assert_eq!((found.series, found.last_seen_ms), (2, START_MS + 5));
    let stream = found.streams.last().unwrap();
    assert_eq!((stream.acked_seq, stream.last_tick_ms), (2, Some(time_of(2))));
    check_samples(store, "renamed", "agents", &[1, 2]).await;
}
