use super::*;
use crate::clock::Moment;

const S: i64 = 1_000;
const MINUTE: i64 = 60 * S;
const HOUR: i64 = 60 * MINUTE;
/// When the host of the tests came up.
const BOOTED: i64 = 1_700_000_000_000;
/// The last tick of the last life.
const LAST: i64 = BOOTED + HOUR;

/// The life before, as it is found: killed, 10 seconds between two ticks.
fn last() -> Life {
    Life {
        boot_id: "a".to_owned(),
        booted_ms: Some(BOOTED),
        interval_ms: 10 * S,
        tick_ms: LAST,
        ..Life::default()
    }
}

/// A life on the same boot, whose first tick is so much later than the last of the one before.
fn after(ms: i64) -> Life {
    Life { tick_ms: LAST + ms, ..last() }
}

/// A life on another boot, which began so much later than the last tick.
fn rebooted(booted_ms: i64, tick_ms: i64) -> Life {
    Life { boot_id: "b".to_owned(), booted_ms: Some(LAST + booted_ms), ..after(tick_ms) }
}

/// Each gap as its reason, its times after the last tick, and its detail.
fn check(last: &Life, now: &Life, expected: &[(GapReason, i64, i64, &str)]) {
    let gaps = between(last, now);
    let found: Vec<_> = gaps
        .iter()
        .map(|gap| (gap.reason, gap.from_ms - LAST, gap.to_ms - LAST, gap.detail.as_str()))
        .collect();
    assert_eq!(found, expected);
    for gap in &gaps {
        assert_eq!((gap.records, gap.samples, gap.first_seq, gap.last_seq), (0, 0, 0, 0));
        assert_eq!(Gap::decode(&record(gap).payload).as_ref(), Ok(gap));
        assert_eq!(record(gap).time_ms, gap.to_ms);
    }
}

const KILLED: &str = "the agent had not been stopped: killed, crashed or cut off";

#[test]
fn the_agent_was_down() {
    use GapReason::AgentDown;
    check(&last(), &after(10 * S), &[]);
    check(&last(), &after(0), &[]);
    let detail = format!("1 tick of 10s fell out; {KILLED}");
    check(&last(), &after(20 * S), &[(AgentDown, 0, 20 * S, &detail)]);
    let detail = format!("719 ticks of 10s fell out; {KILLED}");
    check(&last(), &after(2 * HOUR), &[(AgentDown, 0, 2 * HOUR, &detail)]);

    let stopped = Life { stopped: true, ..last() };
    let detail = "5 ticks of 10s fell out; the agent had been stopped";
    check(&stopped, &after(MINUTE), &[(AgentDown, 0, MINUTE, detail)]);
    let full = Life { lost_ticks: 4, ..stopped };
    let detail = "5 ticks of 10s fell out; the agent had been stopped, 4 ticks that the log had \
                  refused were lost";
    check(&full, &after(MINUTE), &[(AgentDown, 0, MINUTE, detail)]);
    let vague = Life { is_vague: true, ..last() };
    let detail = format!(
        "5 ticks of 10s fell out; {KILLED} (the log that knew the last tick is gone: it may have \
         been later)"
    );
    check(&vague, &after(MINUTE), &[(AgentDown, 0, MINUTE, &detail)]);
}

#[test]
fn another_interval_makes_no_gap_of_a_quick_restart() {
    let every = |interval_ms, life| Life { interval_ms, ..life };
    check(&every(MINUTE, last()), &after(90 * S), &[]);
    check(&last(), &every(MINUTE, after(90 * S)), &[]);
    let detail = format!("1 tick of 1m fell out; {KILLED}");
    let expected = [(GapReason::AgentDown, 0, 120 * S, detail.as_str())];
    check(&every(MINUTE, last()), &after(120 * S), &expected);
}

#[test]
fn the_host_was_off() {
    use GapReason::HostOff;
    let detail = format!("29 ticks of 10s fell out; the host came up 10s before; {KILLED}");
    check(&last(), &rebooted(290 * S, 300 * S), &[(HostOff, 0, 300 * S, &detail)]);
    let stopped = Life { stopped: true, ..last() };
    let detail =
        "359 ticks of 10s fell out; the host came up 2m before; the agent had been stopped";
    check(&stopped, &rebooted(58 * MINUTE, HOUR), &[(HostOff, 0, HOUR, detail)]);
    // So quick that no tick fell out.
    check(&last(), &rebooted(5 * S, 10 * S), &[]);
}

#[test]
fn an_agent_that_comes_up_long_after_its_host_was_down_too() {
    use GapReason::{AgentDown, HostOff};
    let off = format!("29 ticks of 10s fell out until the host came up again; {KILLED}");
    let down = "330 ticks of 10s fell out; the agent was started 55m10s after the host";
    let expected = [(HostOff, 0, 300 * S, off.as_str()), (AgentDown, 300 * S, 3_610 * S, down)];
    check(&last(), &rebooted(300 * S, 3_610 * S), &expected);
    // The host was off for less than a tick.
    let down = "359 ticks of 10s fell out; the agent was started 59m55s after the host";
    check(&last(), &rebooted(5 * S, HOUR), &[(AgentDown, 5 * S, HOUR, down)]);
}

