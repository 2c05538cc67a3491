use proptest::prelude::*;
use wire::{AgentId, MetricKind};

use super::*;
use crate::rules::alert::AlertStates;
use crate::rules::source::Unread;

const STALE_MS: i64 = 300_000;
const NAN: f64 = f64::NAN;

fn rule(keys: &str) -> Rule {
    let base = "name = 'busy'\nmetric = 'node_load1'\nop = '>'\nthreshold = 4\n";
    toml::from_str(&format!("{base}{keys}")).unwrap()
}

fn series(agent: u8) -> SeriesKey {
    SeriesKey {
        agent_id: AgentId::from_bytes([agent; 16]),
        metric: "node_load1".to_owned(),
        labels: BTreeMap::new(),
    }
}

fn data(samples: &[(i64, f64)]) -> SeriesSamples {
    SeriesSamples {
        key: series(1),
        host: "web-1".to_owned(),
        kind: MetricKind::Gauge,
        samples: samples.to_vec(),
    }
}

fn of(series: &[SeriesSamples]) -> Found {
    Found { series: series.to_vec(), ..Found::default() }
}

/// Rules over the time of one series, evaluated as often as asked.
#[derive(Clone, Default)]
struct Watch {
    states: AlertStates,
    samples: Vec<(i64, f64)>,
    /// What is found beside the samples.
    found: Found,
}

impl Watch {
    fn evaluate(&mut self, rule: &Rule, now_ms: i64) -> Vec<Transition> {
        let moment = Moment { now_ms, stale_after_ms: STALE_MS };
        let series = if self.samples.is_empty() { vec![] } else { vec![data(&self.samples)] };
        let found = Found { series, ..self.found.clone() };
        let changes = evaluate(rule, self.states.of(&rule.name), &found, moment);
        let told = changes.iter().filter_map(|change| change.transition.clone()).collect();
        self.states.apply(changes);
        told
    }

    fn state(&self) -> String {
        let Some(alert) = self.states.of("busy").get(&series(1)) else {
            return "inactive".to_owned();
        };
        let unknown = alert.unknown_since_ms.map(|ms| format!(" unknown since {}", ms / 1_000));
        let phase = match &alert.phase {
            Phase::Pending { held_ms } => format!("pending for {}", held_ms / 1_000),
            Phase::Firing(incident) => format!("firing since {}", incident.started_ms / 1_000),
        };
        phase + &unknown.unwrap_or_default()
    }
}

/// What happened, in words.
fn told(transitions: &[Transition]) -> String {
    let words = transitions.iter().map(|transition| match transition {
        Transition::Fired(_) => " FIRED".to_owned(),
        Transition::Resolved(_, end) => {
            format!(" RESOLVED at {} {}", end.ended_ms / 1_000, end.reason.as_str())
        }
    });
    words.collect()
}

/// A sample that arrives (at a time in seconds, or none), the time of evaluation, and what is so
/// afterwards.
type Step<'a> = (Option<(i64, f64)>, i64, &'a str);

