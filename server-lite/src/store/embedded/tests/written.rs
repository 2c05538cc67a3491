//! What came by remote write: sealed, reopened, damaged, bounded, old.

use proptest::prelude::*;

use super::*;
use crate::store::conformance::written::{
    self, Sent, found,
    model::{Model, Sample, samples},
    send,
};

/// What is done to a store.
#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Sample>),
    Seal,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![6 => samples().prop_map(Step::Write), 2 => Just(Step::Seal), 1 => Just(Step::Reopen)]
}

async fn run(directory: &Path, steps: &[Step]) {
    let (mut store, mut model) = (Some(open(directory)), Model::new("model".into()));
    for step in steps {
        let now = store.get_or_insert_with(|| open(directory));
        match step {
            Step::Write(samples) => model.write(now, samples).await,
            Step::Seal => seal_all(now).await,
            Step::Reopen => store.take().unwrap().close().await,
        }
        model.check(store.get_or_insert_with(|| open(directory))).await;
    }
    drop(store);
    let audits = inspect::audit(directory).unwrap();
    assert_eq!(audits.iter().map(|one| one.samples).sum::<u64>(), model.samples());
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
        written::too_many_series_are_refused_and_told(&store).await;
        let stats = store.stats();
        assert_eq!((stats.refused_samples, stats.series), (4, 3));
        assert_eq!((stats.agents, stats.targets), (0, 2));
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
        written::old_ones_go(&store, async || seal_all(&store).await).await;
        assert_eq!((store.stats().series, store.stats().targets), (2, 2));
    });
}
