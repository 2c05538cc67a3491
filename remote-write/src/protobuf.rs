//! The protobuf encoding, as far as these messages need it: fields of four wire types.
//!
//! After <https://protobuf.dev/programming-guides/encoding/>.

use crate::error::Flaw;

pub(crate) const VARINT: u8 = 0;
pub(crate) const FIXED64: u8 = 1;
pub(crate) const BYTES: u8 = 2;
const FIXED32: u8 = 5;

const FIELD_NUMBER_MAX: u64 = (1 << 29) - 1;

/// Reads the fields of one message, in order.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    left: &'a [u8],
}

/// A field as it stands: its number, and what it holds.
#[derive(Clone, Copy)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    value: Value<'a>,
}

#[derive(Clone, Copy)]
enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(message: &'a [u8]) -> Self {
        Self { left: message }
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.left.is_empty()
    }

    /// The next field; `None` at the end.
    pub(crate) fn field(&mut self) -> Result<Option<Field<'a>>, Flaw> {
        if self.left.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let (number, wire_type) = (key >> 3, (key & 7) as u8);
        let number = u32::try_from(number)
            .ok()
            .filter(|number| (1..=FIELD_NUMBER_MAX).contains(&u64::from(*number)))
            .ok_or(Flaw::FieldNumber(number))?;
        let value = match wire_type {
            VARINT => Value::Varint(self.varint()?),
            FIXED64 => Value::Fixed64(self.fixed64()?),
            BYTES => Value::Bytes(self.delimited()?),
            FIXED32 => {
                self.take(4)?;
                Value::Fixed32
            }
            found => return Err(Flaw::WireType { field: number, found }),
        };
        Ok(Some(Field { number, value }))
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Flaw> {
        let mut value = 0u64;
        for (at, byte) in self.left.iter().enumerate() {
            let bits = u64::from(byte & 0x7f);
            // the tenth byte holds the last bit
            if at == 9 && *byte > 1 {
                return Err(Flaw::Varint);
            }
            value |= bits << (7 * at);
            if byte & 0x80 == 0 {
                self.left = &self.left[at + 1..];
                return Ok(value);
            }
        }
        Err(Flaw::Truncated)
    }

    pub(crate) fn fixed64(&mut self) -> Result<u64, Flaw> {
        let bytes = self.take(8)?;
        Ok(bytes.try_into().map_or(0, u64::from_le_bytes))
    }

    fn delimited(&mut self) -> Result<&'a [u8], Flaw> {
        let length = self.varint()?;
        self.take(usize::try_from(length).map_err(|_| Flaw::Truncated)?)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Flaw> {
        let (taken, left) = self.left.split_at_checked(count).ok_or(Flaw::Truncated)?;
        self.left = left;
        Ok(taken)
    }
}

impl<'a> Field<'a> {
    pub(crate) const fn wire_type(self) -> u8 {
        match self.value {
            Value::Varint(_) => VARINT,
            Value::Fixed64(_) => FIXED64,
            Value::Bytes(_) => BYTES,
            Value::Fixed32 => FIXED32,
        }
    }

    pub(crate) fn varint(self) -> Result<u64, Flaw> {
        if let Value::Varint(value) = self.value { Ok(value) } else { Err(self.isnt(VARINT)) }
    }

    /// A signed number that isn't zigzag: two's complement in 64 bits.
    pub(crate) fn int64(self) -> Result<i64, Flaw> {
        self.varint().map(u64::cast_signed)
    }

    pub(crate) fn double(self) -> Result<f64, Flaw> {
        if let Value::Fixed64(bits) = self.value {
            Ok(f64::from_bits(bits))
        } else {
            Err(self.isnt(FIXED64))
        }
    }

    pub(crate) fn bytes(self) -> Result<&'a [u8], Flaw> {
        if let Value::Bytes(bytes) = self.value { Ok(bytes) } else { Err(self.isnt(BYTES)) }
    }

    pub(crate) fn message(self) -> Result<Reader<'a>, Flaw> {
        self.bytes().map(Reader::new)
    }

    pub(crate) fn text(self) -> Result<&'a str, Flaw> {
        str::from_utf8(self.bytes()?).map_err(|_| Flaw::Utf8(self.number))
    }

    fn isnt(self, expected: u8) -> Flaw {
        Flaw::Mismatch { field: self.number, found: self.wire_type(), expected }
    }
}

/// Writes fields. Values that are the default are left out by those who call, as protobuf 3 has it.
pub(crate) trait Write {
    fn varint(&mut self, value: u64);
    fn key(&mut self, number: u32, wire_type: u8);
    fn bytes(&mut self, number: u32, bytes: &[u8]);

    fn double(&mut self, number: u32, value: f64);
}

impl Write for Vec<u8> {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    fn key(&mut self, number: u32, wire_type: u8) {
        self.varint(u64::from(number) << 3 | u64::from(wire_type));
    }

    fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.key(number, BYTES);
        self.varint(bytes.len() as u64);
        self.extend_from_slice(bytes);
    }

    fn double(&mut self, number: u32, value: f64) {
        self.key(number, FIXED64);
        self.extend_from_slice(&value.to_bits().to_le_bytes());
    }
}

/// Bytes of a number as varint.
pub(crate) const fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints() {
        for value in [0, 1, 127, 128, 300, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut written = Vec::new();
            written.varint(value);
            assert_eq!(written.len(), varint_len(value), "{value}");
            let mut reader = Reader::new(&written);
            assert_eq!(reader.varint(), Ok(value));
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn flaws() {
        let check = |bytes: &[u8], expected| {
            assert_eq!(Reader::new(bytes).field().map(|_| ()), Err(expected), "{bytes:x?}");
        };
        check(b"\x80", Flaw::Truncated);
        check(b"\x08", Flaw::Truncated);
        check(b"\x09\0\0\0\0\0\0\0", Flaw::Truncated);
        check(b"\x0a\x02a", Flaw::Truncated);
        check(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01a", Flaw::Truncated);
        check(b"\x0d\0\0\0", Flaw::Truncated);
        check(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", Flaw::Varint);
        check(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Flaw::Varint);
        check(b"\x00\x00", Flaw::FieldNumber(0));
        check(b"\x80\x80\x80\x80\x20\x00", Flaw::FieldNumber(1 << 30));
        check(b"\x0b", Flaw::WireType { field: 1, found: 3 });
        check(b"\x0e", Flaw::WireType { field: 1, found: 6 });
    }
}
