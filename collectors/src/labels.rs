//! Numbers as values of labels, written once.

/// The texts of small numbers: `cpu="3"`.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    texts: Vec<String>,
    /// The text of a number too large to be kept.
    other: String,
}

/// More CPUs than Linux has.
const KEPT_MAX: u64 = 8_192;

impl Numbers {
    /// A number in decimal.
    pub(crate) fn text(&mut self, number: u64) -> &str {
        if number >= KEPT_MAX {
            self.other = number.to_string();
            return &self.other;
        }
        let index = number as usize;
        while self.texts.len() <= index {
            self.texts.push(self.texts.len().to_string());
        }
        &self.texts[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal() {
        let mut numbers = Numbers::default();
        for number in [3, 0, 3, KEPT_MAX - 1, KEPT_MAX, u64::MAX] {
            assert_eq!(numbers.text(number), number.to_string());
        }
    }
}
