//! Messages on a bus: the calls that we make, and what comes back.
//!
//! As in the D-Bus specification ("Message Format"): 16 bytes that say how long the message is, fields in an
//! array, and from the next multiple of 8 on the body.

use super::body::{Body, Malformed, Order, Value};

/// The first bytes of a message, in which its length stands.
pub(super) const FIXED_BYTES: usize = 16;
/// A message beyond this is an error: 16 MiB are 50 000 units.
pub(super) const MESSAGE_BYTES_MAX: usize = 16 << 20;

const PROTOCOL: u8 = 1;
const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
/// A service that isn't there isn't started for our sake.
const NO_AUTO_START: u8 = 2;

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// A question to a service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    /// Name of the service on the bus.
    pub(crate) destination: &'a str,
    /// Path of the object.
    pub(crate) path: &'a str,
    /// Interface of the object.
    pub(crate) interface: &'a str,
    /// Method of the interface.
    pub(crate) member: &'a str,
    /// Its arguments, all of which are texts.
    pub(crate) arguments: &'a [&'a str],
}

impl Call<'_> {
    /// Appends the message of that number.
    pub(super) fn write(&self, serial: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend([Order::OWN.mark(), METHOD_CALL, NO_AUTO_START, PROTOCOL]);
        let lengths = out.len();
        // lengths of body and fields follow below
        [0, serial, 0].iter().for_each(|number| put_number(out, *number));
        let fields = out.len();
        let texts = [
            (PATH, "o", self.path),
            (INTERFACE, "s", self.interface),
            (MEMBER, "s", self.member),
            (DESTINATION, "s", self.destination),
        ];
        for (code, kind, text) in texts {
            pad(out, start, 8);
            out.push(code);
            put_signature(out, kind);
            pad(out, start, 4);
            put_text(out, text);
        }
        if !self.arguments.is_empty() {
            pad(out, start, 8);
            out.push(SIGNATURE);
            put_signature(out, "g");
            put_signature(out, &"s".repeat(self.arguments.len()));
        }
        let fields = out.len() - fields;
        pad(out, start, 8);
        let body = out.len();
        for argument in self.arguments {
            pad(out, start, 4);
            put_text(out, argument);
        }
        let body = out.len() - body;
        overwrite(out, lengths, body);
        overwrite(out, lengths + 8, fields);
    }
}

fn pad(out: &mut Vec<u8>, start: usize, size: usize) {
    let length = (out.len() - start).next_multiple_of(size);
    out.resize(start + length, 0);
}

fn put_number(out: &mut Vec<u8>, number: u32) {
    out.extend(number.to_ne_bytes());
}

/// What we ask is far shorter than 4 GiB.
fn length(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, length(text.len()));
    out.extend(text.bytes().chain([0]));
}

fn put_signature(out: &mut Vec<u8>, signature: &str) {
    out.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
    out.extend(signature.bytes().chain([0]));
}

fn overwrite(out: &mut [u8], place: usize, count: usize) {
    out[place..place + 4].copy_from_slice(&length(count).to_ne_bytes());
}

/// How a message begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    order: Order,
    kind: u8,
    fields_bytes: usize,
    /// Of the whole message.
    pub(super) length: usize,
}

impl Start {
    /// From the first [`FIXED_BYTES`].
    pub(super) fn read(bytes: &[u8; FIXED_BYTES]) -> Result<Self, String> {
        let order = match bytes[0] {
            b'l' => Order::Little,
            b'B' => Order::Big,
            other => {
                return Err(format!("a message that begins with byte {other}, not 'l' or 'B'"));
            }
        };
        if bytes[3] != PROTOCOL {
            return Err(format!("version {} of the protocol: {PROTOCOL} is known", bytes[3]));
        }
        let number = |place: usize| {
            let mut number = [0; 4];
            number.copy_from_slice(&bytes[place..place + 4]);
            let number = match order {
                Order::Little => u32::from_le_bytes(number),
                Order::Big => u32::from_be_bytes(number),
            };
            u64::from(number)
        };
        let (body, fields) = (number(4), number(12));
        let length = (FIXED_BYTES as u64 + fields).next_multiple_of(8) + body;
        if length > MESSAGE_BYTES_MAX as u64 {
            return Err(format!(
                "a message of {length} bytes: at most {MESSAGE_BYTES_MAX} are taken"
            ));
        }
        // both are within the length
        let (fields_bytes, length) = (fields as usize, length as usize);
        Ok(Self { order, kind: bytes[1], fields_bytes, length })
    }
}

/// What came back for a call.
#[derive(Clone, Debug)]
pub(crate) enum Answer<'a> {
    /// What the method returned: these types, and the values.
    Returned {
        /// As `a(so)`.
        signature: &'a str,
        /// The values.
        body: Body<'a>,
    },
    /// An error.
    Refused {
        /// As `org.freedesktop.DBus.Error.AccessDenied`.
        name: &'a str,
        /// For people; may be empty.
        text: &'a str,
    },
}

/// The number of the call that a message answers, and the answer; `None` for what is none: signals, calls.
pub(super) fn read<'a>(
    start: &Start,
    message: &'a [u8],
) -> Result<Option<(u32, Answer<'a>)>, Malformed> {
    if ![METHOD_RETURN, ERROR].contains(&start.kind) {
        return Ok(None);
    }
    let fields_end = FIXED_BYTES + start.fields_bytes;
    let body_start = fields_end.next_multiple_of(8);
    let fields = message.get(FIXED_BYTES..fields_end).unwrap_or_default();
    let body = Body::new(message.get(body_start..).unwrap_or_default(), start.order);
    let (mut serial, mut signature, mut name) = (None, "", "");
    let mut fields = Body::new(fields, start.order);
    while !fields.is_at_end() {
        fields.align(8)?;
        match (fields.byte()?, fields.variant()?) {
            (REPLY_SERIAL, Value::Number(number)) => serial = Some(number as u32),
            (SIGNATURE, Value::Text(text)) => signature = text,
            (ERROR_NAME, Value::Text(text)) => name = text,
            _ => {}
        }
    }
    let Some(serial) = serial else { return Ok(None) };
    Ok(Some((serial, answer(start.kind, name, signature, body))))
}

