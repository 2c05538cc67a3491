//! A bus that says what a test wants: a real socket that speaks the D-Bus protocol, or damages it.
//!
//! Written from the specification apart from the client that it tests: `tests/bus.rs` of the agent has both
//! meet dbus-daemon.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::Arc,
    thread,
};

use tempfile::TempDir;

/// A call that arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) interface: String,
    pub(crate) member: String,
    pub(crate) destination: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) flags: u8,
    serial: u32,
}

impl Asked {
    /// `Manager.ListUnits`, or of a property `unit/ssh: Service.Type` or `systemd1: Manager.Version`.
    pub(crate) fn short(&self) -> String {
        let last = |text: &str| text.rsplit('.').next().unwrap_or_default().to_owned();
        match &self.arguments[..] {
            [interface, name] => {
                let mut slashes = self.path.match_indices('/').skip(2).map(|(place, _)| place + 1);
                let (service, object) = (slashes.next(), slashes.next());
                let place = object.or(service).unwrap_or(0);
                format!("{}: {}.{name}", &self.path[place..], last(interface))
            }
            _ => format!("{}.{}", last(&self.interface), self.member),
        }
    }
}

/// What the bus does with a call.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Types, and the values as they are on the wire.
    Values(&'static str, Vec<u8>),
    /// An error of that name.
    Error(&'static str),
    /// Says nothing.
    Silence,
    /// Closes the connection.
    Close,
}

/// What becomes of a message.
pub(crate) type Damage = dyn Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync;

/// How a bus greets, and what becomes of the bytes it sends.
#[derive(Clone)]
pub(crate) struct Manner {
    /// Its answer to `AUTH`.
    pub(crate) welcome: &'static str,
    /// What is sent instead of a message, before the connection is closed; `None` to leave the message as
    /// it is.
    pub(crate) damage: Arc<Damage>,
}

impl Default for Manner {
    fn default() -> Self {
        Self { welcome: "OK 0123456789abcdef\r\n", damage: Arc::new(|_| None) }
    }
}

/// A bus in a directory of its own; its threads end with the test.
pub(crate) struct FakeBus {
    directory: TempDir,
}

impl FakeBus {
    /// A bus that answers every call so, each connection on a thread.
    pub(crate) fn start(
        manner: Manner,
        answer: impl Fn(&Asked) -> Reply + Clone + Send + 'static,
    ) -> Self {
        let bus = Self { directory: TempDir::new().unwrap() };
        bus.listen(manner, answer);
        bus
    }

    /// Listens in the same place again, with other answers.
    pub(crate) fn listen(
        &self,
        manner: Manner,
        answer: impl Fn(&Asked) -> Reply + Clone + Send + 'static,
    ) {
        let _ = std::fs::remove_file(self.socket());
        let listener = UnixListener::bind(self.socket()).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (manner, answer) = (manner.clone(), answer.clone());
                thread::spawn(move || serve(stream, &manner, answer));
            }
        });
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("bus")
    }

    pub(crate) fn address(&self) -> String {
        format!("unix:path={}", self.socket().display())
    }
}

/// Ends when either side closes the connection.
fn serve(stream: UnixStream, manner: &Manner, answer: impl Fn(&Asked) -> Reply) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let user = line.trim_end().strip_prefix("\0AUTH EXTERNAL ")?.to_owned();
    assert!(user.len().is_multiple_of(2) && user.starts_with('3'), "digits in hexadecimal: {user}");
    stream.write_all(manner.welcome.as_bytes()).ok()?;
    line.clear();
    reader.read_line(&mut line).ok()?;
    if line != "BEGIN\r\n" {
        return None;
    }
    loop {
        let asked = read_call(&mut reader)?;
        if asked.member == "Hello" {
            let name = Reply::Values("s", Values::new().text(":1.7").done());
            stream.write_all(&reply(&asked, &name)?).ok()?;
            continue;
        }
        let message = reply(&asked, &answer(&asked))?;
        match (manner.damage)(&message) {
            None => stream.write_all(&message).ok()?,
            Some(damaged) => return stream.write_all(&damaged).ok(),
        }
    }
}

