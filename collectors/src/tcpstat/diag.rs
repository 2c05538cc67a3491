//! Asks the kernel for its TCP sockets over netlink: one question for each address family, one socket that
//! is kept, one buffer that is reused.

use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt,
            socket, sockopt::ReceiveTimeout,
        },
        time::TimeVal,
    },
};

use super::{
    TooMany,
    answer::{self, AnswerError, Connection, HEADER_BYTES, SOCK_DIAG_BY_FAMILY},
};

/// `AF_INET` and `AF_INET6`.
pub(super) const FAMILIES: [u8; 2] = [2, 10];
const IPPROTO_TCP: u8 = 6;
/// Those that `/proc/net/tcp` has: from established to closing.
const ALL_STATES: u32 = 0xfff;
/// `NLM_F_REQUEST | NLM_F_DUMP`: a question for all there are.
const FLAGS: u16 = 0x301;
/// A question: `inet_diag_req_v2` after its header. What isn't set asks for nothing more.
const REQUEST_BYTES: usize = HEADER_BYTES + 56;
/// The kernel makes no part longer, and makes parts as long as there was room.
const PART_BYTES: usize = 32 << 10;
/// Each has a connection at least.
const PARTS_MAX: usize = super::CONNECTIONS_MAX;
/// The kernel answers while it is asked; this is for one that doesn't.
const PATIENCE: TimeVal = TimeVal::new(2, 0);

/// The kernel's sockets, asked for.
pub(super) struct Diag {
    open: fn() -> Result<OwnedFd, Errno>,
    /// One whose last answer was read to its end.
    socket: Option<OwnedFd>,
    sequence: u32,
    part: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiagError {
    /// A system call failed.
    #[error("{call}: {}", .errno.desc())]
    Call {
        /// Which.
        call: &'static str,
        /// How.
        errno: Errno,
    },
    /// The kernel refuses, or says what can't be read.
    #[error("{0}")]
    Answer(AnswerError<TooMany>),
    /// A part that there is no room for, or with nothing in it.
    #[error("a part of {0} bytes in the answer")]
    Part(usize),
    /// An answer that doesn't end.
    #[error("an answer of more than {PARTS_MAX} parts")]
    Endless,
    /// There are more than we look at.
    #[error(transparent)]
    TooMany(TooMany),
}

/// A socket to ask with. What it can be asked for needs no privilege, and nothing can be changed over it
/// without one.
pub(super) fn open() -> Result<OwnedFd, Errno> {
    let (family, protocol) = (AddressFamily::Netlink, SockProtocol::NetlinkSockDiag);
    let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, protocol)?;
    setsockopt(&socket, ReceiveTimeout, &PATIENCE)?;
    Ok(socket)
}

impl Diag {
    /// Sockets to ask with are made by `open`.
    pub(super) fn new(open: fn() -> Result<OwnedFd, Errno>) -> Self {
        Self { open, socket: None, sequence: 0, part: Vec::new() }
    }

    /// Gives the connections of a family to `each`, until that has had enough.
    pub(super) fn dump(
        &mut self,
        family: u8,
        mut each: impl FnMut(Connection) -> Result<(), TooMany>,
    ) -> Result<(), DiagError> {
        let failed = |call| move |errno| DiagError::Call { call, errno };
        // what is left of an answer goes with the socket
        let socket = self.socket.take().map_or_else(self.open, Ok).map_err(failed("socket"))?;
        self.sequence = self.sequence.wrapping_add(1);
        let request = request(family, self.sequence);
        send(socket.as_raw_fd(), &request, MsgFlags::empty()).map_err(failed("send"))?;
        self.part.resize(PART_BYTES, 0);
        for _ in 0..PARTS_MAX {
            let length = receive(&socket, &mut self.part).map_err(failed("recv"))?;
            let part = self.part.get(..length).filter(|part| !part.is_empty());
            let part = part.ok_or(DiagError::Part(length))?;
            if answer::read(part, self.sequence, &mut each)? {
                self.socket = Some(socket);
                return Ok(());
            }
        }
        Err(DiagError::Endless)
    }
}

/// One part of an answer; its length is the true one, if there was no room for it too.
fn receive(socket: &OwnedFd, part: &mut [u8]) -> Result<usize, Errno> {
    loop {
        match recv(socket.as_raw_fd(), part, MsgFlags::MSG_TRUNC) {
            Err(Errno::EINTR) => {}
            received => return received,
        }
    }
}

fn request(family: u8, sequence: u32) -> [u8; REQUEST_BYTES] {
    let mut request = [0; REQUEST_BYTES];
    let mut put = |at: usize, bytes: &[u8]| request[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &(REQUEST_BYTES as u32).to_ne_bytes());
    put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(6, &FLAGS.to_ne_bytes());
    put(8, &sequence.to_ne_bytes());
    put(HEADER_BYTES, &[family, IPPROTO_TCP]);
    put(HEADER_BYTES + 4, &ALL_STATES.to_ne_bytes());
    request
}

impl From<AnswerError<TooMany>> for DiagError {
    fn from(error: AnswerError<TooMany>) -> Self {
        match error {
            AnswerError::Enough(too_many) => Self::TooMany(too_many),
            error => Self::Answer(error),
        }
    }
}
