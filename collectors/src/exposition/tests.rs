use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::testing::kernel_text;

const TEXT: &str = "\
# HELP backup_last_seconds When the last backup ended.\\nUTC.
# TYPE backup_last_seconds gauge
backup_last_seconds{set=\"a \\\"b\\\" \\\\\",host=\"x\",} 1.7e9
backup_last_seconds{host=\"y\", set = \"\"}\t1700000001

#HELP smart Attributes.
# a comment
smart 3
# TYPE latency histogram
latency_bucket{le=\"1.0\"} 2
latency_bucket{le=\"1638400\"} 4
latency_bucket{le=\"+inf\"} 5
latency_sum 12.5
latency_count 5
# TYPE wait summary
# HELP wait Waiting.
wait{quantile=\"0.50\"} NaN
wait_sum 3
wait_count 2
wait_bucket 9
";

/// Families and series, one a line.
fn read(text: &str) -> Result<String, String> {
    let mut shown = String::new();
    for family in parse(text, 100).map_err(|error| error.to_string())? {
        writeln!(shown, "{} {:?} {:?}", family.name, family.kind, family.help).unwrap();
        for sample in family.samples {
            writeln!(shown, "  {:?} {}", sample.labels, sample.value).unwrap();
        }
    }
    Ok(shown)
}

#[test]
fn families_have_their_series() {
    let expected = "\
backup_last_seconds Gauge Some(\"When the last backup ended.\\nUTC.\")
  [(\"host\", \"x\"), (\"set\", \"a \\\"b\\\" \\\\\")] 1700000000
  [(\"host\", \"y\")] 1700000001
smart Untyped Some(\"Attributes.\")
  [] 3
latency_bucket Counter None
  [(\"le\", \"1\")] 2
  [(\"le\", \"1.6384e+06\")] 4
  [(\"le\", \"+Inf\")] 5
latency_sum Counter None
  [] 12.5
latency_count Counter None
  [] 5
wait Gauge Some(\"Waiting.\")
  [(\"quantile\", \"0.5\")] NaN
wait_sum Counter Some(\"Waiting.\")
  [] 3
wait_count Counter Some(\"Waiting.\")
  [] 2
wait_bucket Untyped None
  [] 9
";
    assert_eq!(read(TEXT).unwrap(), expected);
}

#[test]
fn what_says_nothing_is_passed_over() {
    for text in
        ["", "\n", " \t", "#\n", "# HELP\n", "# TYPE a\n", "# HELP a \n", "# EOF\n", "# TYPEa b\n"]
    {
        assert_eq!(read(text), Ok(String::new()), "{text:?}");
    }
    assert_eq!(read("a 1 \n"), Ok("a Untyped None\n  [] 1\n".to_owned()));
    assert_eq!(read("a{} -Inf\n"), Ok("a Untyped None\n  [] -inf\n".to_owned()));
}

#[test]
fn what_is_wrong_is_named() {
    let check = |text: &str, expected: &str| {
        assert_eq!(read(text), Err(expected.to_owned()), "{text:?}");
    };
    check(
        "a 1\nb 2",
        "line 2, end: no line feed at the end of the file: is it still being written?",
    );
    check(
        "a 1 1441205977284\n",
        "line 1, timestamp: a tick has one time: write samples without timestamps",
    );
    check("a 1 x\n", "line 1, value: \"x\" behind it");
    check("a 1\r\n", "line 1, value: \"1\\r\" is not a number");
    check("a\n", "line 1, value: \"\" is not a number");
    check("a 1e999\n", "line 1, value: \"1e999\" is not a number");
    check("9a 1\n", "line 1, metric: not a name, or too long");
    check("-a 1\n", "line 1, metric: not a name, or too long");
    check("a{b=\"c\" d=\"e\"} 1\n", "line 1, labels: no comma or brace behind a label's value");
    check("a{b=\"c\",b=\"d\"} 1\n", "line 1, labels: b twice");
    check("a{b} 1\n", "line 1, labels: no = behind a label's name");
    check("a{b=c} 1\n", "line 1, labels: no quotes around a label's value");
    check("a{b=\"c\\\"} 1\n", "line 1, labels: no quote behind a label's value");
    check("a{b=\"\\d\"} 1\n", "line 1, labels: a backslash before what needs none");
    check("a{1=\"d\"} 1\n", "line 1, labels: not a label's name");
    check("a{__name__=\"d\"} 1\n", "line 1, labels: not a label's name");
    check("# TYPE a-b gauge\n", "line 1, metric: not a name in a comment");
    check(
        "# TYPE a gauges\n",
        "line 1, TYPE: not one of counter, gauge, untyped, summary, histogram",
    );
    check("a 1\n# TYPE a gauge\n", "line 2, TYPE: a has one already, or has samples before it");
    check("# HELP a b\n# HELP a b\n", "line 2, HELP: a has one already");
    check("# HELP a b\\\"\n", "line 1, HELP: a backslash before what needs none");
    check("# TYPE a histogram\na_bucket 1\n", "line 2, bound: no label le");
    check(
        "# TYPE a summary\na{quantile=\"x\"} 1\n",
        "line 2, bound: quantile=\"x\" is not a number",
    );
    let many: String = (0..101).map(|n| format!("a{n} 1\n")).collect();
    check(&many, "line 101, series: more than there may be");
    let many: String = (0..33).map(|n| format!("l{n}=\"1\",")).collect();
    check(&format!("a{{{many}}} 1\n"), "line 1, labels: more than 32");
    check(&format!("{} 1\n", "a".repeat(257)), "line 1, metric: not a name, or too long");
}

#[test]
fn bounds_are_written_as_go_writes_them() {
    let check = |value: f64, expected: &str| assert_eq!(as_go_writes(value), expected);
    check(0.0, "0");
    check(0.005, "0.005");
    check(0.00001, "1e-05");
    check(999_999.0, "999999");
    check(1_000_000.0, "1e+06");
    check(-2.5e-100, "-2.5e-100");
    check(f64::NAN, "NaN");
    check(f64::NEG_INFINITY, "-Inf");
}

proptest! {
    #[test]
    fn any_text_is_refused_or_read(text in kernel_text(TEXT)) {
        if let Ok(families) = parse(&text, 100) {
            for family in families {
                prop_assert!(wire::schema::is_metric_name(&family.name));
                for sample in family.samples {
                    prop_assert!(sample.labels.is_sorted_by(|a, b| a.0 < b.0));
                    prop_assert!(sample.labels.iter().all(|(name, _)| wire::schema::is_label_name(name)));
                }
            }
        }
    }
}
