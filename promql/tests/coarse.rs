//! A source that has no longer kept all samples: how far instants look back, and what has no value.

use promql::{Error, Labels, Memory, Query, Sample, Selection, Settings, Source, Value, Visit};

const MINUTE_MS: i64 = 60_000;

/// Up to an hour it has a sample each ten minutes, then one each minute: the minute's number.
struct Coarse(Memory);

impl Source for Coarse {
    fn select(&self, selection: &Selection<'_>, visit: &mut Visit<'_>) -> Result<(), Error> {
        let start_ms = selection.start_ms - 10 * MINUTE_MS;
        self.0.select(&Selection { start_ms, ..*selection }, visit)
    }

    fn resolution_ms(&self, time_ms: i64) -> i64 {
        if time_ms <= 60 * MINUTE_MS { 10 * MINUTE_MS } else { 0 }
    }
}

#[test]
fn instants_look_back_further_and_nothing_is_counted() {
    let mut memory = Memory::default();
    let minutes = (0..60).step_by(10).chain(60..=120);
    let samples = minutes.map(|n| Sample { time_ms: n * MINUTE_MS, value: n as f64 });
    memory.add(Labels::new([("__name__", "m")]), samples);
    let source = Coarse(memory);
    let check = |text: &str, minute: i64, expected: Option<f64>| {
        let query = Query::parse(text).unwrap();
        let settings = Settings::default();
        let found = query.instant(&source, minute * MINUTE_MS, &settings, &|| Ok(())).unwrap();
        let expected = expected.map(|value| {
            let name = if text == "m" { Labels::new([("__name__", "m")]) } else { Labels::empty() };
            (name, value)
        });
        assert_eq!(found, Value::Vector(expected.into_iter().collect()), "{text} at {minute}");
    };
    check("m", 119, Some(119.0));
    check("m", 125, Some(120.0));
    check("m", 126, None);
    check("m", 39, Some(30.0));
    check("avg_over_time(m[20m])", 40, Some(30.0));
    check("rate(m[20m]) * 60", 40, Some(1.0));
    for counted in ["count_over_time", "sum_over_time", "changes", "resets"] {
        check(&format!("{counted}(m[20m])"), 40, None);
        check(&format!("{counted}(m[20m])"), 79, None);
    }
    check("count_over_time(m[19m])", 80, Some(20.0));
    check("count_over_time(m[20m:10m])", 40, Some(3.0));
}
