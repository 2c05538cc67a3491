//! Reads D-Bus's wire format: what a reply holds, and the fields before it.
//!
//! As in the D-Bus specification ("Marshaling"): each value lies on a multiple of its own size, texts have
//! their length before them and a zero behind, arrays their length in bytes. Nothing is copied, and no
//! length is believed before as many bytes are there.

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {place}: {reason}")]
pub(crate) struct Malformed {
    /// In the part that was read, from 0.
    place: usize,
    reason: String,
}

/// Which end of a number comes first; a bus passes on what the sender chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    /// This machine's.
    pub(super) const OWN: Self = if cfg!(target_endian = "big") { Self::Big } else { Self::Little };

    /// As the first byte of a message has it.
    pub(super) const fn mark(self) -> u8 {
        match self {
            Self::Little => b'l',
            Self::Big => b'B',
        }
    }
}

/// A simple value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    /// `s`, `o` or `g`.
    Text(&'a str),
    /// `b`.
    Bool(bool),
    /// Any number: they are exact up to 2⁵³.
    Number(f64),
}

/// Values one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Body<'a> {
    bytes: &'a [u8],
    place: usize,
    order: Order,
}

impl<'a> Body<'a> {
    /// These bytes begin on a multiple of 8.
    pub(super) const fn new(bytes: &'a [u8], order: Order) -> Self {
        Self { bytes, place: 0, order }
    }

    /// Whether nothing is left.
    pub(crate) const fn is_at_end(&self) -> bool {
        self.place >= self.bytes.len()
    }

    fn wrong(&self, reason: impl Into<String>) -> Malformed {
        Malformed { place: self.place, reason: reason.into() }
    }

    fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8], Malformed> {
        let end = self.place.checked_add(count);
        let Some(taken) = end.and_then(|end| self.bytes.get(self.place..end)) else {
            let left = self.bytes.len().saturating_sub(self.place);
            return Err(self.wrong(format!("{what} of {count} bytes, and {left} are left")));
        };
        self.place += count;
        Ok(taken)
    }

    /// Passes over what fills up to a multiple of `size`.
    pub(super) fn align(&mut self, size: usize) -> Result<(), Malformed> {
        let over = self.place % size;
        if over > 0 {
            self.take(size - over, "padding")?;
        }
        Ok(())
    }

    fn fixed<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Malformed> {
        self.align(N)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N, what)?);
        if self.order == Order::Big {
            bytes.reverse();
        }
        Ok(bytes)
    }

    /// `y`.
    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        self.fixed("a byte").map(|[byte]| byte)
    }

    /// `u`.
    pub(crate) fn number(&mut self) -> Result<u32, Malformed> {
        self.fixed("a number").map(u32::from_le_bytes)
    }

    /// `s` or `o`.
    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = self.number()?;
        self.text_of(length)
    }

    /// `g`.
    pub(super) fn signature(&mut self) -> Result<&'a str, Malformed> {
        let length = self.byte()?;
        self.text_of(u32::from(length))
    }

    fn text_of(&mut self, length: u32) -> Result<&'a str, Malformed> {
        let before = self.clone();
        let bytes = self.take(usize::try_from(length).unwrap_or(usize::MAX), "a text")?;
        if self.take(1, "the end of a text")? != [0] {
            return Err(before.wrong("a text that doesn't end with a zero"));
        }
        std::str::from_utf8(bytes).map_err(|_| before.wrong("a text that isn't UTF-8"))
    }

    /// `o`, to be named in a call.
    pub(crate) fn object_path(&mut self) -> Result<&'a str, Malformed> {
        let before = self.clone();
        let path = self.text()?;
        let is_of_path = |byte: u8| matches!(byte, b'/' | b'_') || byte.is_ascii_alphanumeric();
        match path.starts_with('/') && path.bytes().all(is_of_path) {
            true => Ok(path),
            false => Err(before.wrong("a path of an object that is none")),
        }
    }

    /// `a(…)`: gives `each` the elements, which it has to read whole.
    pub(crate) fn structs(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let length = self.number()?;
        self.align(8)?;
        let start = self.place;
        self.take(usize::try_from(length).unwrap_or(usize::MAX), "an array")?;
        let mut array = Self { bytes: &self.bytes[..self.place], place: start, order: self.order };
        while !array.is_at_end() {
            array.align(8)?;
            each(&mut array)?;
        }
        Ok(())
    }

    /// `v` that holds a simple value.
    pub(crate) fn variant(&mut self) -> Result<Value<'a>, Malformed> {
        let before = self.clone();
        Ok(match self.signature()? {
            "s" | "o" => Value::Text(self.text()?),
            "g" => Value::Text(self.signature()?),
            "b" => match self.number()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                other => return Err(before.wrong(format!("{other} is neither true nor false"))),
            },
            "y" => Value::Number(f64::from(self.byte()?)),
            "n" => Value::Number(f64::from(i16::from_le_bytes(self.fixed("a number")?))),
            "q" => Value::Number(f64::from(u16::from_le_bytes(self.fixed("a number")?))),
            "i" => Value::Number(f64::from(i32::from_le_bytes(self.fixed("a number")?))),
            "u" => Value::Number(f64::from(self.number()?)),
            "x" => Value::Number(i64::from_le_bytes(self.fixed("a number")?) as f64),
            "t" => Value::Number(u64::from_le_bytes(self.fixed("a number")?) as f64),
            "d" => Value::Number(f64::from_le_bytes(self.fixed("a number")?)),
            other => {
                let other: String = other.chars().take(20).collect();
                return Err(before.wrong(format!("a value of type '{other}', which isn't simple")));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variant(bytes: &[u8], order: Order) -> Result<String, String> {
        let mut body = Body::new(bytes, order);
        match body.variant() {
            Ok(value) => Ok(format!("{value:?}, {} left", bytes.len() - body.place)),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn values_are_read_or_the_place_is_named() {
        let check = |bytes: &[u8], expected: Result<&str, &str>| {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(variant(bytes, Order::Little), expected, "{bytes:?}");
        };
        check(b"\x01s\0\0\x02\0\0\0ab\0", Ok("Text(\"ab\"), 0 left"));
        check(b"\x01g\0\x02as\0x", Ok("Text(\"as\"), 1 left"));
        check(b"\x01b\0\0\x01\0\0\0", Ok("Bool(true), 0 left"));
        check(b"\x01b\0\0\x02\0\0\0", Err("byte 0: 2 is neither true nor false"));
        check(b"\x01u\0\0\x07\0\0\0", Ok("Number(7.0), 0 left"));
        check(b"\x01n\0\0\xff\xff", Ok("Number(-1.0), 0 left"));
        check(b"\x01t\0\0\0\0\0\0\0\x01\0\0\0\0\0\0", Ok("Number(256.0), 0 left"));
        check(b"\x02as\0\0\0\0\0", Err("byte 0: a value of type 'as', which isn't simple"));
        check(b"", Err("byte 0: a byte of 1 bytes, and 0 are left"));
        check(b"\x01t\0\0", Err("byte 3: padding of 5 bytes, and 1 are left"));
        check(
            b"\x01s\0\0\xff\xff\xff\xffab\0",
            Err("byte 8: a text of 4294967295 bytes, and 3 are left"),
        );
        check(b"\x01s\0\0\x02\0\0\0abc", Err("byte 8: a text that doesn't end with a zero"));
        check(b"\x01s\0\0\x02\0\0\0\xff\xfe\0", Err("byte 8: a text that isn't UTF-8"));
        assert_eq!(variant(b"\x01u\0\0\0\0\0\x07", Order::Big), Ok("Number(7.0), 0 left".into()));
        assert_eq!(variant(b"\x01q\0\0\x01\0", Order::Big), Ok("Number(256.0), 0 left".into()));
    }

    #[test]
    fn arrays_end_where_they_say() {
        let check = |bytes: &[u8], expected: Result<&[&str], &str>| {
            let mut seen = Vec::new();
            let read = Body::new(bytes, Order::Little).structs(|one| {
                seen.push(one.text()?);
                Ok(())
            });
            let got = read.map(|()| seen).map_err(|error| error.to_string());
            assert_eq!(got, expected.map(<[_]>::to_vec).map_err(str::to_owned), "{bytes:?}");
        };
        check(b"\0\0\0\0\0\0\0\0", Ok(&[]));
        check(b"\x0e\0\0\0\0\0\0\0\x01\0\0\0a\0\0\0\x01\0\0\0b\0", Ok(&["a", "b"]));
        check(
            b"\x0f\0\0\0\0\0\0\0\x01\0\0\0a\0\0\0\x01\0\0\0b\0",
            Err("byte 8: an array of 15 bytes, and 14 are left"),
        );
        // an element may not reach beyond
        check(
            b"\x05\0\0\0\0\0\0\0\x01\0\0\0a\0\0\0",
            Err("byte 13: the end of a text of 1 bytes, and 0 are left"),
        );
    }

    #[test]
    fn paths_can_be_named_in_a_call() {
        let check = |path: &str, expected: bool| {
            let mut bytes = (path.len() as u32).to_le_bytes().to_vec();
            bytes.extend(path.bytes().chain([0]));
            assert_eq!(Body::new(&bytes, Order::Little).object_path().is_ok(), expected, "{path}");
        };
        check("/org/freedesktop/systemd1/unit/ssh_2eservice", true);
        check("/", true);
        check("", false);
        check("org", false);
        check("/a b", false);
        check("/a\nb", false);
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read(bytes in any::<Vec<u8>>(), big: bool) {
            let order = if big { Order::Big } else { Order::Little };
            let mut body = Body::new(&bytes, order);
            while body.variant().is_ok() {}
            let _ = Body::new(&bytes, order).structs(|one| one.object_path().map(drop));
        }
    }
}
