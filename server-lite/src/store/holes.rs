//! What is missing between sequence numbers, and what is left of it once something explains a part.

/// Sequence numbers, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seqs {
    /// The first.
    pub(crate) first: u64,
    /// The last.
    pub(crate) last: u64,
}

/// Holes in what is taken of a request: `expected` is the next sequence number, if the stream has
/// begun; with each, the places of its neighbours among `seqs` (`None` for what came before).
pub(crate) fn holes(expected: Option<u64>, seqs: &[u64]) -> Vec<(Seqs, usize)> {
    let mut next = expected.or_else(|| seqs.first().copied());
    let mut found = Vec::new();
    for (index, seq) in seqs.iter().enumerate() {
        if let Some(first) = next.filter(|next| next < seq) {
            found.push((Seqs { first, last: seq - 1 }, index));
        }
        next = seq.checked_add(1);
    }
    found
}

/// What is left of `whole` without `covers`.
pub(crate) fn without(whole: Seqs, covers: &[Seqs]) -> Vec<Seqs> {
    covers.iter().fold(vec![whole], |left, cover| {
        let parts = left.into_iter().flat_map(|seqs| {
            let before = (seqs.first < cover.first)
                .then(|| Seqs { first: seqs.first, last: seqs.last.min(cover.first - 1) });
            let after = (seqs.last > cover.last)
                .then(|| Seqs { first: seqs.first.max(cover.last + 1), last: seqs.last });
            before.into_iter().chain(after)
        });
        parts.collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seqs((first, last): (u64, u64)) -> Seqs {
        Seqs { first, last }
    }

    #[test]
    fn holes_lie_between_what_is_there() {
        let check = |expected: Option<u64>, seqs_taken: &[u64], found: &[((u64, u64), usize)]| {
            let found: Vec<_> = found.iter().map(|(range, index)| (seqs(*range), *index)).collect();
            assert_eq!(holes(expected, seqs_taken), found, "{expected:?} {seqs_taken:?}");
        };
        check(None, &[], &[]);
        check(None, &[7, 8], &[]);
        check(Some(1), &[1, 2, 3], &[]);
        check(Some(5), &[7, 8], &[((5, 6), 0)]);
        check(Some(5), &[5, 7, 10], &[((6, 6), 1), ((8, 9), 2)]);
        check(Some(u64::MAX), &[u64::MAX], &[]);
    }

    #[test]
    fn covers_are_taken_out() {
        let check = |whole: (u64, u64), covers: &[(u64, u64)], left: &[(u64, u64)]| {
            let covers: Vec<Seqs> = covers.iter().copied().map(seqs).collect();
            let left: Vec<Seqs> = left.iter().copied().map(seqs).collect();
            assert_eq!(without(seqs(whole), &covers), left, "{whole:?} {covers:?}");
        };
        check((3, 9), &[], &[(3, 9)]);
        check((3, 9), &[(3, 9)], &[]);
        check((3, 9), &[(1, 20)], &[]);
        check((3, 9), &[(5, 6)], &[(3, 4), (7, 9)]);
        check((3, 9), &[(1, 4), (8, 12)], &[(5, 7)]);
        check((3, 9), &[(10, 12), (1, 2)], &[(3, 9)]);
        check((3, 9), &[(3, 5), (4, 8)], &[(9, 9)]);
        check((1, u64::MAX), &[(1, u64::MAX)], &[]);
    }
}
