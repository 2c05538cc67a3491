//! What the kernel answers when it is asked for its TCP sockets: messages of `netlink(7)`, each of them a
//! socket as `sock_diag(7)` tells it. Pure: bytes in, connections out, and nothing kept of a socket.
//!
//! An answer comes in parts of several messages, the last of which says that it is the last. Numbers are in
//! the machine's own order. Layouts: `nlmsghdr` in `linux/netlink.h`, `inet_diag_msg` in
//! `linux/inet_diag.h`.

use std::io;

/// What a message is about.
const NOOP: u16 = 1;
const ERROR: u16 = 2;
const DONE: u16 = 3;
pub(crate) const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// Before each message.
pub(crate) const HEADER_BYTES: usize = 16;
/// Messages begin at multiples of it.
const ALIGN_BYTES: usize = 4;
/// A socket without its attributes, which follow and are passed over.
#[cfg(test)]
pub(crate) const SOCKET_BYTES: usize = 72;
/// Places in it.
const STATE_AT: usize = 1;
const RECEIVE_AT: usize = 56;
const SEND_AT: usize = 60;

/// A connection, as far as it counts here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    /// The kernel's number of it.
    pub(crate) state: u8,
    /// That wait to be read; of one that listens, connections that wait to be accepted.
    pub(crate) receive_bytes: u32,
    /// That wait to be sent; of one that listens, how many connections may wait.
    pub(crate) send_bytes: u32,
}

/// An answer that can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError<E> {
    /// The kernel says why it doesn't tell.
    #[error("{0}")]
    Refused(io::Error),
    /// It can't be read.
    #[error("message {message} of the answer: {reason}")]
    Malformed {
        /// Counted from 1 in each part.
        message: usize,
        /// Why.
        reason: &'static str,
    },
    /// Whoever takes the connections has had enough.
    #[error("{0}")]
    Enough(E),
}

/// Gives the connections of one part of the answer to question `sequence` to `each`. Whether that was the
/// last part.
pub(crate) fn read<E>(
    mut part: &[u8],
    sequence: u32,
    mut each: impl FnMut(Connection) -> Result<(), E>,
) -> Result<bool, AnswerError<E>> {
    let mut message = 0;
    while !part.is_empty() {
        message += 1;
        let malformed = |reason| AnswerError::Malformed { message, reason };
        let header = Header::of(part).ok_or_else(|| malformed("a header cut off"))?;
        let content = part.get(HEADER_BYTES..header.bytes);
        let content = content.ok_or_else(|| malformed("not as long as it says"))?;
        if header.sequence != sequence {
            return Err(malformed("answers another question"));
        }
        match header.kind {
            NOOP => {}
            DONE => return done(content).map(|()| true),
            ERROR => {
                done(content)?;
                return Err(malformed("an error without a reason"));
            }
            SOCK_DIAG_BY_FAMILY => {
                let connection =
                    Connection::of(content).ok_or_else(|| malformed("a socket cut off"))?;
                each(connection).map_err(AnswerError::Enough)?;
            }
            _ => return Err(malformed("of a kind that wasn't asked for")),
        }
        let end = header.bytes.next_multiple_of(ALIGN_BYTES).min(part.len());
        part = &part[end..];
    }
    Ok(false)
}

/// The end of an answer, which can still be an error.
fn done<E>(content: &[u8]) -> Result<(), AnswerError<E>> {
    match number(content, 0).map_or(0, u32::cast_signed) {
        0.. => Ok(()),
        code => Err(AnswerError::Refused(io::Error::from_raw_os_error(code.saturating_neg()))),
    }
}

struct Header {
    /// Of the message, with this header.
    bytes: usize,
    kind: u16,
    sequence: u32,
}

impl Header {
    fn of(part: &[u8]) -> Option<Self> {
        let kind = u16::from_ne_bytes(*part.get(4..)?.first_chunk()?);
        part.get(..HEADER_BYTES)?;
        Some(Self { bytes: number(part, 0)? as usize, kind, sequence: number(part, 8)? })
    }
}

