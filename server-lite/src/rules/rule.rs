//! What a rule is, as it is written and as it is used.
//!
//! ```toml
//! [[rules]]
//! name = "cpu_busy"              # unique
//! metric = "node_load1"
//! labels = { job = "batch" }     # exact; an empty value asks for a label that isn't there
//! hosts = ["web-*", "db-0?"]     # default: every host
//! agg = "avg"                    # avg, min, max, last or rate; default last
//! window = "1m"                  # default 1m, for a rate 5m
//! op = ">"                       # > >= < <= == !=
//! threshold = 4.0
//! for = "2m"                     # default 0s
//! severity = "warning"           # any text; default warning
//! summary = "load of {host} is {value}"
//! ```
//!
//! A rule is parsed into what evaluation needs; what can't be meant is refused with the words that
//! would be right, and everything after that can rely on it.

use serde::{Deserialize, Serialize};
use settings::Duration;
use wire::limits::NAME_BYTES_MAX;

use super::{
    aggregate::Aggregation,
    alert::{Labels, SeriesKey},
    pattern::HostPattern,
    summary::Summary,
};

/// Longest window, and longest `for`: every sample in it is read at each evaluation.
pub const WINDOW_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Window of a rule that names none.
pub const WINDOW_DEFAULT: Duration = Duration::from_secs(60);
/// Window of a rate that names none: a minute may hold a single sample.
pub const RATE_WINDOW_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// Most rules of one hub.
pub const RULES_MAX: usize = 1_000;

/// Which series a rule looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// Metric name.
    pub metric: String,
    /// Labels a series has to have, with exactly these values; an empty one it must not have.
    pub labels: Labels,
    /// Hosts, one of which has to match; empty: every host.
    pub hosts: Vec<HostPattern>,
}

impl Selector {
    /// Whether it looks at this series of this host.
    #[must_use]
    pub fn selects(&self, series: &SeriesKey, host: &str) -> bool {
        let has = |name: &str| series.labels.get(name).map_or("", String::as_str);
        self.metric == series.metric
            && self.labels.iter().all(|(name, value)| has(name) == value)
            && self.selects_host(host)
    }

    /// Whether it looks at this host.
    #[must_use]
    pub fn selects_host(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|pattern| pattern.matches(host))
    }
}

/// A threshold rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawRule", into = "RawRule")]
pub struct Rule {
    /// Unique among the rules of a hub.
    pub name: String,
    /// Which series it looks at.
    pub selector: Selector,
    /// How samples become one value.
    pub aggregation: Aggregation,
    /// From how long before the newest sample.
    pub window_ms: i64,
    /// How the value is compared.
    pub op: Op,
    /// With what; finite.
    pub threshold: f64,
    /// For how long the comparison has to hold before anyone is told.
    pub for_ms: i64,
    /// How bad it is, in the operator's own words.
    pub severity: String,
    /// What is said about it.
    pub summary: Summary,
}

impl Rule {
    /// Whether a value crosses the threshold. NaN never does.
    #[must_use]
    pub fn crosses(&self, value: f64) -> bool {
        !value.is_nan() && self.op.holds(value, self.threshold)
    }
}

/// How a value is compared with the threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Greater.
    #[serde(rename = ">")]
    Greater,
    /// Greater or equal.
    #[serde(rename = ">=")]
    GreaterOrEqual,
    /// Less.
    #[serde(rename = "<")]
    Less,
    /// Less or equal.
    #[serde(rename = "<=")]
    LessOrEqual,
    /// Equal, bit for bit but for the sign of zero.
    #[serde(rename = "==")]
    Equal,
    /// Anything else.
    #[serde(rename = "!=")]
    NotEqual,
}

impl Op {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Equal => "==",
            Self::NotEqual => "!=",
        }
    }

    /// The operator that is written so.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        use Op::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        [Greater, GreaterOrEqual, Less, LessOrEqual, Equal, NotEqual]
            .into_iter()
            .find(|op| op.as_str() == word)
    }

    #[expect(clippy::float_cmp, reason = "the operator asked for equality, of a state as a number")]
    fn holds(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::Greater => value > threshold,
            Self::GreaterOrEqual => value >= threshold,
            Self::Less => value < threshold,
            Self::LessOrEqual => value <= threshold,
            Self::Equal => value == threshold,
            Self::NotEqual => value != threshold,
        }
    }
}

/// Rules with names of their own, as a configuration holds them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Rule>", into = "Vec<Rule>")]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// One by one, in the order they were written.
    pub fn iter(&self) -> std::slice::Iter<'_, Rule> {
        self.0.iter()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Rules> for Vec<Rule> {
    fn from(rules: Rules) -> Self {
        rules.0
    }
}

impl TryFrom<Vec<Rule>> for Rules {
    type Error = BadRule;

    fn try_from(rules: Vec<Rule>) -> Result<Self, BadRule> {
        if rules.len() > RULES_MAX {
            return Err(BadRule::TooMany { found: rules.len() });
        }
        for (index, rule) in rules.iter().enumerate() {
            if rules[..index].iter().any(|other| other.name == rule.name) {
                return Err(BadRule::Twice { rule: rule.name.clone() });
            }
        }
        Ok(Self(rules))
    }
}

