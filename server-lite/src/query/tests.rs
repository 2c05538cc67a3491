use super::*;
use crate::store::{
    Embedded,
    conformance::{FakeAgent, START_MS, schema, tick, time_of, value_of},
    embedded::Options,
};

const LIMITS: QueryLimits = QueryLimits { series: 10, points: 1_000 };

fn query() -> BucketQuery {
    BucketQuery {
        selector: Selector::metric("m"),
        from_ms: START_MS,
        to_ms: time_of(100),
        step_ms: 60_000,
        aggregation: Aggregation::Avg,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn series_become_points() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(&Options::new(directory.path())).unwrap();
    let schema = schema("m", 2);
    for agent in [1, 2] {
        let ticks: Vec<_> = (1..=20).map(|seq| tick(seq, &schema)).collect();
        FakeAgent::new(agent, 1, &[&schema]).send(&store, &ticks).await;
    }
    let found = buckets(&store, &query(), LIMITS).await.unwrap();
    let names: Vec<_> =
        found.series.iter().map(|s| (s.host.as_str(), s.labels["n"].as_str())).collect();
    assert_eq!(names, [("host-1", "0"), ("host-1", "1"), ("host-2", "0"), ("host-2", "1")]);
    let bucket = |seq: u64| time_of(seq).div_euclid(60_000) * 60_000;
    let expected: Vec<Point> = [bucket(1), bucket(7), bucket(13), bucket(19)]
        .into_iter()
        .map(|start| {
            let inside: Vec<f64> =
                (1..=20).filter(|seq| bucket(*seq) == start).map(|seq| value_of(seq, 1)).collect();
            Point(start, inside.iter().sum::<f64>() / inside.len() as f64)
        })
        .collect();
    assert_eq!(found.series[1].points, expected);
    let rate = BucketQuery { aggregation: Aggregation::Rate, from_ms: time_of(10), ..query() };
    let found = buckets(&store, &rate, LIMITS).await.unwrap();
    assert!((found.series[0].points[0].1 - 0.1).abs() < 1e-12, "counted from before `from`");
    let none = BucketQuery { from_ms: time_of(50), ..query() };
    assert_eq!(buckets(&store, &none, LIMITS).await.unwrap(), Buckets::default());
    let few = QueryLimits { series: 3, ..LIMITS };
    let error = buckets(&store, &query(), few).await.unwrap_err().to_string();
    assert!(error.contains("4 series fit, at most 3"), "{error}");
}

#[test]
fn what_is_too_much_is_refused() {
    let check = |query: BucketQuery, expected: &str| {
        let error = points_per_series(&query).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(BucketQuery { step_ms: 0, ..query() }, "step");
    check(BucketQuery { to_ms: START_MS, ..query() }, "from must lie before to");
    check(BucketQuery { from_ms: i64::MIN, to_ms: i64::MAX, ..query() }, "points a series");
    check(BucketQuery { step_ms: 1, ..query() }, "1000001 points a series, at most 11000");
    assert!(check_size(2, 500, LIMITS).is_ok());
    assert!(check_size(3, 500, LIMITS).is_err());
}
