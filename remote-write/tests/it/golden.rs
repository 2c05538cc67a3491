//! Bytes that were fixed once: an encoder that writes others speaks to nobody.

use remote_write::{Encoder, Family, Label, Metadata, MetricType, Sample, Version, stale};

fn message(version: Version) -> Vec<u8> {
    let mut encoder = Encoder::new(version);
    let name = "node_cpu_seconds_total";
    let labels = [Label::new("__name__", name), Label::new("cpu", "0"), Label::new("mode", "idle")];
    let help = "Seconds the CPUs spent in each mode.";
    let metadata =
        Metadata { kind: MetricType::Counter, help, unit: "seconds", created_ms: Some(1_000) };
    let samples = [Sample::new(1_767_312_000_000, 0.25), Sample::new(1_767_312_010_000, stale())];
    encoder.series(&labels, &samples, &metadata);
    encoder.series(
        &[Label::new("__name__", "up")],
        &[Sample::new(-1, 0.0)],
        &Metadata { kind: MetricType::Gauge, ..Metadata::default() },
    );
    encoder.family(&Family { name, kind: MetricType::Counter, help, unit: "seconds" });
    encoder.finish()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check(version: Version, expected: &[&str]) {
    assert_eq!(hex(&message(version)), expected.concat());
}

#[test]
fn version_1() {
    check(
        Version::V1,
        &[
            "0a600a220a085f5f6e616d655f5f12166e6f64655f6370755f7365636f6e64735f746f74616c0a08",
            "0a036370751201300a0c0a046d6f6465120469646c65121009000000000000d03f10808884e0b733",
            "121009020000000000f07f1090d684e0b7330a1d0a0e0a085f5f6e616d655f5f12027570120b10ff",
            "ffffffffffffffff011a49080112166e6f64655f6370755f7365636f6e64735f746f74616c222453",
            "65636f6e6473207468652043505573207370656e7420696e2065616368206d6f64652e2a07736563",
            "6f6e6473",
        ],
    );
}

#[test]
fn version_2() {
    check(
        Version::V2,
        &[
            "220022085f5f6e616d655f5f22166e6f64655f6370755f7365636f6e64735f746f74616c22036370",
            "7522013022046d6f6465220469646c6522245365636f6e6473207468652043505573207370656e74",
            "20696e2065616368206d6f64652e22077365636f6e6473220275702a3a0a06010203040506121309",
            "000000000000d03f10808884e0b73318e807121309020000000000f07f1090d684e0b73318e8072a",
            "060801180720082a150a020109120b10ffffffffffffffffff012a020802",
        ],
    );
}
