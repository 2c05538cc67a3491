//! What ends a query, and what a source is asked for.

use std::cell::Cell;

use promql::{
    Error, Interrupt, Labels, Limits, Memory, Query, Sample, Selection, Settings, Source, Steps,
    Value, Visit,
};

/// Twenty series of a hundred samples, one a minute.
fn memory() -> Memory {
    let mut memory = Memory::default();
    for series in 0..20 {
        let labels = Labels::new([("__name__", "m".to_owned()), ("n", series.to_string())]);
        let samples = (0..100).map(|step| Sample { time_ms: step * 60_000, value: 1.0 });
        memory.add(labels, samples);
    }
    memory
}

fn go_on() -> Result<(), Error> {
    Ok(())
}

fn instant(text: &str, limits: Limits, interrupt: &Interrupt<'_>) -> Result<Value, Error> {
    let settings = Settings { limits, ..Settings::default() };
    Query::parse(text)?.instant(&memory(), 3_600_000, &settings, interrupt)
}

fn range(text: &str, steps: Steps, limits: Limits) -> Result<usize, Error> {
    let settings = Settings { limits, ..Settings::default() };
    let series = Query::parse(text)?.range(&memory(), steps, &settings, &go_on)?;
    Ok(series.into_iter().map(|series| series.samples.len()).sum())
}

const HOUR: Steps = Steps { start_ms: 0, end_ms: 3_600_000, step_ms: 60_000 };

#[test]
fn too_many_samples_are_refused() {
    let check = |text: &str, samples_max: usize, fits: bool| {
        let limits = Limits { samples_max, ..Limits::default() };
        let found = instant(text, limits, &go_on);
        match found {
            Ok(_) => assert!(fits, "{text} within {samples_max}"),
            Err(error) => {
                let message =
                    "query processing would load too many samples into memory in query execution";
                assert_eq!(error.to_string(), message);
                assert!(!fits, "{text} within {samples_max}");
            }
        }
    };
    check("sum(m)", 1_000, true);
    check("sum(m)", 10, false);
    check("count_over_time(m[30m])", 1_000, true);
    check("count_over_time(m[30m])", 500, false);
    // refused before the memory for its steps is taken
    check("sum_over_time(vector(1)[1000y:1ms])", 50_000_000, false);
    check("sum_over_time(m[1000y:1ms])", 50_000_000, false);
    check("sum_over_time(vector(time() + time() + time())[1h:1s])", 50_000, true);
    check("sum_over_time(vector(time() + time() + time())[1h:1s])", 15_000, false);
}

#[test]
fn too_many_series_are_refused() {
    let limits = |series_max| Limits { series_max, ..Limits::default() };
    assert!(instant("sum(m)", limits(20), &go_on).is_ok());
    assert!(matches!(instant("sum(m)", limits(19), &go_on), Err(Error::TooLarge(_))));
    assert!(matches!(instant("rate(m[5m])", limits(19), &go_on), Err(Error::TooLarge(_))));
}

#[test]
fn too_many_steps_are_refused() {
    let limits = Limits { steps_max: 61, ..Limits::default() };
    assert_eq!(range("m", HOUR, limits), Ok(20 * 61));
    let error = range("m", Steps { step_ms: 59_000, ..HOUR }, limits).unwrap_err();
    let message = "exceeded maximum resolution of 61 points per timeseries. \
                   Try decreasing the query resolution (?step=XX)";
    assert_eq!(error.to_string(), message);
}

#[test]
fn a_query_ends_when_it_is_told_to() {
    let check = |wanted: Error, message: &str| {
        let found = instant("sum(m)", Limits::default(), &|| Err(wanted.clone())).unwrap_err();
        assert_eq!(found.to_string(), message);
    };
    check(Error::Timeout, "query timed out in expression evaluation");
    check(Error::Canceled, "query was canceled in expression evaluation");
}

#[test]
fn the_interrupt_is_asked_while_a_query_runs() {
    let asked = Cell::new(0);
    let interrupt = || {
        asked.set(asked.get() + 1);
        if asked.get() > 3 { Err(Error::Timeout) } else { Ok(()) }
    };
    let text = "sum_over_time(m[1h:10s])";
    assert_eq!(instant(text, Limits::default(), &interrupt), Err(Error::Timeout));
}

/// Remembers what it was asked for.
struct Asked(Cell<(i64, i64)>);

impl Source for Asked {
    fn select(&self, selection: &Selection<'_>, _: &mut Visit<'_>) -> Result<(), Error> {
        self.0.set((selection.start_ms, selection.end_ms));
        Ok(())
    }
}

#[test]
fn a_source_is_asked_only_for_what_is_needed() {
    let minute = 60_000;
    let check = |text: &str, expected: (i64, i64)| {
        let source = Asked(Cell::default());
        let steps = Steps { start_ms: 60 * minute, end_ms: 90 * minute, step_ms: minute };
        let query = Query::parse(text).unwrap();
        query.range(&source, steps, &Settings::default(), &go_on).unwrap();
        let (start_ms, end_ms) = source.0.get();
        assert_eq!((start_ms / minute, end_ms / minute), expected, "{text}");
    };
    check("m", (55, 90));
    check("m offset 10m", (45, 80));
    check("m @ 600", (5, 10));
    check("m @ start()", (55, 60));
    check("m @ end()", (85, 90));
    check("rate(m[20m])", (40, 90));
    check("rate(m[20m] offset 10m)", (30, 80));
    check("rate(m[20m] @ end())", (70, 90));
    check("max_over_time(m[20m:1m])", (35, 90));
    check("max_over_time(rate(m[5m])[20m:1m])", (35, 90));
    check("max_over_time((m @ start())[20m:1m])", (55, 60));
}

