//! The system's clock, its zone and its source.

use std::time::{SystemTime, UNIX_EPOCH};

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{clocksource::Clocksources, timezone::SystemZone};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "time",
    summary: "The system's time, time zone and clock source.",
    reads: &["clock_gettime(2)", "/etc/localtime", "/sys/devices/system/clocksource"],
    default_enabled: true,
    options: &[],
    build,
};

const SECONDS: Metric<'_> =
    Metric::gauge("node_time_seconds", "System time in seconds since epoch (1970).");
const ZONE_OFFSET: Metric<'_> =
    Metric::gauge("node_time_zone_offset_seconds", "System time zone offset in seconds.");

struct Time {
    /// This collector's subject is the clock itself: it reads it rather than being told.
    now: fn() -> SystemTime,
    zone: SystemZone,
    clocksources: Clocksources,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(Time {
        now: SystemTime::now,
        zone: SystemZone::new(context.roots),
        clocksources: Clocksources::scan(context.roots),
    }))
}

impl Collector for Time {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let now = unix_seconds((self.now)());
        out.push(&SECONDS, &[], now);
        let offset = self.zone.at(now.floor() as i64);
        out.push(&ZONE_OFFSET, &[("time_zone", offset.name)], f64::from(offset.seconds));
        self.clocksources.push(out)
    }
}

/// Negative on a machine whose clock stands before 1970.
fn unix_seconds(time: SystemTime) -> f64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use agent_core::Roots;

    use super::*;

    #[test]
    fn seconds_are_exact_and_signed() {
        let check = |time: SystemTime, expected: f64| assert_eq!(unix_seconds(time), expected);
        check(UNIX_EPOCH, 0.0);
        check(UNIX_EPOCH + Duration::from_millis(1_700_000_000_250), 1_700_000_000.25);
        check(UNIX_EPOCH - Duration::from_millis(1_500), -1.5);
    }

    #[test]
    fn a_bare_machine_still_has_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let roots = Roots { procfs: path.clone(), sysfs: path.clone(), rootfs: path };
        let mut time = Time {
            now: || UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            zone: SystemZone::new(&roots),
            clocksources: Clocksources::scan(&roots),
        };
        let mut out = Samples::new("time");
        time.collect(&mut out).unwrap();
        let (schema, values) = out.finish();
        assert_eq!(values, [1_700_000_000.0, 0.0]);
        assert_eq!(schema.schema.series[1].labels, [("time_zone".into(), "UTC".into())]);
    }
}
