//! Functions of windows that spans of time say as much about as their samples do.

use crate::{functions::rate::stretched, source::Span};

/// What a window's samples come to, as one span; and where the window begins and ends.
pub(crate) type OfSpan = fn(&Span, (i64, i64)) -> Option<f64>;

/// How a function is reckoned from spans, if it can be.
pub(crate) fn find(name: &str) -> Option<OfSpan> {
    Some(match name {
        "avg_over_time" => |all, _| Some(all.sum / all.count as f64),
        "count_over_time" => |all, _| Some(all.count as f64),
        "first_over_time" => |all, _| Some(all.first.value),
        "last_over_time" => |all, _| Some(all.last.value),
        "max_over_time" => |all, _| Some(all.max),
        "min_over_time" => |all, _| Some(all.min),
        "sum_over_time" => |all, _| Some(all.sum),
        "delta" => |all, window| grown(all, window, false),
        "increase" => |all, window| grown(all, window, true),
        "rate" => |all, window| {
            let seconds = (window.1 - window.0) as f64 / 1000.0;
            grown(all, window, true).map(|increase| increase / seconds)
        },
        _ => return None,
    })
}

fn grown(all: &Span, window: (i64, i64), counter: bool) -> Option<f64> {
    let grown = if counter { all.increase } else { all.last.value - all.first.value };
    let ends = (all.first, all.last, all.count as f64);
    (all.count > 1).then(|| stretched(grown, ends, window, counter))
}

/// What two neighbouring spans come to.
pub(crate) fn joined(earlier: Span, later: &Span) -> Span {
    let (before, after) = (earlier.last.value, later.first.value);
    let between = if after < before { after } else { after - before };
    Span {
        count: earlier.count + later.count,
        first: earlier.first,
        min: earlier.min.min(later.min),
        max: earlier.max.max(later.max),
        sum: earlier.sum + later.sum,
        increase: earlier.increase + between + later.increase,
        ..*later
    }
}

/// The one sample that a window sees which begins where this span ends, if it has one there.
pub(crate) fn at_its_end(span: &Span) -> Option<Span> {
    let value = span.last.value;
    let one = Span { count: 1, first: span.last, min: value, max: value, ..*span };
    (span.count > 0 && span.last.time_ms == span.end_ms).then_some(Span {
        sum: value,
        increase: 0.0,
        ..one
    })
}
