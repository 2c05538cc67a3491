//! What is wrong with a message, and where.

use std::fmt;

/// A message that can't be read. Nothing of it is to be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It isn't the message it is said to be.
    #[error("{place}: {flaw}")]
    Malformed {
        /// Where.
        place: Place,
        /// What is wrong.
        flaw: Flaw,
    },
    /// It holds more of something than is taken.
    #[error("more than {max} {what} in one request: send fewer at once")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// As is taken.
        max: usize,
    },
}

/// Where in a message something is wrong; counted from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Of which series.
    pub series: Option<usize>,
    /// In which of its parts, or of the message's.
    pub part: Option<(&'static str, usize)>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.series, self.part) {
            (None, None) => f.write_str("request"),
            (Some(series), None) => write!(f, "series {series}"),
            (None, Some((part, at))) => write!(f, "{part} {at}"),
            (Some(series), Some((part, at))) => write!(f, "series {series}, {part} {at}"),
        }
    }
}

/// What is wrong with bytes that should be a protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// They end in the middle.
    #[error("ends in the middle of a field")]
    Truncated,
    /// A number of more than 64 bits.
    #[error("a varint has more than 64 bits")]
    Varint,
    /// A field without a number.
    #[error("a field has number {0}, valid are 1 to 536870911")]
    FieldNumber(u64),
    /// A wire type that messages don't have.
    #[error("field {field} has wire type {found}, which this message doesn't use")]
    WireType {
        /// Its number.
        field: u32,
        /// As found.
        found: u8,
    },
    /// A field that isn't what it should be.
    #[error("field {field} has wire type {found}, expected {expected}")]
    Mismatch {
        /// Its number.
        field: u32,
        /// As found.
        found: u8,
        /// As the message has it.
        expected: u8,
    },
    /// Text that is none.
    #[error("field {0} isn't UTF-8")]
    Utf8(u32),
    /// A reference to a string that isn't in the table.
    #[error("refers to symbol {symbol}, the table has {symbols}")]
    Symbol {
        /// As found.
        symbol: u64,
        /// How many there are.
        symbols: usize,
    },
    /// The table of symbols doesn't begin as it must.
    #[error("symbol 0 has to be the empty string")]
    FirstSymbol,
    /// References to labels that don't make pairs.
    #[error("has {0} label references, which aren't pairs of name and value")]
    OddReferences(usize),
}