/// Takes the steps. Every evaluation is done twice: the second must change nothing.
fn check(keys: &str, steps: &[Step<'_>]) {
    let rule = rule(keys);
    let mut watch = Watch::default();
    for (index, (sample, now_s, expected)) in steps.iter().enumerate() {
        watch.samples.extend(sample.map(|(s, value)| (s * 1_000, value)));
        let transitions = watch.evaluate(&rule, now_s * 1_000);
        let found = watch.state() + &told(&transitions);
        assert_eq!(found, *expected, "step {index} of {steps:?} with {keys:?}");
        let before = watch.states.clone();
        assert_eq!(watch.evaluate(&rule, now_s * 1_000), [], "step {index} again");
        assert_eq!(watch.states, before, "step {index} again");
    }
}

#[test]
fn without_for_it_fires_at_once() {
    check(
        "",
        &[
            (Some((0, 4.0)), 0, "inactive"),
            (Some((10, 5.0)), 11, "firing since 10 FIRED"),
            (Some((20, 6.0)), 21, "firing since 10"),
            (Some((30, 4.0)), 31, "inactive RESOLVED at 30 recovered"),
            (Some((40, 4.1)), 41, "firing since 40 FIRED"),
        ],
    );
}

#[test]
fn for_has_to_pass_in_the_time_of_the_data() {
    check(
        "for = '20s'",
        &[
            (Some((0, 5.0)), 5, "pending for 0"),
            (None, 60, "pending for 0"),
            (Some((10, 5.0)), 61, "pending for 10"),
            (Some((20, 5.0)), 62, "firing since 20 FIRED"),
            (Some((30, 5.0)), 63, "firing since 20"),
        ],
    );
    check(
        "for = '20s'",
        &[
            (Some((0, 5.0)), 1, "pending for 0"),
            (Some((19, 5.0)), 20, "pending for 19"),
            (Some((29, 3.0)), 30, "inactive"),
            (Some((39, 5.0)), 40, "pending for 0"),
            (Some((58, 5.0)), 59, "pending for 19"),
            (Some((59, 5.0)), 60, "firing since 59 FIRED"),
        ],
    );
}

#[test]
fn a_firing_alert_without_data_keeps_firing_and_says_so() {
    check(
        "",
        &[
            (Some((0, 5.0)), 0, "firing since 0 FIRED"),
            (None, 300, "firing since 0"),
            (None, 301, "firing since 0 unknown since 0"),
            (None, 900_000, "firing since 0 unknown since 0"),
            (Some((900_010, 5.0)), 900_011, "firing since 0"),
            (None, 900_400, "firing since 0 unknown since 900010"),
            (Some((900_500, 1.0)), 900_501, "inactive RESOLVED at 900500 recovered"),
        ],
    );
}

#[test]
fn a_pending_alert_without_data_neither_fires_nor_starts_anew() {
    check(
        "for = '60s'",
        &[
            (Some((0, 5.0)), 0, "pending for 0"),
            (Some((50, 5.0)), 50, "pending for 50"),
            (None, 200, "pending for 50"),
            (None, 1_000, "pending for 50 unknown since 50"),
            // What was between is not known: it doesn't count.
            (Some((1_000, 5.0)), 1_001, "pending for 50"),
            (Some((1_010, 5.0)), 1_011, "firing since 1010 FIRED"),
        ],
    );
    check(
        "for = '60s'",
        &[
            (Some((0, 5.0)), 0, "pending for 0"),
            (None, 86_400, "pending for 0 unknown since 0"),
            (None, 86_401, "inactive"),
        ],
    );
}

#[test]
fn data_that_is_already_old_is_not_judged() {
    check(
        "",
        &[
            (Some((0, 9.0)), 1_000, "inactive"),
            (Some((600, 9.0)), 1_000, "inactive"),
            (Some((990, 9.0)), 1_000, "firing since 990 FIRED"),
            // A replay that is still behind doesn't end what newer data began.
            (Some((2_000, 0.0)), 2_301, "firing since 990 unknown since 990"),
            (Some((2_200, 0.0)), 2_302, "inactive RESOLVED at 2200 recovered"),
        ],
    );
}

#[test]
fn a_clock_ahead_is_judged_by_its_own_time() {
    check(
        "for = '10s'",
        &[
            (Some((100, 5.0)), 50, "pending for 0"),
            (Some((110, 5.0)), 60, "firing since 110 FIRED"),
            (Some((120, 1.0)), 70, "inactive RESOLVED at 120 recovered"),
        ],
    );
}

#[test]
fn a_clock_of_ours_that_was_ahead_for_a_moment_leaves_nothing_behind() {
    check(
        "",
        &[
            (Some((0, 5.0)), 0, "firing since 0 FIRED"),
            (None, 9_000, "firing since 0 unknown since 0"),
            (None, 10, "firing since 0"),
        ],
    );
}

#[test]
fn a_time_that_was_judged_is_not_judged_again() {
    let rule = rule("agg = 'min'");
    let mut watch = Watch { samples: vec![(10_000, 5.0)], ..Watch::default() };
    watch.evaluate(&rule, 10_000);
    // It comes late, and would have kept the alert from firing.
    watch.samples.insert(0, (5_000, 1.0));
    assert_eq!(watch.evaluate(&rule, 11_000), []);
    assert_eq!(watch.state(), "firing since 10");
    watch.samples.push((20_000, 5.0));
    assert_eq!(told(&watch.evaluate(&rule, 20_000)), " RESOLVED at 20 recovered");
}

#[test]
fn nan_neither_fires_nor_resolves() {
    check(
        "",
        &[
            (Some((0, NAN)), 0, "inactive"),
            (Some((10, 5.0)), 10, "firing since 10 FIRED"),
            (Some((20, NAN)), 20, "firing since 10"),
            (Some((400, NAN)), 400, "firing since 10 unknown since 10"),
            (Some((410, 1.0)), 410, "inactive RESOLVED at 410 recovered"),
        ],
    );
}

#[test]
fn a_rate_needs_two_samples_and_survives_a_reset() {
    // data() says it is a gauge; a counter is what a rate is for.
    let rule = rule("agg = 'rate'\nwindow = '1m'");
    let check = |samples: &[(i64, f64)], fires: bool| {
        let mut one = data(samples);
        one.kind = MetricKind::Counter;
        let moment = Moment { now_ms: 30_000, stale_after_ms: STALE_MS };
        let changes = evaluate(&rule, &RuleAlerts::new(), &of(&[one]), moment);
        assert_eq!(!changes.is_empty(), fires, "{samples:?}");
    };
    check(&[(0, 1e9)], false);
    check(&[(0, 0.0), (10_000, 50.0)], true);
    check(&[(0, 0.0), (10_000, 40.0)], false);
    check(&[(0, 1e9), (10_000, 30.0)], false);
    check(&[(0, 1e9), (10_000, 50.0)], true);
}

#[test]
fn a_rule_that_looks_elsewhere_ends_what_it_began() {
    let check = |phase_keys: &str, change: &str, expected: &str| {
        let mut watch = Watch { samples: vec![(0, 5.0)], ..Watch::default() };
        watch.evaluate(&rule(phase_keys), 0);
        watch.samples.push((10_000, 5.0));
        let transitions = watch.evaluate(&rule(change), 12_000);
        assert_eq!(watch.state() + &told(&transitions), expected, "{change}");
    };
    check("", "hosts = ['db-*']", "inactive RESOLVED at 12 rule_changed");
    check("", "labels = { a = 'b' }", "inactive RESOLVED at 12 rule_changed");
    check("for = '1h'", "hosts = ['db-*']", "inactive");
    check("", "hosts = ['web-*']", "firing since 0");
}

#[test]
fn a_host_that_is_called_something_else_ends_what_it_began() {
    let check = |keys: &str, expected: &str| {
        let rule = rule(&format!("hosts = ['web-*']\n{keys}"));
        let mut watch = Watch { samples: vec![(0, 5.0)], ..Watch::default() };
        watch.evaluate(&rule, 0);
        watch.samples.clear();
        watch.found.elsewhere.insert(series(2).agent_id, "db-2".to_owned());
        assert_eq!(watch.evaluate(&rule, 10_000), [], "another agent");
        watch.found.elsewhere.insert(series(1).agent_id, "db-1".to_owned());
        let transitions = watch.evaluate(&rule, 12_000);
        assert_eq!(watch.state() + &told(&transitions), expected, "{keys}");
        assert_eq!(watch.evaluate(&rule, 13_000), []);
    };
    check("", "inactive RESOLVED at 12 host_renamed");
    check("for = '1h'", "inactive");
}

#[test]
fn what_cannot_be_read_is_unknown_at_once_and_known_again_with_the_next_sample() {
    let rule = rule("");
    let mut watch = Watch { samples: vec![(0, 5.0)], ..Watch::default() };
    watch.evaluate(&rule, 0);
    let samples = std::mem::take(&mut watch.samples);
    let unread = Unread { host: "web-1".to_owned(), reason: "damaged".to_owned() };
    watch.found.unread.insert(series(1), unread);
    assert_eq!(watch.evaluate(&rule, 1_000), []);
    assert_eq!(watch.state(), "firing since 0 unknown since 0");
    assert_eq!(watch.evaluate(&rule, 2_000), []);
    watch.found.unread.clear();
    watch.samples = samples;
    watch.samples.push((10_000, 5.0));
    assert_eq!(watch.evaluate(&rule, 10_000), []);
    assert_eq!(watch.state(), "firing since 0");
}

#[test]
fn a_rule_that_is_gone_ends_what_it_began() {
    let mut watch = Watch { samples: vec![(0, 5.0)], ..Watch::default() };
    let rule = rule("");
    watch.evaluate(&rule, 0);
    assert_eq!(watch.states.orphans(std::slice::from_ref(&rule), 9_000), []);
    let changes = watch.states.orphans(&[], 9_000);
    let transitions: Vec<_> = changes.iter().filter_map(|c| c.transition.clone()).collect();
    assert_eq!(told(&transitions), " RESOLVED at 9 rule_removed");
    watch.states.apply(changes);
    assert_eq!(watch.state(), "inactive");
}

#[test]
fn series_are_judged_apart_and_told_in_order() {
    let one = |agent: u8, value: f64| SeriesSamples {
        key: series(agent),
        host: format!("web-{agent}"),
        ..data(&[(0, value)])
    };
    let data = [one(3, 9.0), one(2, 1.0), one(1, 9.0)];
    let moment = Moment { now_ms: 0, stale_after_ms: STALE_MS };
    let changes = evaluate(&rule(""), &RuleAlerts::new(), &of(&data), moment);
    let keys: Vec<_> = changes.iter().map(|change| change.series.clone()).collect();
    assert_eq!(keys, [series(1), series(3)]);
    let mut states = AlertStates::default();
    states.apply(changes.clone());
    let later = Moment { now_ms: STALE_MS + 1, ..moment };
    let unknown_and_new = SeriesSamples { samples: vec![(later.now_ms, 9.0)], ..one(2, 0.0) };
    let more = evaluate(&rule(""), states.of("busy"), &of(&[unknown_and_new]), later);
    let keys: Vec<_> = more.iter().map(|change| change.series.clone()).collect();
    assert_eq!(keys, [series(1), series(2), series(3)]);
    let Some(Transition::Fired(incident)) = &changes[1].transition else { panic!("{changes:?}") };
    assert_eq!(incident.host, "web-3");
    assert_eq!(incident.summary, "node_load1 on web-3 is 9, threshold 4");
}

/// Samples as (milliseconds since the one before, value), and how late evaluation is.
fn history() -> impl Strategy<Value = Vec<(i64, f64, i64)>> {
    let value = prop_oneof![3 => Just(5.0), 1 => Just(1.0), 1 => Just(NAN)];
    let gap = prop_oneof![5 => 1_i64..60_000, 1 => 60_000_i64..900_000];
    let late = prop_oneof![3 => 0_i64..30_000, 1 => 0_i64..900_000];
    proptest::collection::vec((gap, value, late), 1..60)
}

proptest! {
    #[test]
    fn it_fires_only_after_for_and_only_on_what_was_seen(history in history(), for_s in 0_i64..300) {
        let rule = rule(&format!("for = '{for_s}s'"));
        let mut watch = Watch::default();
        let (mut t, mut now, mut firing) = (0, 0, false);
        for (gap, value, late) in history {
            t += gap;
            now = now.max(t + late);
            watch.samples.push((t, value));
            for transition in watch.evaluate(&rule, now) {
                match transition {
                    Transition::Fired(incident) => {
                        prop_assert!(!firing);
                        prop_assert!(incident.started_ms - incident.since_ms >= for_s * 1_000);
                        prop_assert!(now - incident.started_ms <= STALE_MS);
                        let between = incident.since_ms..=incident.started_ms;
                        let begins_and_ends = watch.samples.iter().filter(|(t, v)| {
                            (*t == *between.start() || *t == *between.end()) && *v > 4.0
                        });
                        prop_assert_eq!(begins_and_ends.count(), if between.start() == between.end() { 1 } else { 2 });
                        firing = true;
                    }
                    Transition::Resolved(incident, end) => {
                        prop_assert!(firing);
                        prop_assert!(end.ended_ms > incident.started_ms);
                        firing = false;
                    }
                }
            }
            prop_assert_eq!(watch.state().starts_with("firing"), firing);
        }
    }

    #[test]
    fn evaluation_is_deterministic_and_replays_change_nothing(history in history(), for_s in 0_i64..300) {
        let rule = rule(&format!("for = '{for_s}s'"));
        let (mut one, mut other) = (Watch::default(), Watch::default());
        let mut t = 0;
        for (gap, value, late) in history {
            t += gap;
            one.samples.push((t, value));
            other.samples.push((t, value));
            let first = one.evaluate(&rule, t + late);
            prop_assert_eq!(&first, &other.evaluate(&rule, t + late));
            prop_assert_eq!(&one.states, &other.states);
            prop_assert_eq!(one.evaluate(&rule, t + late), vec![]);
            prop_assert_eq!(&one.states, &other.states);
        }
    }

    #[test]
    fn silence_tells_nobody_anything(history in history(), waits in proptest::collection::vec(0_i64..200_000_000, 1..10)) {
        let rule = rule("for = '30s'");
        let mut watch = Watch::default();
        let mut t = 0;
        for (gap, value, _) in history {
            t += gap;
            watch.samples.push((t, value));
            watch.evaluate(&rule, t);
        }
        watch.samples.clear();
        let firing = watch.state().starts_with("firing");
        for wait in waits {
            t += wait;
            prop_assert_eq!(watch.evaluate(&rule, t), vec![]);
            prop_assert_eq!(watch.state().starts_with("firing"), firing);
        }
    }
}
