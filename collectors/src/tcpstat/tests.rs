use std::{
    fs,
    net::TcpListener,
    os::{
        fd::{IntoRawFd as _, OwnedFd},
        unix::net::UnixDatagram,
    },
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use nix::errno::Errno;

use super::{
    answer::{
        AnswerError,
        tests::{done, refused, socket},
    },
    text::tests::TCP,
    *,
};

/// A collector over a directory with the text of three connections, and with that way to ask.
fn collector(open: fn() -> Result<OwnedFd, Errno>) -> (tempfile::TempDir, Tcpstat) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tcp");
    fs::write(&path, TCP).unwrap();
    let (four, six) = (KeptFile::new(path), KeptFile::new(directory.path().join("tcp6")));
    let kernel = Some(Kernel::new(Diag::new(open)));
    (directory, Tcpstat { kernel, four, six, counts: Counts::new() })
}

/// What one tick says: connections by state where there are any, bytes, remarks.
fn said(collector: &mut Tcpstat) -> String {
    let mut out = Samples::new("tcpstat");
    collector.collect(&mut out).unwrap();
    let remarks = out.remarks();
    let (schema, values) = out.finish();
    let names = schema.schema.iter().map(|(_, labels)| labels[0].1.clone());
    let there = names.zip(values).filter(|(_, value)| **value > 0.0);
    let there: Vec<_> = there.map(|(name, value)| format!("{name} {value}")).collect();
    format!("{}; {remarks}", there.join(", "))
}

const OF_TEXT: &str = "established 1, time_wait 1, listen 1, unknown 1, rx_queued_bytes 258, tx_queued_bytes 26; sock_diag: ";

/// A kernel that has answered before it is asked.
fn answering(parts: &[Vec<u8>]) -> OwnedFd {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    parts.iter().for_each(|part| _ = theirs.send(part).unwrap());
    // who asks finds it open; the end of the process closes it
    let _ = OwnedFd::from(theirs).into_raw_fd();
    ours.into()
}

#[test]
fn answers_of_both_families_are_added_up_over_one_socket() {
    static OPENED: AtomicU32 = AtomicU32::new(0);
    let (_directory, mut collector) = collector(|| {
        OPENED.fetch_add(1, Ordering::Relaxed);
        let long = vec![socket(1, 6, 0, 0); 300].concat();
        Ok(answering(&[
            [socket(1, 1, 256, 26), socket(1, 10, 2, 4096)].concat(),
            long,
            done(1),
            [socket(2, 1, 1, 1), socket(2, 12, 0, 0), done(2)].concat(),
            done(3),
            [socket(4, 8, 0, 5), done(4)].concat(),
        ]))
    });
    let expected = "established 2, time_wait 300, listen 1, unknown 1, rx_queued_bytes 259, tx_queued_bytes 27; ";
    assert_eq!(said(&mut collector), expected);
    assert_eq!(said(&mut collector), "close_wait 1, tx_queued_bytes 5; ");
    assert_eq!(OPENED.load(Ordering::Relaxed), 1);
}

#[test]
fn text_stands_in_for_a_kernel_that_refuses() {
    let check = |open: fn() -> Result<OwnedFd, Errno>, reason: &str| {
        let (_directory, mut collector) = collector(open);
        let expected = format!("{OF_TEXT}{reason}: /proc/net/tcp is read, which costs more");
        assert_eq!(said(&mut collector), expected);
        assert_eq!(said(&mut collector), expected);
    };
    check(|| Err(Errno::EAFNOSUPPORT), "socket: Address family not supported by protocol");
    check(|| Ok(answering(&[refused(1, 2)])), "No such file or directory (os error 2)");
    // part of an answer isn't counted
    let broken = || Ok(answering(&[socket(1, 1, 1, 1), vec![0; 15]]));
    check(broken, "message 1 of the answer: a header cut off");
    check(|| Ok(answering(&[vec![]])), "a part of 0 bytes in the answer");
    check(|| Ok(answering(&[vec![0; 32_769]])), "a part of 32769 bytes in the answer");
    let closed = || UnixDatagram::pair().map(|(ours, _)| ours.into()).map_err(|_| Errno::EMFILE);
    check(closed, "send: Connection refused");
}

#[test]
fn a_kernel_that_refused_is_asked_again_later() {
    static ANSWERS: Mutex<Vec<Result<OwnedFd, Errno>>> = Mutex::new(Vec::new());
    let again = answering(&[done(1), [socket(2, 3, 0, 0), done(2)].concat()]);
    *ANSWERS.lock().unwrap() = vec![Ok(again), Err(Errno::EPERM)];
    let (_directory, mut collector) =
        collector(|| ANSWERS.lock().unwrap().pop().expect("it is asked no more than that"));
    for _ in 0..REFUSED_TICKS {
        assert!(said(&mut collector).starts_with(OF_TEXT));
    }
    assert_eq!(said(&mut collector), "syn_recv 1; ");
}

#[test]
fn connections_are_bounded() {
    let mut counts = Counts { total: CONNECTIONS_MAX - 1, ..Counts::new() };
    let connection = Connection { state: 1, receive_bytes: 0, send_bytes: 0 };
    counts.add(connection).unwrap();
    let error = counts.add(connection).unwrap_err().to_string();
    assert_eq!(error, "more than 1000000 connections: switch this collector off");
}

#[test]
fn this_kernel_tells_of_all_listeners_in_both_ways() {
    const OURS: usize = 200;
    let listeners: Vec<_> = (0..OURS).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let listening = |counts: &Counts| counts.states.iter().find(|(n, _)| *n == "listen").unwrap().1;
    let (mut asked, mut read) = (Counts::new(), Counts::new());
    let mut diag = Diag::new(diag::open);
    for family in FAMILIES {
        match diag.dump(family, |connection| asked.add(connection)) {
            Err(
                error @ DiagError::Call { .. } | error @ DiagError::Answer(AnswerError::Refused(_)),
            ) => {
                println!("SKIPPED: netlink is refused here: {error}");
                return;
            }
            answered => answered.unwrap(),
        }
    }
    text::read(&mut KeptFile::new("/proc/net/tcp".into()), &mut read).unwrap();
    // other programs may begin or end to listen in between
    let (asked, read) = (listening(&asked), listening(&read));
    assert!(asked >= OURS as u64 && read >= OURS as u64, "{asked} {read}");
    drop(listeners);
}

#[test]
fn only_the_kernel_is_asked_for_what_a_procfs_would_say() {
    let directory = tempfile::tempdir().unwrap();
    assert!(is_procfs("/proc".as_ref()));
    assert!(!is_procfs(directory.path()));
    assert!(!is_procfs("/nowhere/proc".as_ref()));
}
