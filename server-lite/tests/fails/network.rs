//! A network that takes what is sent and brings nothing, and doesn't say so.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use super::Story;
use crate::{cluster, killed::Home};

/// More than any call may take: 30 s for a group of requests, and what it takes to get a connection.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// Leads to a server's socket; what it has begun to swallow is lost for good.
struct Proxy {
    address: SocketAddr,
    swallows: Arc<AtomicBool>,
}

impl Proxy {
    fn start(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let swallows = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&swallows);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = UnixStream::connect(&socket) else { continue };
                let (swallows, is_lost) = (Arc::clone(&shared), AtomicBool::new(false));
                let ways = Arc::new(Ways { client, server, swallows, is_lost });
                let back = Arc::clone(&ways);
                thread::spawn(move || ways.bring(&ways.client, &ways.server));
                thread::spawn(move || back.bring(&back.server, &back.client));
            }
        });
        Self { address, swallows }
    }

    fn swallow(&self, swallows: bool) {
        self.swallows.store(swallows, SeqCst);
    }
}

/// A connection.
struct Ways {
    client: TcpStream,
    server: UnixStream,
    swallows: Arc<AtomicBool>,
    is_lost: AtomicBool,
}

impl Ways {
    /// Brings bytes one way. Once it has swallowed some, nobody is told of anything any more.
    fn bring(&self, mut from: impl Read, mut to: impl Write) {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut bytes) {
            self.is_lost.fetch_or(self.swallows.load(SeqCst), SeqCst);
            if !self.is_lost.load(SeqCst) && to.write_all(&bytes[..read]).is_err() {
                break;
            }
        }
        self.is_lost.fetch_or(self.swallows.load(SeqCst), SeqCst);
        if !self.is_lost.load(SeqCst) {
            // Whichever is closed already says so.
            let _ = self.client.shutdown(Shutdown::Both);
            let _ = self.server.shutdown(Shutdown::Both);
        }
        while self.is_lost.load(SeqCst) {
            thread::park();
        }
    }
}

#[test]
fn a_network_that_swallows_everything_is_not_waited_for() {
    let Some(cluster) = cluster() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let proxy = Proxy::start(cluster.directory().join(".s.PGSQL.5432"));
    let database = format!("postgres://postgres@{}/postgres", proxy.address);
    let mut story = Story::begin(directory.path(), &database);
    proxy.swallow(true);
    let begun = Instant::now();
    let asked = ["/readyz", "/api/v1/hosts"].map(|path| {
        let getter = story.getter();
        thread::spawn(move || getter.get(path).0)
    });
    story.fails();
    for status in asked.map(thread::JoinHandle::join) {
        assert_eq!(status.expect("an answer"), 503);
    }
    let took = begun.elapsed();
    assert!(took < ANSWER_TIME_MAX, "answers after {took:?}");
    proxy.swallow(false);
    story.goes_on();
    let database = cluster.url();
    story.home = Home { data_dir: directory.path(), database: &database };
    story.end("a network that swallows everything");
}