fn read_call(reader: &mut impl std::io::Read) -> Option<Asked> {
    let mut fixed = [0; 16];
    reader.read_exact(&mut fixed).ok()?;
    let number = |bytes: &[u8]| u32::from_ne_bytes(bytes[..4].try_into().unwrap());
    assert_eq!((fixed[1], fixed[3]), (1, 1), "a call, version 1");
    let (body, serial, fields) = (number(&fixed[4..]), number(&fixed[8..]), number(&fixed[12..]));
    let mut rest = vec![0; (fields.next_multiple_of(8) + body) as usize];
    reader.read_exact(&mut rest).ok()?;
    let mut asked = Asked { serial, flags: fixed[2], ..Asked::default() };
    let (mut place, fields) = (0_usize, fields as usize);
    while place < fields {
        place = place.next_multiple_of(8);
        let (code, kind) = (rest[place], rest[place + 2]);
        place += 4;
        let length = match kind {
            b'g' => usize::from(rest[place]),
            _ => number(&rest[place..]) as usize,
        };
        place += if kind == b'g' { 1 } else { 4 };
        let text = String::from_utf8(rest[place..place + length].to_vec()).unwrap();
        place += length + 1;
        match code {
            1 => asked.path = text,
            2 => asked.interface = text,
            3 => asked.member = text,
            6 => asked.destination = text,
            8 => asked.arguments = vec![String::new(); text.len()],
            _ => panic!("field {code}"),
        }
    }
    place = fields.next_multiple_of(8);
    for argument in &mut asked.arguments {
        place = place.next_multiple_of(4);
        let length = number(&rest[place..]) as usize;
        *argument = String::from_utf8(rest[place + 4..place + 4 + length].to_vec()).unwrap();
        place += 4 + length + 1;
    }
    Some(asked)
}

/// A message in answer to a call; `None` to close the connection.
fn reply(asked: &Asked, reply: &Reply) -> Option<Vec<u8>> {
    let (kind, name, signature, body) = match reply {
        Reply::Values(signature, body) => (2, "", *signature, body.clone()),
        Reply::Error(name) => (3, *name, "s", Values::new().text("no").done()),
        Reply::Silence => return Some(Vec::new()),
        Reply::Close => return None,
    };
    let mut fields = Values::new().bytes(b"\x05\x01u\0").number(asked.serial);
    if !name.is_empty() {
        fields = fields.align(8).bytes(b"\x04\x01s\0").text(name);
    }
    let fields = fields.align(8).bytes(b"\x08\x01g\0").signature(signature).done();
    let number = |count: usize| u32::try_from(count).unwrap().to_ne_bytes();
    let mark = if cfg!(target_endian = "big") { b'B' } else { b'l' };
    let mut message = vec![mark, kind, 1, 1];
    message.extend(number(body.len()));
    message.extend(number(99));
    message.extend(number(fields.len()));
    message.extend(fields);
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend(body);
    Some(message)
}

/// Values as they are on the wire.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values(Vec<u8>);

impl Values {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub(crate) fn align(mut self, size: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(size), 0);
        self
    }

    pub(crate) fn number(self, number: u32) -> Self {
        self.align(4).bytes(&number.to_ne_bytes())
    }

    pub(crate) fn text(self, text: &str) -> Self {
        let length = u32::try_from(text.len()).unwrap();
        self.number(length).bytes(text.as_bytes()).bytes(&[0])
    }

    pub(crate) fn signature(self, signature: &str) -> Self {
        let length = u8::try_from(signature.len()).unwrap();
        self.bytes(&[length]).bytes(signature.as_bytes()).bytes(&[0])
    }

    /// An array of structs, each of which is written by `one`.
    pub(crate) fn structs<T>(self, many: &[T], one: impl Fn(Self, &T) -> Self) -> Self {
        let values = self.number(0);
        let (length_at, values) = (values.0.len() - 4, values.align(8));
        let start = values.0.len();
        let mut values = many.iter().fold(values, |values, each| one(values.align(8), each));
        let length = u32::try_from(values.0.len() - start).unwrap();
        values.0[length_at..length_at + 4].copy_from_slice(&length.to_ne_bytes());
        values
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0
    }
}

/// A property's value.
pub(crate) fn variant_text(text: &str) -> Reply {
    Reply::Values("v", Values::new().signature("s").text(text).done())
}

/// A property's value.
pub(crate) fn variant_bool(value: bool) -> Reply {
    Reply::Values("v", Values::new().signature("b").number(u32::from(value)).done())
}

/// A property's value.
pub(crate) fn variant_u32(value: u32) -> Reply {
    Reply::Values("v", Values::new().signature("u").number(value).done())
}

/// A property's value.
pub(crate) fn variant_u64(value: u64) -> Reply {
    Reply::Values("v", Values::new().signature("t").align(8).bytes(&value.to_ne_bytes()).done())
}
