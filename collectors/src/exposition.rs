//! Prometheus's text format, as node_exporter's textfile collector reads it.
//!
//! A text is taken whole or refused whole, with the line that is wrong: a half-written file must not
//! look like a host that lost some of its metrics. It ends with a line feed; metrics have a type before
//! they have samples; a timestamp is refused, for a tick has one time. Spaces at the end of a line and
//! labels without a value say nothing and are left out (node_exporter refuses the former, and shows the
//! latter as `label=""`, which Prometheus takes for the same).
//!
//! Our schemas know no histograms and summaries, only series: a histogram becomes the families
//! `…_bucket`, `…_sum` and `…_count`, a summary its quantiles, `…_sum` and `…_count`, with the names and
//! labels they have in Prometheus.

use std::collections::HashMap;

use agent_core::MetricKind;
use wire::limits;

use crate::parse::ParseError;

/// The series of one name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Family {
    /// As its samples are named.
    pub(crate) name: String,
    /// What its values mean.
    pub(crate) kind: MetricKind,
    /// What `# HELP` says, if anything.
    pub(crate) help: Option<String>,
    /// In the order of the text.
    pub(crate) samples: Vec<Sample>,
}

/// One series and its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    /// In ascending order of their names.
    pub(crate) labels: Labels,
    /// Its value.
    pub(crate) value: f64,
}

/// Names and values.
pub(crate) type Labels = Vec<(String, String)>;

/// The families of a text, in its order, of at most `series_max` series.
pub(crate) fn parse(text: &str, series_max: usize) -> Result<Vec<Family>, ParseError> {
    let mut parser = Parser { left: series_max, ..Parser::default() };
    for (index, line) in (1..).zip(text.split_inclusive('\n')) {
        let whole = line.strip_suffix('\n');
        let line = trimmed(whole.unwrap_or(line));
        if line.is_empty() {
            continue;
        }
        if whole.is_none() {
            let reason = "no line feed at the end of the file: is it still being written?";
            return Err(ParseError::new(index, "end", reason));
        }
        match line.strip_prefix('#') {
            Some(comment) => parser.comment(index, trimmed(comment))?,
            None => parser.sample(index, line)?,
        }
    }
    for family in &mut parser.families {
        family.help = parser.declared.get(&parser.bases[&family.name]).and_then(|d| d.help.clone());
    }
    Ok(parser.families)
}

/// What `# TYPE` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Simple(MetricKind),
    Summary,
    Histogram,
}

/// What the comments say of a metric.
#[derive(Debug, Default)]
struct Declared {
    kind: Option<Type>,
    help: Option<String>,
}

/// Which part of its metric a sample is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Plain,
    Bucket,
    Sum,
    Count,
}

const SUMMARY_PARTS: [(&str, Part); 2] = [("_count", Part::Count), ("_sum", Part::Sum)];
const HISTOGRAM_PARTS: [(&str, Part); 3] =
    [("_count", Part::Count), ("_sum", Part::Sum), ("_bucket", Part::Bucket)];

#[derive(Debug, Default)]
struct Parser {
    declared: HashMap<String, Declared>,
    families: Vec<Family>,
    /// Where a family lies in `families`.
    places: HashMap<String, usize>,
    /// The metric that a family belongs to: `a` for `a_sum`.
    bases: HashMap<String, String>,
    /// Series that still may come.
    left: usize,
}

impl Parser {
    /// `# HELP name text` and `# TYPE name word`; anything else is a comment.
    fn comment(&mut self, line: usize, text: &str) -> Result<(), ParseError> {
        let (keyword, rest) = text.split_once(is_blank).unwrap_or((text, ""));
        if keyword != "HELP" && keyword != "TYPE" {
            return Ok(());
        }
        let rest = trimmed(rest);
        let (name, text) = rest.split_once(is_blank).unwrap_or((rest, ""));
        let text = trimmed(text);
        if name.is_empty() || text.is_empty() {
            return Ok(());
        }
        if metric_name(name).len() != name.len() {
            return Err(ParseError::new(line, "metric", "not a name in a comment"));
        }
        let base = self.part_of(name).0.to_owned();
        let declared = self.declared.entry(base).or_default();
        if keyword == "HELP" {
            if declared.help.is_some() {
                return Err(ParseError::new(line, "HELP", format!("{name} has one already")));
            }
            let help = unescaped(line, "HELP", text, "\\n")?;
            let end = help.floor_char_boundary(limits::HELP_BYTES_MAX);
            declared.help = Some(help[..end].to_owned());
        } else {
            if declared.kind.is_some() {
                let reason = format!("{name} has one already, or has samples before it");
                return Err(ParseError::new(line, "TYPE", reason));
            }
            declared.kind = Some(type_of(line, text)?);
        }
        Ok(())
    }

