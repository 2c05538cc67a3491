//! A connection to a bus: authentication, calls sent together, and their answers.
//!
//! Bytes are read into one buffer that grows as they come, whatever length a message announces. Calls go out
//! [`WINDOW`] at a time and are then waited for, so that a hundred properties cost a few rounds and never more
//! pending replies than a bus allows.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixStream},
    },
    time::{Duration, Instant},
};

use agent_core::CollectError;

use super::{
    Unusable,
    address::Address,
    message::{self, Answer, Call, FIXED_BYTES, Start},
};

/// Calls that wait for an answer at one time: dbus-daemon allows 128 on a system bus.
const WINDOW: usize = 32;
/// How long the answers to so many calls may take: a second less than a collector has by default.
const PATIENCE: Duration = Duration::from_secs(4);
const BUFFER_BYTES_MIN: usize = 4 << 10;
/// A line of the authentication.
const LINE_BYTES_MAX: usize = 1 << 10;

const HELLO: Call<'_> = Call {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "Hello",
    arguments: &[],
};

/// A connection that has been greeted.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    /// The address, for messages.
    shown: String,
    /// Of the last call.
    serial: u32,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    /// What of `incoming` was read and not used.
    start: usize,
    end: usize,
    /// Whether the other side closed it.
    pub(super) is_closed: bool,
}

impl Connection {
    pub(super) fn open(address: &Address) -> Result<Self, CollectError> {
        let mut connection = Self {
            stream: connect(address)?,
            shown: address.to_string(),
            serial: 0,
            outgoing: Vec::new(),
            incoming: Vec::new(),
            start: 0,
            end: 0,
            is_closed: false,
        };
        connection.greet()?;
        Ok(connection)
    }

    /// Says who we are, as the kernel confirms (`AUTH EXTERNAL`), and gets a name on the bus.
    fn greet(&mut self) -> Result<(), CollectError> {
        let patience = Some(PATIENCE);
        let set = self.stream.set_read_timeout(patience);
        set.and_then(|()| self.stream.set_write_timeout(patience)).map_err(|e| self.failed(&e))?;
        let until = Instant::now() + PATIENCE;
        let user = nix::unistd::geteuid().to_string();
        let user: String = user.bytes().map(|digit| format!("{digit:02x}")).collect();
        self.send(format!("\0AUTH EXTERNAL {user}\r\n").as_bytes())?;
        let answer = self.line(until)?;
        match answer.split_whitespace().next() {
            Some("OK") => {}
            Some("REJECTED") => {
                let what = format!("{}: the bus doesn't take this user ({answer})", self.shown);
                return Err(CollectError::Denied { what });
            }
            _ => return Err(self.failed(&format!("{answer:?} in answer to AUTH EXTERNAL"))),
        }
        self.send(b"BEGIN\r\n")?;
        self.ask(&[HELLO], &mut |_, answer| answer.body("s").map(drop))
    }

    /// Makes these calls, and gives each answer, with the place of its call, to `each`. Answers come in any
    /// order.
    pub(super) fn ask(
        &mut self,
        calls: &[Call<'_>],
        each: &mut dyn FnMut(usize, Answer<'_>) -> Result<(), Unusable>,
    ) -> Result<(), CollectError> {
        for (first, calls) in (0..).step_by(WINDOW).zip(calls.chunks(WINDOW)) {
            let until = Instant::now() + PATIENCE;
            let serial = self.call(calls)?;
            let mut answered = [false; WINDOW];
            while answered[..calls.len()].contains(&false) {
                let Some((to, answer)) = self.receive(until)? else { continue };
                let index = to.wrapping_sub(serial) as usize;
                let Some(call) = calls.get(index) else { continue };
                if std::mem::replace(&mut answered[index], true) {
                    continue;
                }
                if let Err(unusable) = each(first + index, answer) {
                    return Err(unusable.into_error(&self.shown, call));
                }
            }
        }
        Ok(())
    }

    /// Sends calls; the number of the first one.
    fn call(&mut self, calls: &[Call<'_>]) -> Result<u32, CollectError> {
        // no call has number 0
        if self.serial > u32::MAX - WINDOW as u32 {
            self.serial = 0;
        }
        let first = self.serial + 1;
        let mut outgoing = std::mem::take(&mut self.outgoing);
        outgoing.clear();
        for call in calls {
            self.serial += 1;
            call.write(self.serial, &mut outgoing);
        }
        let sent = self.send(&outgoing);
        self.outgoing = outgoing;
        sent.map(|()| first)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), CollectError> {
        self.stream.write_all(bytes).map_err(|error| self.broken(&error))
    }

    /// The next message, if it answers a call.
    fn receive(&mut self, until: Instant) -> Result<Option<(u32, Answer<'_>)>, CollectError> {
        self.fill(FIXED_BYTES, until)?;
        let mut fixed = [0; FIXED_BYTES];
        fixed.copy_from_slice(&self.incoming[self.start..self.start + FIXED_BYTES]);
        let start = Start::read(&fixed).map_err(|reason| self.failed(&reason))?;
        self.fill(start.length, until)?;
        let message = self.start..self.start + start.length;
        self.start = message.end;
        let message = &self.incoming[message];
        message::read(&start, message).map_err(|e| failed(&self.shown, &format!("a message: {e}")))
    }

    /// A line of the authentication.
    fn line(&mut self, until: Instant) -> Result<String, CollectError> {
        loop {
            let unused = &self.incoming[self.start..self.end];
            if let Some(end) = unused.windows(2).position(|two| two == b"\r\n") {
                let line = String::from_utf8_lossy(&unused[..end]).into_owned();
                self.start += end + 2;
                return Ok(line);
            }
            if unused.len() >= LINE_BYTES_MAX {
                let reason = format!("a line of more than {LINE_BYTES_MAX} bytes: is this a bus?");
                return Err(self.failed(&reason));
            }
            self.fill(unused.len() + 1, until)?;
        }
    }

    /// Reads until so many bytes are there.
    fn fill(&mut self, count: usize, until: Instant) -> Result<(), CollectError> {
        while self.end - self.start < count {
            if Instant::now() >= until {
                return Err(self.broken(&ErrorKind::TimedOut.into()));
            }
            self.incoming.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.end == self.incoming.len() {
                // as much again as has come, however much is announced
                let length = (self.end * 2).max(BUFFER_BYTES_MIN);
                self.incoming.resize(length, 0);
            }
            match self.stream.read(&mut self.incoming[self.end..]) {
                Ok(0) => return Err(self.broken(&ErrorKind::UnexpectedEof.into())),
                Ok(length) => self.end += length,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(&error)),
            }
        }
        Ok(())
    }

    /// What a failed read or write means.
    fn broken(&mut self, error: &io::Error) -> CollectError {
        match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
                self.is_closed = true;
                self.failed(&"the bus closed the connection")
            }
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                self.failed(&format!("no answer within {} s", PATIENCE.as_secs()))
            }
            _ => self.failed(error),
        }
    }

    fn failed(&self, reason: &dyn std::fmt::Display) -> CollectError {
        failed(&self.shown, reason)
    }
}

