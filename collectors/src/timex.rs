//! How well the kernel's clock is kept: adjtimex(2), which is only asked here and sets nothing.
//!
//! Units are converted as adjtimex(2) says: time in micro- or nanoseconds, depending on a bit of the
//! status; frequencies in ppm with 16 bits behind the point.

use std::io;

use adjtimex::{Reading, STA_NANO, TIME_ERROR};
use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "timex",
    summary: "Whether the system's clock is synchronised, how far it may be off and how it is steered.",
    reads: &["adjtimex(2)"],
    default_enabled: true,
    options: &[],
    build,
};

const SYNC_STATUS: Metric<'_> = Metric::gauge(
    "node_timex_sync_status",
    "Is clock synchronized to a reliable server (1 = yes, 0 = no).",
);
const OFFSET: Metric<'_> = Metric::gauge(
    "node_timex_offset_seconds",
    "Time offset in between local system and reference clock.",
);
const FREQUENCY: Metric<'_> =
    Metric::gauge("node_timex_frequency_adjustment_ratio", "Local clock frequency adjustment.");
const MAX_ERROR: Metric<'_> =
    Metric::gauge("node_timex_maxerror_seconds", "Maximum error in seconds.");
const ESTIMATED_ERROR: Metric<'_> =
    Metric::gauge("node_timex_estimated_error_seconds", "Estimated error in seconds.");
const STATUS: Metric<'_> = Metric::gauge("node_timex_status", "Value of the status array bits.");
const CONSTANT: Metric<'_> =
    Metric::gauge("node_timex_loop_time_constant", "Phase-locked loop time constant.");
const TICK: Metric<'_> = Metric::gauge("node_timex_tick_seconds", "Seconds between clock ticks.");
const PPS_FREQUENCY: Metric<'_> =
    Metric::gauge("node_timex_pps_frequency_hertz", "Pulse per second frequency.");
const PPS_JITTER: Metric<'_> =
    Metric::gauge("node_timex_pps_jitter_seconds", "Pulse per second jitter.");
const PPS_SHIFT: Metric<'_> =
    Metric::gauge("node_timex_pps_shift_seconds", "Pulse per second interval duration.");
const PPS_STABILITY: Metric<'_> = Metric::gauge(
    "node_timex_pps_stability_hertz",
    "Pulse per second stability, average of recent frequency changes.",
);
const PPS_JITTERS: Metric<'_> = Metric::counter(
    "node_timex_pps_jitter_total",
    "Pulse per second count of jitter limit exceeded events.",
);
const PPS_CALIBRATIONS: Metric<'_> = Metric::counter(
    "node_timex_pps_calibration_total",
    "Pulse per second count of calibration intervals.",
);
const PPS_ERRORS: Metric<'_> =
    Metric::counter("node_timex_pps_error_total", "Pulse per second count of calibration errors.");
const PPS_WANDERINGS: Metric<'_> = Metric::counter(
    "node_timex_pps_stability_exceeded_total",
    "Pulse per second count of stability limit exceeded events.",
);
const TAI_OFFSET: Metric<'_> =
    Metric::gauge("node_timex_tai_offset_seconds", "International Atomic Time (TAI) offset.");

const MICROSECONDS: f64 = 1e6;
const NANOSECONDS: f64 = 1e9;
/// One part in a million, with 16 bits behind the point.
const PPM: f64 = 1e6 * 65_536.0;

struct Timex {
    ask: fn() -> io::Result<Reading>,
}

fn build(_: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(Timex { ask: adjtimex::read }))
}

impl Collector for Timex {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        // as with a file: a filter of system calls that refuses it is no failure at every tick
        let reading =
            (self.ask)().map_err(|error| CollectError::from_io("adjtimex".as_ref(), &error))?;
        push(&reading, out);
        Ok(())
    }
}