    /// The metric that a sample of that name belongs to, and as which part.
    fn part_of<'a>(&self, name: &'a str) -> (&'a str, Part) {
        if self.declared.contains_key(name) {
            return (name, Part::Plain);
        }
        let of = |parts: &[(&str, Part)], kind: Type| {
            parts.iter().find_map(|(suffix, part)| {
                let base = name.strip_suffix(suffix)?;
                (self.declared.get(base)?.kind == Some(kind)).then_some((base, *part))
            })
        };
        let summary = of(&SUMMARY_PARTS, Type::Summary);
        summary.or_else(|| of(&HISTOGRAM_PARTS, Type::Histogram)).unwrap_or((name, Part::Plain))
    }

    /// `name{label="value"} 1.5`.
    fn sample(&mut self, line: usize, text: &str) -> Result<(), ParseError> {
        let name = metric_name(text);
        if name.is_empty() || name.len() > limits::NAME_BYTES_MAX {
            return Err(ParseError::new(line, "metric", "not a name, or too long"));
        }
        let (mut labels, rest) = labels(line, text[name.len()..].trim_start_matches(is_blank))?;
        let value = value(line, rest)?;
        let (base, part) = self.part_of(name);
        let declared = self.declared.entry(base.to_owned()).or_default();
        let kind = *declared.kind.get_or_insert(Type::Simple(MetricKind::Untyped));
        let (suffix, kind) = series_of(line, kind, part, &mut labels)?;
        if base.len() + suffix.len() > limits::NAME_BYTES_MAX {
            return Err(ParseError::new(line, "metric", "its name is too long"));
        }
        labels.sort_unstable();
        labels.retain(|(_, value)| !value.is_empty());
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| ParseError::new(line, "series", "more than there may be"))?;
        self.add(base, suffix, kind, Sample { labels, value });
        Ok(())
    }

    fn add(&mut self, base: &str, suffix: &str, kind: MetricKind, sample: Sample) {
        let name = format!("{base}{suffix}");
        let place = *self.places.entry(name).or_insert_with_key(|name| {
            self.bases.insert(name.clone(), base.to_owned());
            let family = Family { name: name.clone(), kind, help: None, samples: Vec::new() };
            self.families.push(family);
            self.families.len() - 1
        });
        self.families[place].samples.push(sample);
    }
}

/// What a sample's name ends with behind its metric's, and what it means; bounds are written as
/// node_exporter writes them.
fn series_of(
    line: usize,
    kind: Type,
    part: Part,
    labels: &mut Labels,
) -> Result<(&'static str, MetricKind), ParseError> {
    let bound = match kind {
        Type::Simple(kind) => return Ok(("", kind)),
        Type::Summary => "quantile",
        Type::Histogram => "le",
    };
    let place = labels.iter().position(|(name, _)| name == bound);
    let text = place.map(|place| labels.remove(place).1);
    match part {
        Part::Sum => return Ok(("_sum", MetricKind::Counter)),
        Part::Count => return Ok(("_count", MetricKind::Counter)),
        Part::Plain | Part::Bucket => {}
    }
    let wrong = |reason: String| ParseError::new(line, "bound", reason);
    let text = text.ok_or_else(|| wrong(format!("no label {bound}")))?;
    let value = number(&text).ok_or_else(|| wrong(format!("{bound}={text:?} is not a number")))?;
    labels.push((bound.to_owned(), as_go_writes(value)));
    match kind {
        Type::Histogram => Ok(("_bucket", MetricKind::Counter)),
        _ => Ok(("", MetricKind::Gauge)),
    }
}

fn type_of(line: usize, word: &str) -> Result<Type, ParseError> {
    let known = [
        ("counter", Type::Simple(MetricKind::Counter)),
        ("gauge", Type::Simple(MetricKind::Gauge)),
        ("untyped", Type::Simple(MetricKind::Untyped)),
        ("summary", Type::Summary),
        ("histogram", Type::Histogram),
    ];
    let found = known.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    found.map(|(_, kind)| *kind).ok_or_else(|| {
        let reason = "not one of counter, gauge, untyped, summary, histogram";
        ParseError::new(line, "TYPE", reason)
    })
}

