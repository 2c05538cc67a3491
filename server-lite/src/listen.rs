//! Takes connections and answers what comes over them, within bounds: how many there are, and how long
//! each may take to say what it wants.
//!
//! Whoever opens a connection and then sends the head of a request byte by byte, or nothing at all, is
//! cut off after [`HEAD_TIME_MAX`]; bodies have a bound of their own ([`crate::api::body`]). When all
//! connections are taken, more wait in the socket's queue, where they cost no memory of ours.

use std::{io, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use nix::sys::resource::{Resource, getrlimit};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time,
};

/// Time from when a connection is there, or has been given an answer, until the head of a request is:
/// longer than between two heartbeats, so that agents keep theirs.
pub const HEAD_TIME_MAX: Duration = Duration::from_secs(30);
/// Open files that are left for all else: the store, webhooks, what the runtime needs.
const FILES_RESERVED: u64 = 128;
/// Wait after the system has refused a connection: it has no files or no memory left.
const REFUSED_WAIT: Duration = Duration::from_millis(500);

/// Bounds of what is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at one time.
    pub connections: usize,
    /// Time until the head of a request is there.
    pub head_time: Duration,
    /// Time that requests under way have when told to stop.
    pub shutdown_deadline: Duration,
}

/// Serves until `shutdown`, then until requests under way are answered or the deadline has passed.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let most = connections_allowed(limits.connections);
    let (room, connections) = (Arc::new(Semaphore::new(most)), GracefulShutdown::new());
    let taking = async {
        loop {
            let (connection, room) = next(&listener, &room, most).await;
            take(connection, room, &router, limits.head_time, &connections);
        }
    };
    let mut shutdown = pin!(shutdown);
    tokio::select! {
        () = taking => {}
        () = &mut shutdown => {}
    }
    tracing::info!("stopping: answering what is under way");
    drop(listener);
    if time::timeout(limits.shutdown_deadline, connections.shutdown()).await.is_err() {
        tracing::warn!("requests were cut off at the deadline; agents send them again");
    }
}

/// As many as wanted, if the system allows this process so many open files.
fn connections_allowed(wanted: usize) -> usize {
    let Ok((files, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return wanted };
    let most = usize::try_from(files.saturating_sub(FILES_RESERVED)).unwrap_or(usize::MAX).max(1);
    if wanted > most {
        tracing::info!(
            wanted,
            most,
            files,
            "fewer connections than limits.connections: the system allows too few open files"
        );
    }
    wanted.min(most)
}

/// The next connection, once there is room for it.
async fn next(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
    most: usize,
) -> (TcpStream, OwnedSemaphorePermit) {
    if room.available_permits() == 0 {
        tracing::warn!(
            most,
            "all connections are taken, more have to wait: see limits.connections"
        );
    }
    loop {
        // Never closed, so always a permit.
        let Ok(permit) = Arc::clone(room).acquire_owned().await else { continue };
        match listener.accept().await {
            Ok((connection, _)) => return (connection, permit),
            Err(error) if is_its_own(&error) => {}
            Err(error) => {
                tracing::error!(%error, "the system gives no connection, trying again");
                time::sleep(REFUSED_WAIT).await;
            }
        }
    }
}

/// Whether only this one connection has failed, as accept(2) has it.
fn is_its_own(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Answers what comes over a connection, on a task of its own.
fn take(
    connection: TcpStream,
    room: OwnedSemaphorePermit,
    router: &Router,
    head_time: Duration,
    connections: &GracefulShutdown,
) {
    // Answers are short and at once; without it they wait for the sender's acknowledgement.
    let _ = connection.set_nodelay(true);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head_time);
    let service = TowerToHyperService::new(router.clone());
    let served = connections.watch(http.serve_connection(TokioIo::new(connection), service));
    tokio::spawn(async move {
        if let Err(error) = served.await {
            tracing::debug!(error = &error as &dyn std::error::Error, "connection ended early");
        }
        drop(room);
    });
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::SocketAddr,
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        thread,
    };

    use axum::routing::get;
    use tokio::sync::{Notify, oneshot};

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";

    struct Served {
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        ended: tokio::task::JoinHandle<()>,
    }

    async fn start(router: Router, connections: usize, head_time: Duration) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let limits =
            Limits { connections, head_time, shutdown_deadline: Duration::from_millis(100) };
        let shutdown = async { drop(stopped.await) };
        let ended = tokio::spawn(serve(listener, router, limits, shutdown));
        Served { address, stop, ended }
    }

    /// Sends on a connection of its own, and reads until it is closed.
    fn ask(address: SocketAddr, bytes: &'static [u8]) -> thread::JoinHandle<String> {
        let mut connection = std::net::TcpStream::connect(address).unwrap();
        connection.write_all(bytes).unwrap();
        thread::spawn(move || {
            let mut said = String::new();
            connection.read_to_string(&mut said).unwrap();
            said
        })
    }

    async fn join(asked: thread::JoinHandle<String>) -> String {
        tokio::task::spawn_blocking(|| asked.join().unwrap()).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_never_says_what_it_wants_is_cut_off_and_makes_room() {
        let router = Router::new().route("/", get(|| async { "here" }));
        let served = start(router, 1, Duration::from_millis(200)).await;
        for silent in [&b""[..], b"GET / HTTP/1.1\r\nhost: ", b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"]
        {
            let silent = ask(served.address, silent);
            let answered = ask(served.address, REQUEST);
            assert!(join(answered).await.ends_with("here"), "the only place is free again");
            join(silent).await;
        }
        served.stop.send(()).unwrap();
        served.ended.await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn so_many_connections_and_no_more() {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (arrived, go_on) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let seen = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&arrived), Arc::clone(&go_on));
        let answer = move || {
            let (now, most, arrived, go_on) = seen.clone();
            async move {
                most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                arrived.add_permits(1);
                go_on.acquire().await.unwrap().forget();
                now.fetch_sub(1, SeqCst);
                "here"
            }
        };
        let served = start(Router::new().route("/", get(answer)), 2, HEAD_TIME_MAX).await;
        let asked: Vec<_> = (0..8).map(|_| ask(served.address, REQUEST)).collect();
        for _ in 0..8 {
            arrived.acquire().await.unwrap().forget();
            go_on.add_permits(1);
        }
        for asked in asked {
            assert!(join(asked).await.ends_with("here"));
        }
        assert!(most.load(SeqCst) <= 2, "{most:?}");
        served.stop.send(()).unwrap();
        served.ended.await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn stopping_waits_for_an_answer_until_the_deadline() {
        let begun = Arc::new(Notify::new());
        let told = Arc::clone(&begun);
        let never = move || {
            let told = Arc::clone(&told);
            async move {
                told.notify_one();
                std::future::pending::<&str>().await
            }
        };
        let served = start(Router::new().route("/", get(never)), 2, HEAD_TIME_MAX).await;
        let asked = ask(served.address, REQUEST);
        begun.notified().await;
        served.stop.send(()).unwrap();
        served.ended.await.unwrap();
        drop(asked);
    }

    #[test]
    fn the_system_s_limit_counts() {
        assert_eq!(connections_allowed(1), 1);
        let (files, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let most = connections_allowed(usize::MAX);
        assert!(most >= 1 && (most as u64) < files.max(2), "{most} of {files}");
    }
}
