//! What hardly ever changes and costs a question each: asked again a few at a time.

use std::ops::Range;

/// Whose turn it is.
#[derive(Debug)]
pub(crate) struct Rotation {
    /// So many in a tick.
    count: usize,
    next: usize,
}

impl Rotation {
    /// So many in a tick.
    pub(crate) const fn new(count: usize) -> Self {
        Self { count, next: 0 }
    }

    /// The places, of so many, whose turn it is in this tick.
    pub(crate) fn next(&mut self, of: usize) -> Range<usize> {
        let start = if self.next < of { self.next } else { 0 };
        self.next = (start + self.count).min(of);
        start..self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_has_a_turn() {
        let mut rotation = Rotation::new(3);
        let mut check = |of: usize, expected: Range<usize>| assert_eq!(rotation.next(of), expected);
        check(0, 0..0);
        check(7, 0..3);
        check(7, 3..6);
        check(7, 6..7);
        check(7, 0..3);
        check(2, 0..2);
        check(7, 2..5);
    }
}
