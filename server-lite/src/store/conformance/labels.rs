//! Which labels, values and metrics there are, as the series have them.

use std::sync::Arc;

use wire::{EncodedSchema, Family, MetricKind, Schema};

use super::{Fake, FakeAgent};
use crate::store::{Selector, Store};

/// Series as agents send them, and as others do: with an instance and a job of their own.
fn schema(help: &str) -> Arc<EncodedSchema> {
    let family =
        |name: &str, kind, help: &str| Family { name: name.into(), kind, help: help.into() };
    let series = |family, labels: &[(&str, &str)]| wire::Series {
        family,
        labels: labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
    };
    EncodedSchema::new(Schema {
        collector: "labels".into(),
        families: vec![
            family("labels_a", MetricKind::Counter, help),
            family("labels_b", MetricKind::Gauge, "B."),
        ],
        series: vec![
            series(0, &[("labels_n", "1")]),
            series(0, &[("labels_n", "2")]),
            series(1, &[("instance", "other:9100"), ("job", "labels")]),
            series(1, &[("instance", "host-20"), ("job", "labels"), ("labels_n", "3")]),
        ],
    })
}

pub(super) async fn run(store: &dyn Store) {
    for (agent, help) in [(20, "A."), (21, "A, by another.")] {
        let schema = schema(help);
        let values = vec![(schema.id, vec![1.0; 4])];
        FakeAgent::new(agent, 1, &[&schema]).send(store, &[Fake::Tick(1, values)]).await;
    }
    series_fit(store).await;
    names_and_values(store).await;
    families(store).await;
}

/// Other tests have series of their own in the same store.
fn selector(matchers: &str) -> Selector {
    let matchers = promql::matchers(&format!("{{__name__=~\"labels_.*\", {matchers}}}")).unwrap();
    Selector { matchers, ..Selector::default() }
}

async fn series_fit(store: &dyn Store) {
    let check = async |matchers: &str, expected: &[&str]| {
        let found = store.series(selector(matchers)).await.unwrap();
        let mut found: Vec<String> = found
            .iter()
            .map(|series| {
                let label = |name| series.label(name);
                [&series.hostname, label("__name__"), label("instance"), label("labels_n")]
                    .join(" ")
            })
            .collect();
        found.sort();
        assert_eq!(found, expected, "{matchers:?}");
    };
    let a = |n: &str| [20, 21].map(|host| format!("host-{host} labels_a host-{host} {n}"));
    let [a1, b1] = a("1");
    let [a2, b2] = a("2");
    check("__name__='labels_a', labels_n!='2'", &[&a1, &b1]).await;
    check("labels_n=~'1|2', instance=~'host-2.*'", &[&a1, &a2, &b1, &b2]).await;
    check("__name__!~'labels_b', instance!='host-21'", &[&a1, &a2]).await;
    check("job='node', labels_n!~'[13]'", &[&a2, &b2]).await;
    let (own, others) = ("host-20 labels_b host-20 3", "host-21 labels_b host-20 3");
    check("instance='host-20'", &[&a1, &a2, own, others]).await;
    check("instance='host-20', job='labels'", &[own, others]).await;
    check(
        "instance='other:9100', labels_n=''",
        &["host-20 labels_b other:9100 ", "host-21 labels_b other:9100 "],
    )
    .await;
    check("job!='node', labels_n='3', instance=~'.*0'", &[own, others]).await;
    check("instance=''", &[]).await;
    let two = Selector { limit: Some(2), ..selector("") };
    assert!((2..=8).contains(&store.series(two).await.unwrap().len()));
}

async fn names_and_values(store: &dyn Store) {
    let names = store.label_names(selector("")).await.unwrap();
    assert_eq!(names, ["__name__", "instance", "job", "labels_n"]);
    let names = store.label_names(selector("labels_n='', job='labels'")).await.unwrap();
    assert_eq!(names, ["__name__", "instance", "job"]);
    let check = async |name: &str, matchers: &str, expected: &[&str]| {
        let found = store.label_values(name.to_owned(), selector(matchers)).await.unwrap();
        assert_eq!(found, expected, "{name} {matchers:?}");
    };
    check("__name__", "", &["labels_a", "labels_b"]).await;
    check("__name__", "job='labels'", &["labels_b"]).await;
    check("instance", "", &["host-20", "host-21", "other:9100"]).await;
    check("instance", "__name__='labels_b'", &["host-20", "other:9100"]).await;
    check("job", "", &["labels", "node"]).await;
    check("labels_n", "", &["1", "2", "3"]).await;
    check("labels_n", "instance='host-21'", &["1", "2"]).await;
    check("nothing", "", &[]).await;
    let everything = store.label_values("labels_n".into(), Selector::default()).await.unwrap();
    assert_eq!(everything, ["1", "2", "3"]);
    let everything = store.label_values("instance".into(), Selector::default()).await.unwrap();
    assert!(everything.contains(&"host-20".into()) && everything.contains(&"other:9100".into()));
}

async fn families(store: &dyn Store) {
    let found = store.families().await.unwrap();
    assert!(found.is_sorted_by(|a, b| a.name <= b.name), "{found:?}");
    let mut found: Vec<_> = found
        .iter()
        .filter(|family| family.name.starts_with("labels_"))
        .map(|family| (family.name.as_str(), family.kind, family.help.as_str()))
        .collect();
    found.sort_by_key(|(name, _, help)| (*name, *help));
    let expected = [
        ("labels_a", MetricKind::Counter, "A, by another."),
        ("labels_a", MetricKind::Counter, "A."),
        ("labels_b", MetricKind::Gauge, "B."),
    ];
    assert_eq!(found, expected);
}