impl Connection {
    fn of(content: &[u8]) -> Option<Self> {
        Some(Self {
            state: *content.get(STATE_AT)?,
            receive_bytes: number(content, RECEIVE_AT)?,
            send_bytes: number(content, SEND_AT)?,
        })
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    pub(crate) fn message(kind: u16, sequence: u32, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER_BYTES + content.len()).unwrap();
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend([0, 2]);
        message.extend(sequence.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(content);
        message.resize(message.len().next_multiple_of(ALIGN_BYTES), 0);
        message
    }

    pub(crate) fn socket(sequence: u32, state: u8, receive: u32, send: u32) -> Vec<u8> {
        let mut content = vec![0; SOCKET_BYTES];
        content[STATE_AT] = state;
        content[RECEIVE_AT..RECEIVE_AT + 4].copy_from_slice(&receive.to_ne_bytes());
        content[SEND_AT..SEND_AT + 4].copy_from_slice(&send.to_ne_bytes());
        // an attribute, whose padding isn't in the message's length
        content.extend([5, 0, 8, 0, 3]);
        message(SOCK_DIAG_BY_FAMILY, sequence, &content)
    }

    pub(crate) fn done(sequence: u32) -> Vec<u8> {
        message(DONE, sequence, &0_i32.to_ne_bytes())
    }

    pub(crate) fn refused(sequence: u32, code: i32) -> Vec<u8> {
        message(ERROR, sequence, &[(-code).to_ne_bytes().as_slice(), &[0; 16]].concat())
    }

    /// States and bytes of what was read, and whether it was the end.
    fn outcome(part: &[u8]) -> Result<String, String> {
        let mut seen = Vec::new();
        let is_last = read::<&str>(part, 7, |Connection { state, receive_bytes, send_bytes }| {
            seen.push(format!("{state}:{receive_bytes}:{send_bytes}"));
            if seen.len() > 3 { Err("four are enough") } else { Ok(()) }
        });
        let is_last = is_last.map_err(|error| error.to_string())?;
        Ok(format!("{}{}", seen.join(" "), if is_last { "." } else { "" }))
    }

    #[test]
    fn parts_are_read_or_what_is_wrong_is_said() {
        let check = |parts: &[&[u8]], expected: Result<&str, &str>| {
            let got = outcome(&parts.concat());
            assert_eq!(got, expected.map(str::to_owned).map_err(str::to_owned), "{parts:?}");
        };
        let one = socket(7, 1, 256, 26);
        check(&[], Ok(""));
        check(&[&one, &socket(7, 10, 0, 4096)], Ok("1:256:26 10:0:4096"));
        check(&[&one, &done(7)], Ok("1:256:26."));
        check(&[&message(NOOP, 7, &[]), &message(DONE, 7, &[])], Ok("."));
        // what follows the end is nobody's
        check(&[&done(7), &[1]], Ok("."));
        check(&[&one, &one, &one, &one], Err("four are enough"));
        check(&[&refused(7, 1)], Err("Operation not permitted (os error 1)"));
        let late = message(DONE, 7, &(-12_i32).to_ne_bytes());
        check(&[&one, &late], Err("Cannot allocate memory (os error 12)"));
        let least = message(DONE, 7, &i32::MIN.to_ne_bytes());
        check(&[&least], Err("Unknown error 2147483647 (os error 2147483647)"));
        let said = |reason: &str| format!("message 1 of the answer: {reason}");
        check(&[&one[..15]], Err(&said("a header cut off")));
        check(&[&one[..40]], Err(&said("not as long as it says")));
        check(&[&[0; 16]], Err(&said("not as long as it says")));
        check(&[&socket(6, 1, 0, 0)], Err(&said("answers another question")));
        check(&[&message(20, 7, &[0; 63])], Err(&said("a socket cut off")));
        check(&[&message(21, 7, &[])], Err(&said("of a kind that wasn't asked for")));
        check(&[&refused(7, 0)], Err(&said("an error without a reason")));
        check(&[&one, &[9]], Err("message 2 of the answer: a header cut off"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read(bytes: Vec<u8>) {
            let _ = outcome(&bytes);
        }

        #[test]
        fn damaged_answers_are_refused_or_read(
            damages in vec((0_usize..300, any::<u8>()), 0..6),
            length in 0_usize..300,
        ) {
            let mut part = [socket(7, 1, 1, 1), socket(7, 6, 0, 0), done(7)].concat();
            for (place, byte) in damages {
                if let Some(old) = part.get_mut(place) {
                    *old = byte;
                }
            }
            part.truncate(length);
            let _ = outcome(&part);
        }
    }
}