/// A rule that can't be meant.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadRule {
    /// A key has a value that makes no sense.
    #[error("rule {rule:?}: {key}: {reason}")]
    Key {
        /// Which rule.
        rule: String,
        /// Which key of it.
        key: &'static str,
        /// What was found, and what would be right.
        reason: String,
    },
    /// State is kept by name: two rules of one name would share it.
    #[error("rule {rule:?} is there twice: give one of the two another name")]
    Twice {
        /// Which name.
        rule: String,
    },
    /// More than [`RULES_MAX`].
    #[error("{found} rules, expected at most {RULES_MAX}")]
    TooMany {
        /// How many.
        found: usize,
    },
}

/// A rule as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    name: String,
    metric: String,
    #[serde(default)]
    labels: Labels,
    hosts: Option<Vec<HostPattern>>,
    #[serde(default)]
    agg: Aggregation,
    window: Option<Duration>,
    op: Op,
    threshold: f64,
    #[serde(default, rename = "for")]
    hold: Duration,
    severity: Option<String>,
    #[serde(default)]
    summary: Summary,
}

impl TryFrom<RawRule> for Rule {
    type Error = BadRule;

    fn try_from(raw: RawRule) -> Result<Self, BadRule> {
        check(&raw).map_err(|(key, reason)| BadRule::Key {
            rule: raw.name.clone(),
            key,
            reason,
        })?;
        let window = raw.window.unwrap_or(match raw.agg {
            Aggregation::Rate => RATE_WINDOW_DEFAULT,
            _ => WINDOW_DEFAULT,
        });
        Ok(Self {
            name: raw.name,
            selector: Selector {
                metric: raw.metric,
                labels: raw.labels,
                hosts: raw.hosts.unwrap_or_default(),
            },
            aggregation: raw.agg,
            window_ms: millis(window),
            op: raw.op,
            threshold: raw.threshold,
            for_ms: millis(raw.hold),
            severity: raw.severity.unwrap_or_else(|| "warning".to_owned()),
            summary: raw.summary,
        })
    }
}

impl From<Rule> for RawRule {
    fn from(rule: Rule) -> Self {
        let Selector { metric, labels, hosts } = rule.selector;
        let duration = |ms: i64| Duration::from_millis(ms.unsigned_abs());
        Self {
            name: rule.name,
            metric,
            labels,
            hosts: (!hosts.is_empty()).then_some(hosts),
            agg: rule.aggregation,
            window: Some(duration(rule.window_ms)),
            op: rule.op,
            threshold: rule.threshold,
            hold: duration(rule.for_ms),
            severity: Some(rule.severity),
            summary: rule.summary,
        }
    }
}

fn check(raw: &RawRule) -> Result<(), (&'static str, String)> {
    check_text("name", &raw.name)?;
    if let Some(severity) = &raw.severity {
        check_text("severity", severity)?;
    }
    if !is_metric_name(&raw.metric) {
        let reason =
            format!("found {:?}, expected a metric's name such as \"node_load1\"", raw.metric);
        return Err(("metric", reason));
    }
    if !raw.threshold.is_finite() {
        return Err(("threshold", format!("found {}, expected a finite number", raw.threshold)));
    }
    if raw.hosts.as_ref().is_some_and(Vec::is_empty) {
        return Err((
            "hosts",
            "an empty list matches no host: leave it out for every host".to_owned(),
        ));
    }
    check_length("window", raw.window.unwrap_or(WINDOW_DEFAULT), Duration::from_millis(1))?;
    check_length("for", raw.hold, Duration::default())
}

fn check_text(key: &'static str, text: &str) -> Result<(), (&'static str, String)> {
    let fits =
        !text.trim().is_empty() && text.len() <= NAME_BYTES_MAX && !text.contains(char::is_control);
    let reason = || format!("found {text:?}, expected 1 to {NAME_BYTES_MAX} bytes of plain text");
    if fits { Ok(()) } else { Err((key, reason())) }
}

fn check_length(
    key: &'static str,
    found: Duration,
    min: Duration,
) -> Result<(), (&'static str, String)> {
    if (min..=WINDOW_MAX).contains(&found) {
        return Ok(());
    }
    Err((key, format!("found {found}, expected at least {min} and at most {WINDOW_MAX}")))
}