fn failed(shown: &str, reason: &dyn std::fmt::Display) -> CollectError {
    CollectError::failed(shown, reason)
}

/// Connects. A socket that nobody listens at is no bus; one whose queue is full makes this wait, as a hung
/// mount would.
fn connect(address: &Address) -> Result<UnixStream, CollectError> {
    let connected = match address {
        Address::Path(path) => UnixStream::connect(path),
        Address::Abstract(name) => {
            SocketAddr::from_abstract_name(name).and_then(|name| UnixStream::connect_addr(&name))
        }
    };
    connected.map_err(|error| {
        let what = format!("{address}: {error}");
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                CollectError::Unavailable { what }
            }
            ErrorKind::PermissionDenied => CollectError::Denied { what },
            _ => failed(&address.to_string(), &error),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection on which these bytes came, and nothing after them.
    fn connection(bytes: &[u8]) -> Connection {
        let (stream, mut other) = UnixStream::pair().unwrap();
        other.write_all(bytes).unwrap();
        let shown = "unix:path=/run/bus".to_owned();
        let (outgoing, incoming) = (Vec::new(), Vec::new());
        Connection {
            stream,
            shown,
            serial: 0,
            outgoing,
            incoming,
            start: 0,
            end: 0,
            is_closed: false,
        }
    }

    #[test]
    fn a_length_is_not_believed_before_so_much_has_come() {
        // a body of 15 MiB, of which 60 bytes come
        let mut bytes = b"l\x02\0\x01\0\0\xf0\0\x01\0\0\0\0\0\0\0".to_vec();
        bytes.resize(76, 0);
        let mut connection = connection(&bytes);
        let error = connection.receive(Instant::now() + PATIENCE).unwrap_err().to_string();
        assert_eq!(error, "unix:path=/run/bus: the bus closed the connection");
        assert!(connection.is_closed);
        assert_eq!(connection.incoming.len(), BUFFER_BYTES_MIN);
    }

    #[test]
    fn a_greeting_that_does_not_end_is_given_up() {
        let mut connection = connection(&[b'x'; 5_000]);
        let error = connection.line(Instant::now() + PATIENCE).unwrap_err().to_string();
        let expected = "unix:path=/run/bus: a line of more than 1024 bytes: is this a bus?";
        assert_eq!(error, expected);
    }

    #[test]
    fn what_nobody_waits_for_is_passed_over() {
        let answer = |serial: u8| {
            let mut bytes = b"l\x02\0\x01\0\0\0\0\x01\0\0\0\x08\0\0\0\x05\x01u\0".to_vec();
            bytes.extend([serial, 0, 0, 0]);
            bytes
        };
        let signal = b"l\x04\0\x01\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
        let messages = [signal.clone(), answer(9), answer(2), answer(2), signal, answer(1)];
        let (stream, mut other) = UnixStream::pair().unwrap();
        other.write_all(&messages.concat()).unwrap();
        let mut connection = Connection { stream, ..connection(&[]) };
        let mut answered = Vec::new();
        let asked = connection.ask(&[HELLO, HELLO], &mut |index, _| {
            answered.push(index);
            Ok(())
        });
        asked.unwrap();
        assert_eq!(answered, [1, 0]);
    }

    #[test]
    fn numbers_of_calls_begin_anew() {
        let (stream, _other) = UnixStream::pair().unwrap();
        let mut connection = Connection { stream, ..connection(&[]) };
        connection.serial = u32::MAX - WINDOW as u32;
        assert_eq!(connection.call(&[HELLO]).unwrap(), u32::MAX - WINDOW as u32 + 1);
        assert_eq!(connection.call(&[HELLO]).unwrap(), 1);
    }
}