/// Shows all samples of a series, whatever time was asked for.
struct Whole(Memory);

impl Source for Whole {
    fn select(&self, selection: &Selection<'_>, visit: &mut Visit<'_>) -> Result<(), Error> {
        let all = Selection { start_ms: 0, end_ms: i64::MAX, ..*selection };
        self.0.select(&all, visit)
    }
}

#[test]
fn a_source_may_show_more_than_was_asked_for() {
    let whole = Whole(memory());
    for text in
        ["m", "rate(m[20m] offset 5m)", "max_over_time(m[7m:2m])", "m @ 600", "timestamp(m)"]
    {
        let query = Query::parse(text).unwrap();
        let found = query.range(&whole, HOUR, &Settings::default(), &go_on);
        let expected = query.range(&memory(), HOUR, &Settings::default(), &go_on);
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn a_source_that_fails_ends_the_query() {
    struct Broken;
    impl Source for Broken {
        fn select(&self, _: &Selection<'_>, _: &mut Visit<'_>) -> Result<(), Error> {
            Err(Error::Source("disk gone".to_owned()))
        }
    }
    let query = Query::parse("sum(m)").unwrap();
    let found = query.instant(&Broken, 0, &Settings::default(), &go_on);
    assert_eq!(found.unwrap_err().to_string(), "expanding series: disk gone");
}

#[test]
fn labels_and_their_values() {
    let selection = Selection { matchers: &[], start_ms: 0, end_ms: 60_000 };
    let memory = memory();
    assert_eq!(memory.label_names(&selection).unwrap(), ["__name__", "n"]);
    assert_eq!(memory.label_values("__name__", &selection).unwrap(), ["m"]);
    assert_eq!(memory.label_values("n", &selection).unwrap().len(), 20);
    assert!(memory.label_values("none", &selection).unwrap().is_empty());
    let later = Selection { start_ms: 1 << 40, end_ms: 1 << 41, ..selection };
    assert!(memory.label_names(&later).unwrap().is_empty());
}

#[test]
fn what_is_no_query_is_refused() {
    let check = |text: &str, expected: &str| {
        let error = Query::parse(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    };
    check("", "parse error: no expression found in input");
    check("sum(", "parse error: ");
    check("m[1e30]", "parse error: ");
    check("m offset 1e30", "parse error: ");
    check("m[100000000000y]", "parse error: ");
    check("m[0s]", "parse error: ");
    check("m{l=~\"(\"}", "parse error: illegal regex");
    check(
        "{l=~\".*\"}",
        "parse error: vector selector must contain at least one non-empty matcher",
    );
    check("m + fill(0) m", "fill of a vector match is not supported");
    check("m{a=\"1\" or b=\"2\"}", "`or` between label matchers is not supported");
    check("info(m)", "function \"info\" is not supported");
    check("histogram_sum(m)", "function \"histogram_sum\" on native histograms is not supported");
    check("sort_by_label(m, \"l\")", "function \"sort_by_label\" is not supported");
    check(&"(".repeat(100_000), "parse error: query ");
    check(&format!("{}1", "-".repeat(10_000)), "parse error: query ");
}

#[test]
fn the_deepest_query_fits_a_small_stack() {
    let deepest = format!("{}m{}", "(-".repeat(240), ")".repeat(240));
    let widest = vec!["m"; 480].join(" or ");
    let sums = format!("{}m{}", "sum(abs(".repeat(240), "))".repeat(240));
    for text in [deepest, widest, sums] {
        let run = move || instant(&text, Limits::default(), &go_on).map(|_| ());
        let thread = std::thread::Builder::new().stack_size(2 << 20);
        thread.spawn(run).unwrap().join().unwrap().unwrap();
    }
}

#[test]
fn times_out_of_range_are_refused() {
    let query = Query::parse("m").unwrap();
    let settings = Settings::default();
    assert!(query.instant(&memory(), i64::MAX, &settings, &go_on).is_err());
    assert!(query.instant(&memory(), i64::MIN, &settings, &go_on).is_err());
    let steps = |start_ms, end_ms, step_ms| Steps { start_ms, end_ms, step_ms };
    let ask = |steps| query.range(&memory(), steps, &settings, &go_on);
    assert!(ask(steps(0, 1, 0)).is_err());
    assert!(ask(steps(0, 1, -1)).is_err());
    assert!(ask(steps(i64::MIN, i64::MAX, 1)).is_err());
    assert!(ask(steps(2, 1, 1)).unwrap().is_empty());
    let text = Query::parse("\"text\"").unwrap().range(&memory(), HOUR, &settings, &go_on);
    let message = "parse error: invalid expression type \"string\" for range query, must be Scalar or \
                   instant Vector";
    assert_eq!(text.unwrap_err().to_string(), message);
}