fn answer<'a>(kind: u8, name: &'a str, signature: &'a str, mut body: Body<'a>) -> Answer<'a> {
    if kind == METHOD_RETURN {
        return Answer::Returned { signature, body };
    }
    let text = if signature.starts_with('s') { body.text().unwrap_or_default() } else { "" };
    Answer::Refused { name, text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GET: Call<'_> = Call {
        destination: "org.example.One",
        path: "/a",
        interface: "org.example.Two",
        member: "Get",
        arguments: &["x", "yz"],
    };

    fn start(bytes: &[u8]) -> Result<Start, String> {
        Start::read(bytes[..FIXED_BYTES].try_into().unwrap())
    }

    #[test]
    fn a_call_is_written_as_the_specification_has_it() {
        let mut bytes = vec![9; 3];
        GET.write(7, &mut bytes);
        let bytes = &bytes[3..];
        let number = |number: u32| number.to_ne_bytes();
        let expected = [
            &[Order::OWN.mark(), 1, 2, 1][..],
            &number(15),
            &number(7),
            &number(88),
            b"\x01\x01o\0",
            &number(2),
            b"/a\0\0\0\0\0\0",
            b"\x02\x01s\0",
            &number(15),
            b"org.example.Two\0",
            b"\x03\x01s\0",
            &number(3),
            b"Get\0\0\0\0\0",
            b"\x06\x01s\0",
            &number(15),
            b"org.example.One\0",
            b"\x08\x01g\0\x02ss\0",
        ];
        let expected = expected.concat();
        assert_eq!(bytes[..expected.len()], expected);
        let body = [&number(1)[..], b"x\0\0\0", &number(2), b"yz\0"].concat();
        assert!(bytes.ends_with(&body));
        assert_eq!(start(bytes).unwrap().length, bytes.len());
    }

    #[test]
    fn what_is_too_long_or_unknown_is_said() {
        let check = |bytes: &[u8; FIXED_BYTES], expected: Result<usize, &str>| {
            let got = start(bytes).map(|start| start.length);
            assert_eq!(got, expected.map_err(str::to_owned), "{bytes:?}");
        };
        check(b"l\x02\0\x01\x05\0\0\0\x01\0\0\0\x03\0\0\0", Ok(29));
        check(b"B\x02\0\x01\0\0\0\x05\0\0\0\x01\0\0\0\x03", Ok(29));
        check(
            b"x\x02\0\x01\x05\0\0\0\x01\0\0\0\x03\0\0\0",
            Err("a message that begins with byte 120, not 'l' or 'B'"),
        );
        check(
            b"l\x02\0\x02\x05\0\0\0\x01\0\0\0\x03\0\0\0",
            Err("version 2 of the protocol: 1 is known"),
        );
        check(
            b"l\x02\0\x01\xff\xff\xff\xff\x01\0\0\0\xff\xff\xff\xff",
            Err("a message of 8589934607 bytes: at most 16777216 are taken"),
        );
    }

    #[test]
    fn answers_name_their_call() {
        let check = |kind: u8, fields: &[u8], expected: &str| {
            let mut bytes = vec![b'l', kind, 0, 1, 8, 0, 0, 0, 1, 0, 0, 0];
            bytes.extend((fields.len() as u32).to_le_bytes());
            bytes.extend(fields);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            bytes.extend(b"\x02\0\0\0hi\0\0");
            let start = start(&bytes).unwrap();
            assert_eq!(start.length, bytes.len());
            let shown = match read(&start, &bytes) {
                Ok(Some((serial, Answer::Returned { signature, mut body }))) => {
                    format!("{serial} returned {signature}: {:?}", body.text())
                }
                Ok(Some((serial, Answer::Refused { name, text }))) => {
                    format!("{serial} refused {name}: {text}")
                }
                Ok(None) => "none".to_owned(),
                Err(error) => error.to_string(),
            };
            assert_eq!(shown, expected);
        };
        let returned = b"\x05\x01u\0\x2a\0\0\0\x08\x01g\0\x01s\0";
        check(2, returned, "42 returned s: Ok(\"hi\")");
        check(1, returned, "none");
        check(4, returned, "none");
        check(2, b"\x08\x01g\0\x01s\0", "none");
        check(2, b"", "none");
        // a field that nobody knows yet
        check(
            2,
            b"\x63\x01t\0\0\0\0\0\x01\0\0\0\0\0\0\0\x05\x01u\0\x07\0\0\0",
            "7 returned : Ok(\"hi\")",
        );
        let refused = b"\x05\x01u\0\x2a\0\0\0\x04\x01s\0\x03\0\0\0a.b\0\0\0\0\0\x08\x01g\0\x01s\0";
        check(3, refused, "42 refused a.b: hi");
        check(3, b"\x05\x01u\0\x2a\0\0\0", "42 refused : ");
        check(2, b"\x05\x01s\0\xff\0\0\0", "byte 8: a text of 255 bytes, and 0 are left");
        check(2, b"\x05\x02as\0", "byte 1: a value of type 'as', which isn't simple");
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 16..200)) {
            if let Ok(start) = start(&bytes) {
                let _ = read(&start, &bytes);
            }
        }
    }
}
