//! What came by remote write: bounded, old, and by several hubs.

use std::cell::Cell;

use futures_util::future::join_all;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::{Database, two_hubs};
use crate::store::{
    Store as _, Written,
    conformance::{
        START_MS,
        written::{
            self, Sent, batch, found,
            model::{Model, Sample, samples},
            send,
        },
    },
    postgres::{Options, Postgres, inspect},
    write::Target,
};

const A: &[(&str, &str)] = &[("instance", "a:1"), ("job", "x")];

async fn open(database: &Database) -> Postgres {
    Postgres::open(&Options::new(&database.url)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_written_series_are_refused_and_told() {
    let Some(database) = Database::plain().await else { return };
    let options = Options { series_per_agent: 2, ..Options::new(&database.url) };
    let store = Postgres::open(&options).await.unwrap();
    written::too_many_series_are_refused_and_told(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn written_series_go_when_they_are_old_and_their_target_with_them() {
    let Some(database) = Database::plain().await else { return };
    let store = open(&database).await;
    written::old_ones_go(&store, async || ()).await;
    let rows = "SELECT count(*), count(*) FILTER (WHERE version = '') FROM holdfast.agents";
    let row = database.connect().await.query_one(rows, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_columns_they_go_too() {
    let Some(database) = Database::timescale().await else { return };
    written::old_ones_go(&open(&database).await, async || ()).await;
}

/// What is done to two hubs that share a database.
#[derive(Clone, Debug)]
enum Step {
    /// By which of them.
    Write(usize, Vec<Sample>),
    Reopen(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_usize..2, samples()).prop_map(|(hub, samples)| Step::Write(hub, samples)),
        1 => (0_usize..2).prop_map(Step::Reopen),
    ]
}

async fn run(database: &Database, case: u32, steps: &[Step]) {
    let mut hubs = two_hubs(database).await;
    let mut model = Model::new(format!("model{case}"));
    for step in steps {
        match step {
            Step::Write(hub, samples) => model.write(&hubs[*hub], samples).await,
            Step::Reopen(hub) => {
                hubs[*hub].close().await;
                hubs[*hub] = open(database).await;
            }
        }
        model.check(&hubs[case as usize % 2]).await;
    }
    let of_case = |host: &str| host.starts_with(&format!("model{case}-"));
    let audits = inspect::audit(&database.url).await.unwrap();
    let audits: Vec<_> = audits.into_iter().filter(|one| of_case(&one.host)).collect();
    assert_eq!(audits.iter().map(|one| one.samples).sum::<u64>(), model.samples());
    for audit in audits {
        assert_eq!((audit.duplicates, audit.doubled, audit.damaged), (0, 0, 0), "{audit:?}");
    }
}

#[test]
fn any_mix_sent_to_two_hubs_is_read_back_as_a_map_says() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some(database) = runtime.block_on(Database::plain()) else { return };
    let (mut runner, case) = (TestRunner::new(Config::with_cases(12)), Cell::new(0));
    let tested = runner.run(&proptest::collection::vec(step(), 1..12), |steps| {
        case.set(case.get() + 1);
        runtime.block_on(run(&database, case.get(), &steps));
        Ok(())
    });
    tested.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_by_two_hubs_at_one_time_is_stored_once() {
    let Some(database) = Database::plain().await else { return };
    let hubs = two_hubs(&database).await;
    let instances: Vec<String> = (0..20).map(|n| format!("raced-{n}:1")).collect();
    let labels: Vec<_> = instances.iter().map(|one| [("instance", &**one), ("job", "x")]).collect();
    for round in 0..10_i64 {
        let samples = [(START_MS + round * 15_000, round as f64)];
        let sent: Vec<Sent<'_>> =
            labels.iter().map(|labels| ("w_raced", &labels[..], &samples[..])).collect();
        // The other way round, so that whoever locks as it comes would wait for the other.
        let reversed: Vec<Sent<'_>> = sent.iter().rev().copied().collect();
        let sends = [(&hubs[0], &sent), (&hubs[1], &reversed), (&hubs[0], &reversed)];
        let written = join_all(sends.map(|(hub, sent)| send(hub, sent))).await;
        let count = |of: fn(&Written) -> u64| written.iter().map(of).sum::<u64>();
        assert_eq!((count(|one| one.samples), count(|one| one.duplicates)), (20, 40));
    }
    for (_, samples) in found(&hubs[1], "w_raced").await {
        assert_eq!(samples.len(), 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_metrics_to_one_hub_holds_at_the_other() {
    use wire::MetricKind::{Counter, Gauge};
    let Some(database) = Database::plain().await else { return };
    let hubs = two_hubs(&database).await;
    let said = async |hub: &Postgres, kind| {
        let mut said = batch(&[]);
        let (metric, help) = ("w_said".into(), "Help.".into());
        said.families = vec![crate::store::write::WriteFamily { metric, kind, help }];
        hub.write(said.into()).await.unwrap();
    };
    let kinds = async || {
        let found = found(&hubs[0], "w_said").await;
        found.iter().map(|(series, _)| series.kind).collect::<Vec<_>>()
    };
    said(&hubs[0], Counter).await;
    send(&hubs[1], &[("w_said", &[("n", "1")], &[(1, 1.0)])]).await;
    assert_eq!(kinds().await, [Counter]);
    said(&hubs[0], Counter).await;
    said(&hubs[1], Gauge).await;
    assert_eq!(kinds().await, [Gauge]);
    send(&hubs[0], &[("w_said", &[("n", "2")], &[(1, 1.0)])]).await;
    assert_eq!(kinds().await, [Gauge, Gauge]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_was_dropped_is_not_remembered() {
    let Some(database) = Database::plain().await else { return };
    let hubs = two_hubs(&database).await;
    for hub in &hubs {
        send(hub, &[("w_dropped", A, &[(1, 1.0)])]).await;
    }
    let client = database.connect().await;
    let count = async |sql: &str| client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    let changed = "SELECT changed FROM holdfast.agents";
    let before = count(changed).await;
    let drop = "DELETE FROM holdfast.samples; DELETE FROM holdfast.stray_samples; \
                DELETE FROM holdfast.series; DELETE FROM holdfast.streams; DELETE FROM holdfast.agents";
    client.batch_execute(drop).await.unwrap();
    // As often as it was changed before: its row is another all the same.
    for time in 1..=before {
        send(&hubs[0], &[("w_dropped", A, &[(time, 1.0)])]).await;
    }
    assert_eq!(count(changed).await, before);
    assert_eq!(send(&hubs[1], &[("w_dropped", A, &[(9, 1.0)])]).await.samples, 1);
    let found = found(&hubs[0], "w_dropped").await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0.agent_id, Target { job: "x", instance: "a:1" }.id());
    assert_eq!(found[0].1.len() as i64, before + 1);
}
