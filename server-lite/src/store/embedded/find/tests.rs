//! What is found by indexes is what would be found by looking at every series.

use std::sync::Arc;

use wire::{EncodedSchema, Family, MetricKind, Schema};

use super::*;
use crate::store::{
    Embedded, Reader as _,
    conformance::{Fake, FakeAgent},
    embedded::{Options, database},
};

/// More hosts than are gone through one by one.
const HOSTS: u8 = 40;

fn schema(labels: &[&[(&str, &str)]]) -> Arc<EncodedSchema> {
    let names = ["a_total", "a_bytes", "b"];
    let family =
        |name: &str| Family { name: name.into(), kind: MetricKind::Gauge, help: String::new() };
    let series = |family, labels: &[(&str, &str)]| wire::Series {
        family,
        labels: labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
    };
    let all = (0..names.len() as u32).flat_map(|at| labels.iter().map(move |one| series(at, one)));
    EncodedSchema::new(Schema {
        collector: "find".into(),
        families: names.map(family).into(),
        series: all.collect(),
    })
}

async fn filled(store: &Embedded) {
    let plain = schema(&[&[], &[("n", "1")], &[("n", "2"), ("quoted", "\"instance\":1")]]);
    let own =
        schema(&[&[("n", "1")], &[("instance", "host-3")], &[("instance", "x"), ("job", "y")]]);
    for number in 1..=HOSTS {
        let schema = if number % 10 == 0 { &own } else { &plain };
        let values = vec![(schema.id, vec![1.0; schema.schema.series.len()])];
        FakeAgent::new(number, 1, &[schema]).send(store, &[Fake::Tick(1, values)]).await;
    }
}

#[test]
fn is_what_looking_at_every_series_would_find() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Embedded::open(&Options::new(directory.path())).unwrap();
        filled(&store).await;
        let all = store.series(Selector::default()).await.unwrap();
        assert_eq!(all.len(), usize::from(HOSTS) * 9);
        let names = ["", "__name__='b'", "__name__=~'a_.*'", "__name__!='b'", "__name__='none'"];
        let hosts = [
            "",
            "instance='host-3'",
            "instance='host-10'",
            "instance='x'",
            "instance=~'host-1.*'",
            "instance!='host-3'",
            "instance!~'host-.*'",
            "instance=~'.+'",
            "instance=''",
            "instance=~'host-3|x|'",
        ];
        let others = ["job='node'", "job!='node'", "n='1'", "n=''", "n=~'1|2', quoted!=''"];
        for name in names {
            for host in hosts {
                for other in others {
                    let parts: Vec<&str> =
                        [name, host, other].into_iter().filter(|part| !part.is_empty()).collect();
                    // Always one that matches something, as the language wants it.
                    let text = format!("{{{}, job=~'.+'}}", parts.join(", "));
                    let matchers = promql::matchers(&text).unwrap();
                    check(&store, &all, Selector { matchers, ..Selector::default() }).await;
                }
            }
        }
    });
}

async fn check(store: &Embedded, all: &[Series], selector: Selector) {
    let sorted = |series: Vec<&Series>| {
        let mut ids: Vec<i64> = series.iter().map(|one| one.id.0).collect();
        ids.sort_unstable();
        ids
    };
    let expected: Vec<&Series> = all.iter().filter(|one| selector.fits(one)).collect();
    let found = store.series(selector.clone()).await.unwrap();
    assert_eq!(sorted(found.iter().collect()), sorted(expected.clone()), "{selector:?}");
    assert!(found.is_sorted_by_key(|one| (&one.hostname, one.agent_id)), "{selector:?}");
    let on_three = selector.clone().on(Some(Host::Name("host-30".into())));
    let on_three = store.series(on_three).await.unwrap().len();
    assert_eq!(on_three, expected.iter().filter(|one| one.hostname == "host-30").count());
    for label in ["__name__", "instance", "job", "n"] {
        let values: BTreeSet<&str> = expected.iter().map(|one| one.label(label)).collect();
        let values: Vec<&str> = values.into_iter().filter(|value| !value.is_empty()).collect();
        let found = store.label_values(label.to_owned(), selector.clone()).await.unwrap();
        assert_eq!(found, values, "{label} {selector:?}");
    }
}

#[test]
fn no_question_by_name_or_instance_reads_every_series() {
    let directory = tempfile::tempdir().unwrap();
    let connection = database::open_writer(directory.path()).unwrap();
    let check = |sql: &str, expected: &str| {
        let plan = format!("EXPLAIN QUERY PLAN {sql}");
        let mut statement = connection.prepare(&plan).unwrap();
        let values = vec![1; statement.parameter_count()];
        let steps: Vec<String> = statement
            .query_map(rusqlite::params_from_iter(values), |row| row.get(3))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let of_series: Vec<&String> = steps
            .iter()
            .filter(|step| step.contains("series_by") || step.contains(" series"))
            .collect();
        assert!(!of_series.is_empty(), "{steps:?}");
        assert!(of_series.iter().all(|step| step.contains(expected)), "{steps:?}");
        assert!(!of_series.iter().any(|step| step.starts_with("SCAN")), "{steps:?}");
    };
    check(&format!("{COLUMNS} WHERE name = ?1"), "series_by_name");
    check(&format!("{COLUMNS} WHERE agent = ?1"), "sqlite_autoindex_series_1 (agent=?)");
    check(&format!("{COLUMNS} WHERE agent = ?1 AND name = ?2"), "(agent=? AND name=?)");
    check(&format!("{COLUMNS} {OF_OWN_INSTANCE}"), "series_by_own_instance (<expr>=?)");
    check(&own_instances_sql(), "series_by_own_instance");
    check(NAMES, "series_by_name");
}
