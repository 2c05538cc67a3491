//! Quantiles of classic histograms: counters with an upper bound each.

/// How many observations lay at or below a bound.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    pub(crate) upper_bound: f64,
    pub(crate) count: f64,
}

/// The quantile that the buckets suggest, as if observations lay evenly within each.
///
/// NaN without a bucket that ends at infinity, without a second one, or without observations.
pub(crate) fn quantile(quantile: f64, mut buckets: Vec<Bucket>) -> f64 {
    if quantile.is_nan() {
        return f64::NAN;
    }
    if quantile < 0.0 {
        return f64::NEG_INFINITY;
    }
    if quantile > 1.0 {
        return f64::INFINITY;
    }
    let Some(buckets) = complete(&mut buckets) else { return f64::NAN };
    let buckets = monotonic(buckets);
    let [.., before_last, last] = *buckets else { return f64::NAN };
    if last.count == 0.0 || last.count.is_nan() {
        return f64::NAN;
    }
    let rank = quantile * last.count;
    let found = buckets[..buckets.len() - 1].partition_point(|bucket| bucket.count < rank);
    if found == buckets.len() - 1 {
        return before_last.upper_bound;
    }
    within(&buckets, found, rank)
}

/// Which part of all observations lies between two bounds, reckoned as for a quantile.
pub(crate) fn fraction(lower: f64, upper: f64, mut buckets: Vec<Bucket>) -> f64 {
    let Some(buckets) = complete(&mut buckets) else { return f64::NAN };
    let count = buckets.last().map_or(0.0, |last| last.count);
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank_of(&buckets, upper) - rank_of(&buckets, lower)) / count
}

/// How many observations lie below a value.
fn rank_of(buckets: &[Bucket], value: f64) -> f64 {
    let found = buckets.partition_point(|bucket| bucket.upper_bound <= value);
    let below = found.checked_sub(1).map(|before| buckets[before]);
    let Some(bucket) = buckets.get(found) else { return below.map_or(0.0, |below| below.count) };
    let first_begins = if bucket.upper_bound > 0.0 { 0.0 } else { f64::NEG_INFINITY };
    let start = below.map_or(first_begins, |below| below.upper_bound);
    let before = below.map_or(0.0, |below| below.count);
    // of a bucket without an end, all lies at the end that it has
    if value <= start || bucket.upper_bound == f64::INFINITY {
        return before;
    }
    if start == f64::NEG_INFINITY {
        return bucket.count;
    }
    before + (bucket.count - before) * ((value - start) / (bucket.upper_bound - start))
}

/// Sorted buckets, each bound once; none if the last doesn't end at infinity.
fn complete(buckets: &mut [Bucket]) -> Option<Vec<Bucket>> {
    buckets.sort_by(|a, b| a.upper_bound.total_cmp(&b.upper_bound));
    let last = buckets.last()?;
    (last.upper_bound == f64::INFINITY).then(|| coalesced(buckets))
}

/// Where in a bucket the observation of that rank lies.
fn within(buckets: &[Bucket], found: usize, rank: f64) -> f64 {
    let Bucket { upper_bound, count } = buckets[found];
    if found == 0 {
        // the first bucket begins at zero, or is only its bound
        return if upper_bound <= 0.0 { upper_bound } else { upper_bound * (rank / count) };
    }
    let below = buckets[found - 1];
    let part = (rank - below.count) / (count - below.count);
    below.upper_bound + (upper_bound - below.upper_bound) * part
}

/// Buckets with one bound are one.
fn coalesced(sorted: &[Bucket]) -> Vec<Bucket> {
    let mut all: Vec<Bucket> = Vec::with_capacity(sorted.len());
    for bucket in sorted {
        match all.last_mut() {
            Some(last) if last.upper_bound == bucket.upper_bound => last.count += bucket.count,
            _ => all.push(*bucket),
        }
    }
    all
}

/// Counts that fall, as those of a scrape in between may, are held up at what came before.
fn monotonic(mut buckets: Vec<Bucket>) -> Vec<Bucket> {
    let mut max = f64::NEG_INFINITY;
    for bucket in &mut buckets {
        max = if bucket.count > max { bucket.count } else { max };
        if bucket.count < max {
            bucket.count = max;
        }
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_buckets() {
        let check = |q: f64, buckets: &[(f64, f64)], expected: f64| {
            let buckets = buckets
                .iter()
                .map(|(upper_bound, count)| Bucket { upper_bound: *upper_bound, count: *count });
            let found = quantile(q, buckets.collect());
            assert!(found == expected || (found.is_nan() && expected.is_nan()), "{q}: {found}");
        };
        let inf = f64::INFINITY;
        let even = [(1.0, 10.0), (2.0, 20.0), (inf, 20.0)];
        check(0.25, &even, 0.5);
        check(0.5, &even, 1.0);
        check(0.75, &even, 1.5);
        check(1.0, &even, 2.0);
        check(-1.0, &even, -inf);
        check(2.0, &even, inf);
        check(f64::NAN, &even, f64::NAN);
        check(0.5, &even[..2], f64::NAN);
        check(0.5, &even[2..], f64::NAN);
        check(0.5, &[(1.0, 0.0), (inf, 0.0)], f64::NAN);
        check(0.5, &[(-1.0, 10.0), (inf, 10.0)], -1.0);
        // falling counts are held up; buckets with one bound are added
        check(0.5, &[(1.0, 10.0), (2.0, 5.0), (inf, 10.0)], 0.5);
        check(0.5, &[(1.0, 5.0), (1.0, 5.0), (inf, 10.0)], 0.5);
    }
}