fn push(reading: &Reading, out: &mut Samples) {
    let time = if reading.status & STA_NANO == 0 { MICROSECONDS } else { NANOSECONDS };
    let values = [
        (&SYNC_STATUS, f64::from(u8::from(reading.state != TIME_ERROR))),
        (&OFFSET, reading.offset as f64 / time),
        (&FREQUENCY, 1.0 + reading.freq as f64 / PPM),
        (&MAX_ERROR, reading.maxerror as f64 / MICROSECONDS),
        (&ESTIMATED_ERROR, reading.esterror as f64 / MICROSECONDS),
        (&STATUS, f64::from(reading.status)),
        (&CONSTANT, reading.constant as f64),
        (&TICK, reading.tick as f64 / MICROSECONDS),
        (&PPS_FREQUENCY, reading.ppsfreq as f64 / PPM),
        (&PPS_JITTER, reading.jitter as f64 / time),
        (&PPS_SHIFT, f64::from(reading.shift)),
        (&PPS_STABILITY, reading.stabil as f64 / PPM),
        (&PPS_JITTERS, reading.jitcnt as f64),
        (&PPS_CALIBRATIONS, reading.calcnt as f64),
        (&PPS_ERRORS, reading.errcnt as f64),
        (&PPS_WANDERINGS, reading.stbcnt as f64),
        (&TAI_OFFSET, f64::from(reading.tai)),
    ];
    for (metric, value) in values {
        out.push(metric, &[], value);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A clock that is kept well, by a pulse per second.
    const KEPT: Reading = Reading {
        state: 0,
        offset: -250_000,
        freq: 65_536 * 12,
        maxerror: 1_500_000,
        esterror: 250,
        status: STA_NANO | 1,
        constant: 7,
        tick: 10_000,
        ppsfreq: -32_768,
        jitter: 500,
        shift: 4,
        stabil: 65_536,
        jitcnt: 1,
        calcnt: 2,
        errcnt: 3,
        stbcnt: 4,
        tai: 37,
    };

    fn values(reading: &Reading) -> BTreeMap<String, f64> {
        let mut out = Samples::new("timex");
        push(reading, &mut out);
        let (schema, values) = out.finish();
        let names = schema.schema.iter().map(|(family, _)| family.name.clone());
        names.zip(values.iter().copied()).collect()
    }

    #[test]
    fn units_are_seconds_and_ratios() {
        let check = |reading: Reading, expected: &[(&str, f64)]| {
            let values = values(&reading);
            assert_eq!(values.len(), 17);
            for (name, expected) in expected {
                assert_eq!(values[&format!("node_timex_{name}")], *expected, "{name} {reading:?}");
            }
        };
        let everywhere = [
            ("frequency_adjustment_ratio", 1.000_012),
            ("maxerror_seconds", 1.5),
            ("estimated_error_seconds", 0.000_25),
            ("loop_time_constant", 7.0),
            ("tick_seconds", 0.01),
            ("pps_frequency_hertz", -0.000_000_5),
            ("pps_shift_seconds", 4.0),
            ("pps_stability_hertz", 0.000_001),
            ("pps_jitter_total", 1.0),
            ("pps_calibration_total", 2.0),
            ("pps_error_total", 3.0),
            ("pps_stability_exceeded_total", 4.0),
            ("tai_offset_seconds", 37.0),
        ];
        check(KEPT, &everywhere);
        let nanoseconds = [
            ("offset_seconds", -0.000_25),
            ("pps_jitter_seconds", 0.000_000_5),
            ("status", 8193.0),
            ("sync_status", 1.0),
        ];
        check(KEPT, &nanoseconds);
        let micro = Reading { status: 0x41, state: TIME_ERROR, ..KEPT };
        check(micro, &everywhere);
        let microseconds = [
            ("offset_seconds", -0.25),
            ("pps_jitter_seconds", 0.000_5),
            ("status", 65.0),
            ("sync_status", 0.0),
        ];
        check(micro, &microseconds);
        // a leap second to come is no error
        check(Reading { state: 1, ..KEPT }, &[("sync_status", 1.0)]);
    }

    #[test]
    fn a_refused_call_is_no_failure() {
        let check = |ask, expected: &str| {
            let answer = Timex { ask }.collect(&mut Samples::new("timex"));
            assert_eq!(answer.unwrap_err().to_string(), expected);
        };
        check(
            || Err(io::ErrorKind::PermissionDenied.into()),
            "may not be read: adjtimex: permission denied",
        );
        check(|| Err(io::ErrorKind::InvalidInput.into()), "adjtimex: invalid input parameter");
        let answer = Timex { ask: || Ok(KEPT) }.collect(&mut Samples::new("timex"));
        assert!(answer.is_ok());
    }
}