/// The labels in braces, if there are any, and what follows them.
fn labels(line: usize, text: &str) -> Result<(Labels, &str), ParseError> {
    let wrong = |reason: &str| ParseError::new(line, "labels", reason);
    let mut labels = Labels::new();
    let Some(mut rest) = text.strip_prefix('{') else {
        return Ok((labels, text));
    };
    loop {
        rest = trimmed(rest);
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        let name = label_name(rest);
        if name.is_empty() || name.len() > limits::NAME_BYTES_MAX || name == "__name__" {
            return Err(wrong("not a label's name"));
        }
        rest = trimmed(&rest[name.len()..]);
        rest = trimmed(rest.strip_prefix('=').ok_or_else(|| wrong("no = behind a label's name"))?);
        rest = rest.strip_prefix('"').ok_or_else(|| wrong("no quotes around a label's value"))?;
        let end = end_of_value(rest).ok_or_else(|| wrong("no quote behind a label's value"))?;
        let value = unescaped(line, "labels", &rest[..end], "\\n\"")?;
        rest = trimmed(&rest[end + 1..]);
        if labels.iter().any(|(known, _)| known == name) {
            return Err(wrong(&format!("{name} twice")));
        }
        labels.push((name.to_owned(), value));
        if labels.len() > limits::LABELS_MAX {
            return Err(wrong(&format!("more than {}", limits::LABELS_MAX)));
        }
        rest = match rest.strip_prefix(',') {
            Some(rest) => rest,
            None if rest.starts_with('}') => rest,
            None => return Err(wrong("no comma or brace behind a label's value")),
        };
    }
}

/// Where the quote is that no backslash is before.
fn end_of_value(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        end
    })
}

/// A text with its escapes undone; only those of `known` may be there.
fn unescaped(
    line: usize,
    field: &'static str,
    text: &str,
    known: &str,
) -> Result<String, ParseError> {
    let mut chars = text.chars();
    let mut plain = String::with_capacity(text.len());
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next().filter(|c| known.contains(*c)) {
                Some('n') => '\n',
                Some(c) => c,
                None => {
                    return Err(ParseError::new(line, field, "a backslash before what needs none"));
                }
            },
            c => c,
        });
    }
    Ok(plain)
}

/// The value, behind which nothing may come.
fn value(line: usize, text: &str) -> Result<f64, ParseError> {
    let text = trimmed(text);
    let (word, rest) = text.split_once(is_blank).unwrap_or((text, ""));
    let Some(value) = number(word) else {
        return Err(ParseError::new(line, "value", format!("{:?} is not a number", shown(word))));
    };
    match trimmed(rest) {
        "" => Ok(value),
        rest if rest.parse::<i64>().is_ok() => {
            let reason = "a tick has one time: write samples without timestamps";
            Err(ParseError::new(line, "timestamp", reason))
        }
        rest => Err(ParseError::new(line, "value", format!("{:?} behind it", shown(rest)))),
    }
}

/// Decimal, `NaN` or an infinity, in any case of letters.
fn number(word: &str) -> Option<f64> {
    let value: f64 = word.parse().ok()?;
    // what overflows is no infinity
    let spelt = || word.contains(['i', 'I']);
    (!value.is_infinite() || spelt()).then_some(value)
}

/// A number as Go's `%g`: the shortest that reads back, with an exponent below -4 and from 6 on.
fn as_go_writes(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let Some((digits, Ok(exponent))) =
        scientific.split_once('e').map(|(digits, exponent)| (digits, exponent.parse::<i32>()))
    else {
        return "NaN".to_owned();
    };
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(40)]
}

fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

fn trimmed(text: &str) -> &str {
    text.trim_matches(is_blank)
}

/// The name that a text begins with; empty if it begins with none.
fn metric_name(text: &str) -> &str {
    name(text, |byte| byte == b':')
}

fn label_name(text: &str) -> &str {
    name(text, |_| false)
}

fn name(text: &str, also: fn(u8) -> bool) -> &str {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return "";
    }
    let within = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || also(byte);
    let end = text.bytes().position(|byte| !within(byte)).unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests;
