//! LEB128: seven bits a byte, lowest first; signed numbers zigzag.

const BYTES_MAX: usize = 10;

pub(crate) fn put(out: &mut Vec<u8>, value: u64) {
    let mut rest = value;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[expect(clippy::cast_sign_loss, reason = "zigzag moves the sign to the lowest bit")]
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Takes a number off the front; `None` if there is no whole one.
pub(crate) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for index in 0..BYTES_MAX {
        let byte = *bytes.get(index)?;
        value |= u64::from(byte & 0x7f).checked_shl(7 * index as u32)?;
        if byte < 0x80 {
            *bytes = &bytes[index + 1..];
            return Some(value);
        }
    }
    None
}

#[expect(clippy::cast_possible_wrap, reason = "zigzag moves the sign back")]
pub(crate) fn take_signed(bytes: &mut &[u8]) -> Option<i64> {
    take(bytes).map(|value| (value >> 1) as i64 ^ -((value & 1) as i64))
}

/// Takes a number that has to be at most `most`: a count that memory is made for.
pub(crate) fn take_at_most(bytes: &mut &[u8], most: usize) -> Option<usize> {
    let value = usize::try_from(take(bytes)?).ok()?;
    (value <= most).then_some(value)
}

/// Takes so many bytes off the front.
pub(crate) fn take_bytes<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let check = |value: i64, bytes: usize| {
            let mut out = Vec::new();
            put_signed(&mut out, value);
            assert_eq!(out.len(), bytes, "{value}");
            let mut rest = out.as_slice();
            assert_eq!((take_signed(&mut rest), rest.len()), (Some(value), 0));
            assert_eq!(take_signed(&mut &out[..bytes - 1]), None, "{value} cut short");
        };
        for (value, bytes) in [(0, 1), (-1, 1), (63, 1), (-64, 1), (64, 2), (10_000, 3)] {
            check(value, bytes);
        }
        check(i64::MAX, 10);
        check(i64::MIN, 10);
    }
}
