//! What came by remote write: sealed, reopened, damaged, bounded, old.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::store::{
    Retention, Written,
    conformance::written::{STALE, Sent, batch, found, send},
    write::{Reason, Target},
};

/// What is done to a store.
#[derive(Clone, Debug)]
enum Step {
    /// Series, time and value of samples.
    Write(Vec<(usize, i64, u64)>),
    Seal,
    Reopen,
}

const SERIES: usize = 6;

/// Values that are easily taken for each other, among them what ends a series.
fn value_of_bits(number: u64) -> f64 {
    [1.0, -0.0, 0.0, STALE, f64::NAN][number as usize % 5]
}

fn step() -> impl Strategy<Value = Step> {
    // Some times lie hours apart.
    let time = prop_oneof![4 => 0_i64..40, 1 => 20_000_i64..20_003];
    let sample = (0..SERIES, time, 0_u64..5);
    prop_oneof![
        6 => proptest::collection::vec(sample, 1..40).prop_map(Step::Write),
        2 => Just(Step::Seal),
        1 => Just(Step::Reopen),
    ]
}

/// What should be there, by series and time.
#[derive(Default)]
struct Model(BTreeMap<(usize, i64), u64>);

impl Model {
    /// Samples stored, there already, and refused.
    fn write(&mut self, samples: &[(usize, i64, u64)]) -> (u64, u64, u64) {
        let mut counts = (0, 0, 0);
        for (series, time, number) in samples {
            let bits = value_of_bits(*number).to_bits();
            match self.0.get(&(*series, *time)) {
                None => {
                    self.0.insert((*series, *time), bits);
                    counts.0 += 1;
                }
                Some(there) if *there == bits => counts.1 += 1,
                Some(_) => counts.2 += 1,
            }
        }
        counts
    }

    async fn check(&self, store: &Embedded) {
        let mut expected = vec![Vec::new(); SERIES];
        for ((series, time), bits) in &self.0 {
            expected[*series].push((START_MS + time * 1_000, *bits));
        }
        let mut all = vec![Vec::new(); SERIES];
        for (series, samples) in found(store, "model").await {
            all[series.labels["n"].parse::<usize>().unwrap()] = samples;
        }
        assert_eq!(all, expected);
    }
}

async fn write(store: &Embedded, samples: &[(usize, i64, u64)]) -> Written {
    let instances: Vec<String> = (0..SERIES).map(|n| format!("host-{}:1", n % 2)).collect();
    let numbers: Vec<String> = (0..SERIES).map(|n| n.to_string()).collect();
    let labels: Vec<[(&str, &str); 3]> = (0..SERIES)
        .map(|n| [("instance", instances[n].as_str()), ("job", "x"), ("n", numbers[n].as_str())])
        .collect();
    // A series' samples in a row are one of the request, as senders put them together.
    let parts: Vec<(usize, Vec<(i64, f64)>)> = samples
        .chunk_by(|a, b| a.0 == b.0)
        .map(|part| {
            let sample = |(_, time, number): &(_, i64, u64)| {
                (START_MS + time * 1_000, value_of_bits(*number))
            };
            (part[0].0, part.iter().map(sample).collect())
        })
        .collect();
    let sent: Vec<Sent<'_>> = parts
        .iter()
        .map(|(series, samples)| ("model", &labels[*series][..], samples.as_slice()))
        .collect();
    send(store, &sent).await
}

