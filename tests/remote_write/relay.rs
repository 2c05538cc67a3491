//! Stands between a sender and a receiver: it can lead nowhere, and lose a reply.

use std::{
    io::{self, BufReader, Read, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

#[derive(Default)]
struct State {
    leads_to: Option<SocketAddr>,
    passed: usize,
    /// Bytes of requests that were answered with success, heads included.
    bytes: usize,
    /// After so many replies from then on one is dropped.
    drop_in: Option<(usize, Sender<()>)>,
}

/// A relay on a port that stays.
pub(crate) struct Relay {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Relay {
    pub(crate) fn start(leads_to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = State { leads_to: Some(leads_to), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || serve(stream, &state));
            }
        });
        Self { port, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/api/v1/write", self.port)
    }

    /// Requests that were answered with success.
    pub(crate) fn passed(&self) -> usize {
        self.state.lock().unwrap().passed
    }

    /// Bytes of those requests, heads included.
    pub(crate) fn bytes(&self) -> usize {
        self.state.lock().unwrap().bytes
    }

    pub(crate) fn leads_to(&self, address: Option<SocketAddr>) {
        self.state.lock().unwrap().leads_to = address;
    }

    /// Drops the reply to the n-th request that the receiver takes from now on, and leads nowhere from
    /// then on; tells when.
    pub(crate) fn drop_reply(&self, n: usize) -> Receiver<()> {
        let (tell, told) = channel();
        self.state.lock().unwrap().drop_in = Some((n, tell));
        told
    }
}

/// One connection of the sender, request after request; whatever fails ends it.
fn serve(sender: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(sender.try_clone().unwrap());
    while let Ok(request) = message(&mut reader, true) {
        let Some(address) = state.lock().unwrap().leads_to else { break };
        let Ok(reply) = ask(address, &request) else { break };
        if !state.lock().unwrap().lets_pass(&request, &reply)
            || (&sender).write_all(&reply).is_err()
        {
            break;
        }
    }
    let _ = sender.shutdown(Shutdown::Both);
}

impl State {
    fn lets_pass(&mut self, request: &[u8], reply: &[u8]) -> bool {
        if !reply.starts_with(b"HTTP/1.1 2") {
            return true;
        }
        if let Some((left, tell)) = &mut self.drop_in {
            *left -= 1;
            if *left == 0 {
                let _ = tell.send(());
                (self.drop_in, self.leads_to) = (None, None);
                return false;
            }
        }
        self.passed += 1;
        self.bytes += request.len();
        true
    }
}

fn ask(address: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(request)?;
    message(&mut BufReader::new(stream), false)
}

/// A request or a reply as it came: its head, and as much as its head says comes after.
fn message(reader: &mut impl io::BufRead, is_request: bool) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut length = 0;
    loop {
        let at = all.len();
        if reader.read_until(b'\n', &mut all)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = String::from_utf8_lossy(&all[at..]).to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    assert!(!is_request || length > 0, "a request has a body");
    reader.take(length).read_to_end(&mut all)?;
    Ok(all)
}