/// Prometheus's rule for names: letters, digits, `_` and `:`, no digit first.
fn is_metric_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(plain)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.get().as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use wire::AgentId;

    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        rules: Rules,
    }

    fn parse(text: &str) -> Result<Vec<Rule>, String> {
        let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        Ok(file.rules.into())
    }

    const SHORT: &str =
        "[[rules]]\nname = 'busy'\nmetric = 'node_load1'\nop = '>'\nthreshold = 4\n";

    #[test]
    fn what_is_left_out_has_its_default() {
        let rule = parse(SHORT).unwrap().remove(0);
        assert_eq!(rule.aggregation, Aggregation::Last);
        assert_eq!((rule.window_ms, rule.for_ms), (60_000, 0));
        assert_eq!((rule.threshold, rule.op), (4.0, Op::Greater));
        assert_eq!((rule.severity.as_str(), &rule.summary), ("warning", &Summary::default()));
        assert!(rule.selector.labels.is_empty() && rule.selector.hosts.is_empty());
        let rate = parse(&format!("{SHORT}agg = 'rate'\n")).unwrap().remove(0);
        assert_eq!(rate.window_ms, 300_000);
    }

    #[test]
    fn every_key_is_read_and_written_back() {
        let text = "agg = 'avg'\nwindow = '2m'\nfor = '90s'\nseverity = 'page'\nhosts = ['web-*']\n\
                    labels = { mode = 'idle', cpu = '' }\nsummary = '{host}!'\n";
        let rules = parse(&format!("{SHORT}{text}")).unwrap();
        let rule = &rules[0];
        assert_eq!(rule.aggregation, Aggregation::Avg);
        assert_eq!((rule.window_ms, rule.for_ms), (120_000, 90_000));
        assert_eq!(rule.severity, "page");
        assert_eq!(rule.selector.labels.get("mode").map(String::as_str), Some("idle"));
        let again = toml::to_string(&File { rules: rules.clone().try_into().unwrap() }).unwrap();
        assert_eq!(parse(&again).unwrap(), rules);
    }

    #[test]
    fn operators_compare_and_nan_never_crosses() {
        let check = |op: &str, crossing: &[f64], not: &[f64]| {
            let mut rule = parse(&SHORT.replace("'>'", &format!("'{op}'"))).unwrap().remove(0);
            assert_eq!(rule.op.as_str(), op);
            for value in crossing {
                assert!(rule.crosses(*value), "{value} {op} 4");
            }
            for value in not.iter().chain(&[f64::NAN, -f64::NAN]) {
                assert!(!rule.crosses(*value), "{value} {op} 4");
            }
            rule.threshold = f64::NAN;
            assert!(!rule.crosses(f64::NAN));
        };
        check(">", &[4.1, f64::INFINITY], &[4.0, 3.0]);
        check(">=", &[4.1, 4.0], &[3.9]);
        check("<", &[3.9, f64::NEG_INFINITY], &[4.0, 5.0]);
        check("<=", &[4.0, -1.0], &[4.1]);
        check("==", &[4.0], &[4.1]);
        check("!=", &[4.1, 0.0], &[4.0]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let check = |change: &str, expected: &str| {
            let (from, to) = change.split_once(" -> ").unwrap();
            let error = parse(&SHORT.replace(from, to)).unwrap_err();
            assert!(error.contains(expected), "{change}: {error}");
        };
        check("'busy' -> ' '", "name: found \" \", expected 1 to 256 bytes");
        check("'node_load1' -> 'node load'", "expected a metric's name");
        check("'node_load1' -> '1m'", "expected a metric's name");
        check("'>' -> '=>'", "unknown variant `=>`, expected one of `>`, `>=`");
        check("= 4 -> = nan", "rule \"busy\": threshold: found NaN, expected a finite number");
        check("= 4 -> = inf", "expected a finite number");
        check("= 4 -> = '4'", "invalid type: string");
        check(
            "= 4 -> = 4\nwindow = '0s'",
            "window: found 0s, expected at least 1ms and at most 1d",
        );
        check("= 4 -> = 4\nfor = '8d'", "for: found 8d, expected at least 0s and at most 1d");
        check("= 4 -> = 4\nfor = '2 min'", "found \"2 min\", expected a duration");
        check("= 4 -> = 4\nhosts = []", "leave it out for every host");
        check("= 4 -> = 4\nhosts = ['']", "can match no host");
        check("= 4 -> = 4\nagg = 'sum'", "unknown variant `sum`");
        check("= 4 -> = 4\nsummary = '{hots}'", "unknown place {hots}");
        check("= 4 -> = 4\nsevrity = 'x'", "unknown field `sevrity`");
        let twice = parse(&format!("{SHORT}{SHORT}")).unwrap_err();
        assert!(twice.contains("rule \"busy\" is there twice"), "{twice}");
    }

    #[test]
    fn selectors_look_at_metric_labels_and_host() {
        let series = SeriesKey {
            agent_id: AgentId::from_bytes([1; 16]),
            metric: "node_load1".to_owned(),
            labels: [("mode".to_owned(), "idle".to_owned())].into(),
        };
        let check = |keys: &str, host: &str, expected: bool| {
            let rule = parse(&format!("{SHORT}{keys}")).unwrap().remove(0);
            assert_eq!(rule.selector.selects(&series, host), expected, "{keys} {host}");
        };
        check("", "web-1", true);
        check("labels = { mode = 'idle' }", "web-1", true);
        check("labels = { mode = 'user' }", "web-1", false);
        check("labels = { mode = '' }", "web-1", false);
        check("labels = { cpu = '' }", "web-1", true);
        check("hosts = ['db-*', 'web-?']", "web-1", true);
        check("hosts = ['db-*']", "web-1", false);
        let mut other = series.clone();
        other.metric = "node_load5".to_owned();
        assert!(!parse(SHORT).unwrap()[0].selector.selects(&other, "web-1"));
    }
}