async fn run(directory: &Path, steps: &[Step]) {
    let (mut store, mut model) = (Some(open(directory)), Model::default());
    for step in steps {
        let now = store.get_or_insert_with(|| open(directory));
        match step {
            Step::Write(samples) => {
                let written = write(now, samples).await;
                let counts = (written.samples, written.duplicates, written.refused_samples());
                assert_eq!(counts, model.write(samples));
            }
            Step::Seal => seal_all(now).await,
            Step::Reopen => store.take().unwrap().close().await,
        }
        model.check(store.get_or_insert_with(|| open(directory))).await;
    }
    drop(store);
    let audits = inspect::audit(directory).unwrap();
    assert_eq!(audits.iter().map(|one| one.samples).sum::<u64>(), model.0.len() as u64);
    for audit in audits {
        assert_eq!((audit.duplicates, audit.doubled, audit.damaged), (0, 0, 0), "{audit:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn any_mix_is_read_back_as_a_map_says(steps in proptest::collection::vec(step(), 1..14)) {
        let directory = tempfile::tempdir().unwrap();
        runtime().block_on(run(directory.path(), &steps));
    }
}

#[test]
fn a_scrape_that_came_in_parts_is_sealed_as_one() {
    with_store(|directory, store| async move {
        let numbers: Vec<String> = (0..150).map(|n| n.to_string()).collect();
        let labels: Vec<_> = numbers.iter().map(|n| [("instance", "a:1"), ("n", n)]).collect();
        for tick in 0..50_i64 {
            // The second part comes behind the next scrape's first.
            let sample = |tick: i64| [(START_MS + tick * 15_000, tick as f64)];
            let (now, before) = (sample(tick), sample((tick - 1).max(0)));
            let first = labels[..70].iter().map(|labels| ("parts", &labels[..], &now[..]));
            let second = labels[70..].iter().map(|labels| ("parts", &labels[..], &before[..]));
            let sent: Vec<Sent<'_>> = first.chain(second).collect();
            send(&store, &sent).await;
        }
        for sealed in [false, true] {
            if sealed {
                seal_all(&store).await;
            }
            let found = found(&store, "parts").await;
            let lengths: Vec<usize> = found.iter().map(|(_, samples)| samples.len()).collect();
            assert_eq!(lengths.iter().filter(|length| **length == 50).count(), 70, "{lengths:?}");
            assert_eq!(lengths.iter().filter(|length| **length == 49).count(), 80, "{lengths:?}");
        }
        let connection = database::open_reader(&directory).unwrap();
        let blocks: (i64, i64) = connection
            .query_row("SELECT count(*), sum(samples) FROM blocks", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .unwrap();
        assert_eq!(blocks, (3, 70 * 50 + 80 * 49), "one block a group of series");
    });
}

#[test]
fn sealing_of_written_samples_begins_by_itself() {
    with_store(|_directory, store| async move {
        for tick in 0..1_300_i64 {
            let samples = [(START_MS + tick * 1_000, tick as f64)];
            send(&store, &[("due", &[("instance", "a:1")], &samples)]).await;
        }
        while store.stats().sealed_samples == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(found(&store, "due").await[0].1.len(), 1_300);
    });
}

#[test]
fn too_many_written_series_are_refused_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { series_per_agent: 2, ..Options::new(directory.path()) };
    let store = Embedded::open(&options).unwrap();
    runtime().block_on(async {
        let of = |n| [("instance", "a:1"), ("n", n)];
        let (a, b, c) = (of("a"), of("b"), of("c"));
        let sent: [Sent<'_>; 4] = [
            ("limit", &a, &[(1, 1.0)]),
            ("limit", &b, &[(1, 1.0)]),
            ("limit", &c, &[(1, 1.0), (2, 1.0)]),
            ("limit", &[("instance", "other:1")], &[(1, 1.0)]),
        ];
        for samples in [3, 0] {
            let written = send(&store, &sent).await;
            assert_eq!((written.samples, written.duplicates), (samples, 3 - samples));
            let refused = written.refused[0];
            assert_eq!((refused.series, refused.reason), (2, Reason::SeriesLimit));
            assert_eq!((refused.time_ms, refused.samples), (1, 2));
        }
        let filter = GapFilter { host: None, from_ms: 0, to_ms: i64::MAX, limit: 10 };
        let gaps = store.gaps(filter).await.unwrap();
        assert_eq!(gaps.len(), 1);
        let found = (gaps[0].host.as_str(), gaps[0].reason, gaps[0].samples);
        assert_eq!(found, ("a:1", LedgerReason::SeriesLimit, 4));
        let stats = store.stats();
        assert_eq!((stats.refused_samples, stats.series), (4, 3));
        assert_eq!((stats.agents, stats.targets), (0, 2));
    });
}

#[test]
fn an_agent_cannot_write_as_a_target() {
    with_store(|_directory, store| async move {
        send(&store, &[("mine", &[("instance", "a:1"), ("job", "x")], &[(1, 1.0)])]).await;
        let schema = schema("mine", 1);
        let mut agent = FakeAgent::new(1, 1, &[&schema]);
        agent.header.agent_id = Target { job: "x", instance: "a:1" }.id();
        let refused = store.ingest(agent.batch(&[tick(1, &schema)])).await;
        assert!(matches!(refused, Err(IngestError::Conflict { .. })), "{refused:?}");
        agent.header.agent_id = Target { job: "x", instance: "b:1" }.id();
        agent.send(&store, &[tick(1, &schema)]).await;
        let target = batch(&[("mine", &[("instance", "b:1"), ("job", "x")], &[(1, 1.0)])]);
        assert!(matches!(store.write(target.into()).await, Err(IngestError::Conflict { .. })));
    });
}

#[test]
fn damage_of_written_samples_costs_what_it_hit_and_is_told() {
    with_store(|directory, store| async move {
        let labels: &[_] = &[("instance", "a:1")];
        for time in 1..=6 {
            send(&store, &[("damage", labels, &[(time, 1.0)])]).await;
        }
        store.close().await;
        let connection = Connection::open(database::path_in(&directory)).unwrap();
        let broken = "UPDATE head SET body = x'4846727700000000000000' WHERE first_seq = 3";
        assert_eq!(connection.execute(broken, []).unwrap(), 1);
        drop(connection);
        let store = open(&directory);
        seal_all(&store).await;
        let times: Vec<i64> =
            found(&store, "damage").await[0].1.iter().map(|(time_ms, _)| *time_ms).collect();
        assert_eq!(times, [1, 2, 4, 5, 6]);
        let filter = GapFilter { host: None, from_ms: 0, to_ms: i64::MAX, limit: 10 };
        let gaps = store.gaps(filter).await.unwrap();
        let told: Vec<_> = gaps.iter().map(|gap| (gap.reason, gap.from_ms, gap.samples)).collect();
        assert_eq!(told, [(LedgerReason::StoreDamaged, 3, 1)]);
        // It is sent again, and is there again.
        assert_eq!(send(&store, &[("damage", labels, &[(3, 1.0)])]).await.samples, 1);
    });
}

#[test]
fn written_series_go_when_they_are_old_and_their_target_with_them() {
    with_store(|_directory, store| async move {
        let day_ms = 24 * 60 * 60 * 1_000;
        let (gone, back): (&[_], &[_]) = (&[("instance", "gone:1")], &[("instance", "back:1")]);
        send(&store, &[("old", gone, &[(START_MS, 1.0)]), ("old", back, &[(START_MS, 1.0)])]).await;
        seal_all(&store).await;
        let later = START_MS + 20 * day_ms;
        let mut again = batch(&[("old", back, &[(later, 2.0)])]);
        again.received_ms = later;
        store.write(again.into()).await.unwrap();
        // What came back lies in the head only.
        // Samples go in the round after the one that makes their rollups, or later.
        for round in 1..=3 {
            let keep = Retention::all(Duration::from_secs(10 * 24 * 60 * 60));
            store.maintain(later + round, keep).await.unwrap();
        }
        let left = found(&store, "old").await;
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].1, [(later, 2.0_f64.to_bits())]);
        assert_eq!((store.stats().series, store.stats().targets), (1, 1));
        // A target that has gone comes again as a new one.
        assert_eq!(send(&store, &[("old", gone, &[(START_MS, 1.0)])]).await.samples, 1);
        assert_eq!(found(&store, "old").await.len(), 2);
    });
}
