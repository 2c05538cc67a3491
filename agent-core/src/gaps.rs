//! Gaps of which only the agent knows: between two of its lives, and between two ticks of one.
//!
//! Nothing was recorded in them, so they lose no record: `records` is 0, and `detail` says how many
//! ticks fell out. They begin with the last tick before and end with the first one after. Where the
//! clock was set in between, times mean what the clock said then: a gap may end before it began.
//!
//! | what happened | told as |
//! |---|---|
//! | agent stopped, killed or crashed, host up | `agent_down`, from the last durable tick |
//! | host rebooted, and the agent with it | `host_off`: when the agent ended before the host, nobody saw |
//! | host rebooted, the agent came up later than [`BOOT_MS_MAX`] after it | `host_off` until the host came up, then `agent_down` |
//! | wall clock set | `clock_jump`, from what it would have said to what it said |
//! | wall clock set while the agent was down | `agent_down` by the clock as it was, then `clock_jump` |
//! | host suspended | `host_off`, "suspended" |
//!
//! Where no tick fell out there is no gap.

use settings::Duration;
use wire::{Gap, GapReason, Kind};

use crate::{
    life::Life,
    ticker::{Asleep, Due, JUMP_MS_MIN, Jump},
    wal::OwnedRecord,
};

/// An agent that ticks within this time of its host's coming up came up with it.
pub const BOOT_MS_MAX: i64 = 120_000;
/// Spans up to this are told to the millisecond.
const SPAN_EXACT_MS_MAX: u64 = 10_000;

/// What is missing between two lives, in order; the second is known by its first tick.
#[must_use]
pub fn between(last: &Life, now: &Life) -> Vec<Gap> {
    let gaps = if has_rebooted(last, now) { reboot(last, now) } else { restart(last, now) };
    gaps.into_iter().flatten().collect()
}

/// What is missing between two ticks of one life, in order.
#[must_use]
pub fn before(due: &Due, interval_ms: i64) -> Vec<Gap> {
    let asleep = due.asleep.and_then(|Asleep { from_ms, to_ms, asleep_ms }| {
        let ticks = fallen(from_ms, to_ms, interval_ms)?;
        let detail = format!("suspended for {}: {ticks}", span(asleep_ms));
        Some(gap(GapReason::HostOff, from_ms, to_ms, detail))
    });
    asleep.into_iter().chain(due.jump.map(clock_jump)).collect()
}

/// The record of a gap. Its time is that of the tick that it comes before: with it the agent is known
/// to be back.
#[must_use]
pub fn record(gap: &Gap) -> OwnedRecord {
    let payload = gap.encode();
    OwnedRecord { kind: Kind::Gap, time_ms: gap.to_ms, samples: 0, payload, schemas: Vec::new() }
}

/// Without a boot id on both sides the time when the host came up has to do.
fn has_rebooted(last: &Life, now: &Life) -> bool {
    if last.boot_id.is_empty() || now.boot_id.is_empty() {
        return now.booted_ms.is_some_and(|booted_ms| booted_ms > last.tick_ms);
    }
    last.boot_id != now.boot_id
}

fn restart(last: &Life, now: &Life) -> [Option<Gap>; 2] {
    // The host has been up all the while: if it seems to have come up at another time than before,
    // the wall clock was set. If nobody knows, a clock behind the last tick was set by at least that.
    let set_ms = match (last.booted_ms, now.booted_ms) {
        (Some(then), Some(now)) => now.saturating_sub(then),
        _ => now.tick_ms.saturating_sub(last.tick_ms).min(0),
    };
    let set_ms = if set_ms.abs() >= JUMP_MS_MIN { set_ms } else { 0 };
    let expected_ms = now.tick_ms.saturating_sub(set_ms);
    let down = fallen(last.tick_ms, expected_ms, last.interval_ms.max(now.interval_ms));
    let down = down.map(|ticks| {
        let detail = format!("{ticks}; {}", how_it_ended(last));
        gap(GapReason::AgentDown, last.tick_ms, expected_ms, detail)
    });
    let jump = Jump { expected_ms, found_ms: now.tick_ms };
    [down, (set_ms != 0).then(|| clock_jump(jump))]
}