#[test]
fn a_host_without_a_clock_of_its_own() {
    use GapReason::{ClockJump, HostOff};
    // It comes up in 1970; that it rebooted is certain, for how long it was off is not.
    let now = Life { booted_ms: Some(0), tick_ms: 20 * S, ..rebooted(0, 0) };
    let detail = format!("for how long is not known: the clock is behind the last tick; {KILLED}");
    check(&last(), &now, &[(HostOff, 0, 20 * S - LAST, &detail)]);
    // It comes up with a clock that lies between: when it came up isn't known.
    let now = Life { booted_ms: Some(BOOTED), ..rebooted(0, HOUR) };
    let detail = format!("359 ticks of 10s fell out; {KILLED}");
    check(&last(), &now, &[(HostOff, 0, HOUR, &detail)]);
    // Then its clock is set.
    let moment = Moment::default();
    let jump = Some(Jump { expected_ms: 25 * S, found_ms: LAST + HOUR });
    let due = Due { time_ms: LAST + HOUR, moment, missed: 0, asleep: None, jump };
    let gaps = before(&due, 10 * S);
    let found: Vec<_> = gaps.iter().map(|gap| (gap.reason, gap.from_ms, gap.to_ms)).collect();
    assert_eq!(found, [(ClockJump, 25 * S, LAST + HOUR)]);
}

#[test]
fn without_a_boot_id_the_time_of_the_boot_has_to_do() {
    use GapReason::{AgentDown, ClockJump, HostOff};
    let nameless = |life| Life { boot_id: String::new(), ..life };
    let detail = format!("29 ticks of 10s fell out; the host came up 10s before; {KILLED}");
    let off = [(HostOff, 0, 300 * S, detail.as_str())];
    check(&nameless(last()), &rebooted(290 * S, 300 * S), &off);
    check(&last(), &nameless(rebooted(290 * S, 300 * S)), &off);
    // As an older version left it: only the log knows the last tick.
    let unknown = Life { booted_ms: None, interval_ms: 0, ..nameless(last()) };
    check(&unknown, &rebooted(290 * S, 300 * S), &off);
    let detail = format!("29 ticks of 10s fell out; {KILLED}");
    check(&unknown, &after(300 * S), &[(AgentDown, 0, 300 * S, &detail)]);
    check(&unknown, &after(-HOUR), &[(ClockJump, 0, -HOUR, "set back by 1h")]);
}

#[test]
fn the_clock_was_set_while_the_agent_was_down() {
    use GapReason::{AgentDown, ClockJump};
    let set = |by_ms: i64, life: Life| Life {
        booted_ms: life.booted_ms.map(|booted_ms| booted_ms + by_ms),
        tick_ms: life.tick_ms + by_ms,
        ..life
    };
    let down = format!("29 ticks of 10s fell out; {KILLED}");
    let both = |by_ms, how| {
        [(AgentDown, 0, 300 * S, down.as_str()), (ClockJump, 300 * S, 300 * S + by_ms, how)]
    };
    check(&last(), &set(-HOUR, after(300 * S)), &both(-HOUR, "set back by 1h"));
    check(&last(), &set(HOUR, after(300 * S)), &both(HOUR, "set forward by 1h"));
    check(&last(), &set(499, after(300 * S)), &[(AgentDown, 0, 300 * S + 499, &down)]);
    // A quick restart, and a clock that was set: no tick fell out.
    let jump = [(ClockJump, 10 * S, 9_500, "set back by 500ms")];
    check(&last(), &set(-500, after(10 * S)), &jump);
}

#[test]
fn the_host_slept_and_the_clock_was_set() {
    let asleep = Asleep { from_ms: 0, to_ms: HOUR, asleep_ms: 3_595 * S };
    let jump = Jump { expected_ms: HOUR, found_ms: HOUR + 1_234 };
    let due = Due {
        time_ms: HOUR,
        moment: Moment::default(),
        missed: 0,
        asleep: Some(asleep),
        jump: Some(jump),
    };
    let found: Vec<_> = before(&due, 10 * S)
        .into_iter()
        .map(|gap| (gap.reason, gap.from_ms, gap.to_ms, gap.detail))
        .collect();
    let detail = "suspended for 59m55s: 359 ticks of 10s fell out".to_owned();
    let asleep = (GapReason::HostOff, 0, HOUR, detail);
    let jump = (GapReason::ClockJump, HOUR, HOUR + 1_234, "set forward by 1s234ms".to_owned());
    assert_eq!(found, [asleep, jump]);
    assert!(before(&Due { asleep: None, jump: None, ..due }, 10 * S).is_empty());
}
