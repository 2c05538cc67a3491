//! States that things are in, counted.
//!
//! Which states there are changes from moment to moment (one process waits for a disk, one connection
//! closes), and with each change the series would. So states that are known have a series always, with a
//! count of 0 when nothing is in them; others only as long as something is.

/// Counts of things by their state.
#[derive(Debug)]
pub(crate) struct States<S: 'static> {
    known: &'static [S],
    counts: Vec<(S, u64)>,
}

impl<S: Copy + PartialEq> States<S> {
    /// Nothing is counted yet; these states are known.
    pub(crate) fn new(known: &'static [S]) -> Self {
        Self { known, counts: known.iter().map(|state| (*state, 0)).collect() }
    }

    /// Counts start from 0.
    pub(crate) fn restart(&mut self) {
        self.counts.truncate(self.known.len());
        self.counts.iter_mut().for_each(|(_, count)| *count = 0);
    }

    /// One more is in that state.
    pub(crate) fn add(&mut self, state: S) {
        match self.counts.iter_mut().find(|(known, _)| *known == state) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((state, 1)),
        }
    }

    /// Every state, and how many are in it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(S, u64)> {
        self.counts.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_states_are_always_there() {
        let mut states = States::new(&['R', 'S']);
        let mut check = |seen: &str, expected: &[(char, u64)]| {
            states.restart();
            seen.chars().for_each(|state| states.add(state));
            assert_eq!(states.iter().copied().collect::<Vec<_>>(), expected);
        };
        check("", &[('R', 0), ('S', 0)]);
        check("SZSZ", &[('R', 0), ('S', 2), ('Z', 2)]);
        check("R", &[('R', 1), ('S', 0)]);
    }
}