fn reboot(last: &Life, now: &Life) -> [Option<Gap>; 2] {
    let interval_ms = last.interval_ms.max(now.interval_ms);
    let booted_ms =
        now.booted_ms.filter(|booted_ms| (last.tick_ms..=now.tick_ms).contains(booted_ms));
    let up_ms = booted_ms.map(|booted_ms| now.tick_ms - booted_ms);
    let ended = how_it_ended(last);
    if let (Some(booted_ms), Some(up_ms)) = (booted_ms, up_ms.filter(|up_ms| *up_ms > BOOT_MS_MAX))
    {
        let off = fallen_within(last.tick_ms, booted_ms, interval_ms).map(|ticks| {
            let detail = format!("{ticks} until the host came up again; {ended}");
            gap(GapReason::HostOff, last.tick_ms, booted_ms, detail)
        });
        let down = fallen_within(booted_ms, now.tick_ms, interval_ms).map(|ticks| {
            let detail = format!("{ticks}; the agent was started {} after the host", span(up_ms));
            gap(GapReason::AgentDown, booted_ms, now.tick_ms, detail)
        });
        return [off, down];
    }
    let detail = if now.tick_ms <= last.tick_ms {
        format!("for how long is not known: the clock is behind the last tick; {ended}")
    } else {
        let Some(ticks) = fallen(last.tick_ms, now.tick_ms, interval_ms) else {
            return [None, None];
        };
        let up = up_ms.map(|up_ms| format!("; the host came up {} before", span(up_ms)));
        format!("{ticks}{}; {ended}", up.unwrap_or_default())
    };
    [Some(gap(GapReason::HostOff, last.tick_ms, now.tick_ms, detail)), None]
}

fn how_it_ended(last: &Life) -> String {
    let lost = match last.lost_ticks {
        0 => String::new(),
        lost => format!(", {lost} ticks that the log had refused were lost"),
    };
    let vague = match last.is_vague {
        true => " (the log that knew the last tick is gone: it may have been later)",
        false => "",
    };
    match last.stopped {
        true => format!("the agent had been stopped{lost}"),
        false => format!("the agent had not been stopped: killed, crashed or cut off{vague}"),
    }
}

fn clock_jump(Jump { expected_ms, found_ms }: Jump) -> Gap {
    let by = span(found_ms.saturating_sub(expected_ms).saturating_abs());
    let way = if found_ms < expected_ms { "back" } else { "forward" };
    gap(GapReason::ClockJump, expected_ms, found_ms, format!("set {way} by {by}"))
}

/// What fell out between two ticks that were taken, in words; `None` if nothing did.
fn fallen(from_ms: i64, to_ms: i64, interval_ms: i64) -> Option<String> {
    let interval_ms = interval_ms.max(1);
    in_words(to_ms.saturating_sub(from_ms) / interval_ms - 1, interval_ms)
}

/// What fell out between two times of which one was no tick, as above.
fn fallen_within(from_ms: i64, to_ms: i64, interval_ms: i64) -> Option<String> {
    let interval_ms = interval_ms.max(1);
    in_words((to_ms - 1).div_euclid(interval_ms) - from_ms.div_euclid(interval_ms), interval_ms)
}

fn in_words(ticks: i64, interval_ms: i64) -> Option<String> {
    let many = if ticks == 1 { "" } else { "s" };
    (ticks > 0).then(|| format!("{ticks} tick{many} of {} fell out", span(interval_ms)))
}

/// To the second where milliseconds say nothing.
fn span(ms: i64) -> Duration {
    let ms = ms.unsigned_abs();
    if ms < SPAN_EXACT_MS_MAX { Duration::from_millis(ms) } else { Duration::from_secs(ms / 1_000) }
}

fn gap(reason: GapReason, from_ms: i64, to_ms: i64, detail: String) -> Gap {
    Gap { reason, from_ms, to_ms, first_seq: 0, last_seq: 0, records: 0, samples: 0, detail }
}

#[cfg(test)]
mod tests;
