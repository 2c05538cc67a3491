//! Series, values and times as scripts write them.

use crate::{labels::Labels, labels::METRIC_NAME, source::STALE_BITS};

/// A series and its values, one for each step; none where it has no sample.
#[derive(Debug, Clone)]
pub(super) struct Described {
    pub(super) labels: Labels,
    pub(super) values: Vec<Option<f64>>,
}

/// Most values that one line may stand for.
const VALUES_MAX: usize = 100_000;

/// `name{label="value"} 1 2+3x4 _ stale`.
pub(super) fn series(text: &str) -> Result<Described, String> {
    let (name, rest) = split_name(text);
    let mut labels = Vec::new();
    if !name.is_empty() {
        labels.push((METRIC_NAME.to_owned(), name.to_owned()));
    }
    let rest = match rest.strip_prefix('{') {
        Some(inside) => read_labels(inside, &mut labels)?,
        None => rest,
    };
    Ok(Described { labels: Labels::new(labels), values: values(rest)? })
}

/// A bare number: what a scalar is expected to be.
pub(super) fn scalar(text: &str) -> Option<f64> {
    number(text)
}

fn split_name(text: &str) -> (&str, &str) {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let end = text.find(|c| !part(c)).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// Reads `a="b", c="d"}` and gives back what follows.
fn read_labels<'a>(
    mut rest: &'a str,
    labels: &mut Vec<(String, String)>,
) -> Result<&'a str, String> {
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        if let Some(after) = rest.strip_prefix('}') {
            return Ok(after);
        }
        let name;
        (name, rest) = if rest.starts_with(['"', '\'']) {
            quoted(rest)?
        } else {
            let end = rest.find(['=', '}', ',']).ok_or("a label set has no end")?;
            (rest[..end].trim().to_owned(), &rest[end..])
        };
        match rest.trim_start().strip_prefix('=') {
            Some(after) => {
                let value;
                (value, rest) = quoted(after.trim_start())?;
                labels.push((name, value));
            }
            // only a metric's name stands alone
            None => labels.push((METRIC_NAME.to_owned(), name)),
        }
    }
}

/// Reads a text in quotes and gives back what follows.
pub(super) fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut rest = text.char_indices();
    let Some((_, quote @ ('"' | '\'' | '`'))) = rest.next() else {
        return Err(format!("expected a text in quotes: {text}"));
    };
    let mut found = String::new();
    while let Some((at, character)) = rest.next() {
        match character {
            '\\' if quote != '`' => match rest.next() {
                Some((_, 'n')) => found.push('\n'),
                Some((_, 't')) => found.push('\t'),
                Some((_, other)) => found.push(other),
                None => break,
            },
            _ if character == quote => return Ok((found, &text[at + quote.len_utf8()..])),
            _ => found.push(character),
        }
    }
    Err(format!("a text has no end: {text}"))
}

fn values(text: &str) -> Result<Vec<Option<f64>>, String> {
    let mut all = Vec::new();
    for word in text.split_whitespace().take_while(|word| !word.starts_with('#')) {
        if word.starts_with("{{") {
            return Err("native histograms are not supported".to_owned());
        }
        let expanded = expand(word).ok_or_else(|| format!("not a value: {word}"))?;
        if all.len() + expanded.1 > VALUES_MAX {
            return Err(format!("more than {VALUES_MAX} values in one line"));
        }
        let (mut value, count, step) = expanded;
        for _ in 0..count {
            all.push(value);
            value = value.map(|value| if step == 0.0 { value } else { value + step });
        }
    }
    Ok(all)
}

/// First value, how many there are, and how far apart.
fn expand(word: &str) -> Option<(Option<f64>, usize, f64)> {
    let (value, times) = match word.rsplit_once('x') {
        Some((value, times)) => (value, Some(times.parse::<usize>().ok()?)),
        None => (word, None),
    };
    match value {
        "_" => return Some((None, times.unwrap_or(1), 0.0)),
        "stale" => return Some((Some(f64::from_bits(STALE_BITS)), times.unwrap_or(1), 0.0)),
        _ => {}
    }
    let count = times.map_or(1, |times| times.saturating_add(1));
    if let Some(first) = number(value) {
        return Some((Some(first), count, 0.0));
    }
    let signs = value.char_indices().skip(1).filter(|(_, c)| matches!(c, '+' | '-'));
    let mut parts = signs.map(|(at, _)| (number(&value[..at]), number(&value[at..])));
    let (first, step) = parts.find_map(|(first, step)| Some((first?, step?)))?;
    times.is_some().then_some((Some(first), count, step))
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

/// `5m`, `1h30m`, `-5m`, `0`, or a number of seconds.
pub(super) fn time_ms(text: &str) -> Result<i64, String> {
    let wrong = || format!("not a time: {text}");
    if let Ok(seconds) = text.parse::<f64>() {
        let ms = (seconds * 1000.0).round();
        return if ms.abs() < 9e15 { Ok(ms as i64) } else { Err(wrong()) };
    }
    let (sign, mut rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let mut sum = 0_i64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let count: i64 = rest[..digits].parse().map_err(|_| wrong())?;
        let letters = rest[digits..].find(|c: char| c.is_ascii_digit());
        let end = letters.map_or(rest.len(), |letters| digits + letters);
        let unit = unit_ms(&rest[digits..end]).ok_or_else(wrong)?;
        let part = count.checked_mul(unit).ok_or_else(wrong)?;
        sum = sum.checked_add(part).ok_or_else(wrong)?;
        rest = &rest[end..];
    }
    Ok(sign * sum)
}

fn unit_ms(unit: &str) -> Option<i64> {
    Some(match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 7 * 86_400_000,
        "y" => 365 * 86_400_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_expanded() {
        let check = |text: &str, expected: &str| {
            let found = series(text).map(|described| {
                let value = |value: Option<f64>| value.map_or("_".to_owned(), |v| v.to_string());
                described.values.into_iter().map(value).collect::<Vec<_>>().join(" ")
            });
            assert_eq!(found.as_deref().unwrap_or("error"), expected, "{text}");
        };
        check("a 1 2 3", "1 2 3");
        check("a 1+2x3", "1 3 5 7");
        check("a 10-2x2", "10 8 6");
        check("a -1-1x1", "-1 -2");
        check("a 7x2", "7 7 7");
        check("a 1e2+1e1x1", "100 110");
        check("a _ _x2 1", "_ _ _ 1");
        check("a Inf -Inf NaN", "inf -inf NaN");
        check("a 1 # comment", "1");
        check("a stale", "NaN");
        check("a 1y", "error");
        check("a 1+2", "error");
        check("a {{sum:1}}", "error");
    }

    #[test]
    fn labels_are_read() {
        let check = |text: &str, expected: &str| {
            let found = series(text).map(|described| described.labels.to_string());
            assert_eq!(found.as_deref().unwrap_or("error"), expected, "{text}");
        };
        check("a 1", "a");
        check("{} 1", "{}");
        check(r#"a:b{c="d", e='f'} 1"#, r#"a:b{c="d", e="f"}"#);
        check(r#"{"x.y", c="\"}"} 1"#, r#"x.y{c="\"}"}"#);
        check("a{b} 1", "b");
        check("a{b=c} 1", "error");
    }

    #[test]
    fn times_are_read() {
        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(time_ms(text).ok(), expected, "{text}");
        };
        check("0", Some(0));
        check("90", Some(90_000));
        check("1.5", Some(1_500));
        check("1h30m", Some(5_400_000));
        check("5ms", Some(5));
        check("-1m", Some(-60_000));
        check("1x", None);
        check("m", None);
        check("99999999999999y", None);
    }
}
