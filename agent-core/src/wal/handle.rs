//! The log's asynchronous face: one thread owns it, everyone else has a [`LogHandle`].
//!
//! Appending waits for the disk; the agent's one thread must not. So the log lives on a thread of its
//! own and is asked by messages. How it stands ([`WalStats`]) is published after every command: looking
//! is free. Where a thread would bring chance in (a simulation), the messages are answered by a future
//! instead ([`LogHandle::local`]).

use std::{
    collections::BTreeMap,
    io,
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use tokio::sync::{mpsc, oneshot, watch};
use wire::{EncodedSchema, Kind, StreamId};

use super::{NewRecord, Wal, WalError, WalStats};
use crate::sink::{Batch, BatchLimits, Delivery};

/// Commands that may wait for the log's thread. Each caller waits for its answer, so that this is a
/// bound on callers.
const COMMANDS_MAX: usize = 64;

/// A [`NewRecord`] that owns what it needs to travel to the log's thread.
#[derive(Clone, Debug)]
pub struct OwnedRecord {
    /// What the payload is.
    pub kind: Kind,
    /// Unix milliseconds of what it tells.
    pub time_ms: i64,
    /// Samples in it.
    pub samples: u64,
    /// The encoded value.
    pub payload: Vec<u8>,
    /// Every schema it names.
    pub schemas: Vec<Arc<EncodedSchema>>,
}

type Reply<T> = oneshot::Sender<Result<T, WalError>>;

/// What [`Wal::read`] said after an acknowledgement.
pub type WhatFollows = Result<Option<Batch>, WalError>;

enum Command {
    Append(Arc<OwnedRecord>, Reply<u64>),
    Register(String, Delivery, Reply<u64>),
    RetainSinks(Vec<String>, Reply<Vec<String>>),
    Read(String, BatchLimits, Reply<Option<Batch>>),
    Acknowledge(String, u64, Reply<()>),
    GoOn(String, u64, BatchLimits, Reply<WhatFollows>),
    Close(Reply<()>),
}

#[derive(Debug)]
struct Published {
    state: Mutex<State>,
    appended: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    stream: StreamId,
    stats: WalStats,
    lost: BTreeMap<String, u64>,
}

/// Speaks to the log's thread, or its future. Clones speak to the same one; it ends with the last of
/// them, or when the log is closed.
#[derive(Clone, Debug)]
pub struct LogHandle {
    commands: mpsc::Sender<Command>,
    published: Arc<Published>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl LogHandle {
    /// Moves a log to a thread of its own.
    ///
    /// # Errors
    /// The system's, when it gives no thread.
    pub fn spawn(mut wal: Box<dyn Wal>) -> io::Result<Self> {
        let (mut handle, mut inbox) = Self::to(wal.as_ref());
        let published = Arc::clone(&handle.published);
        let work = move || {
            while let Some(command) = inbox.blocking_recv() {
                if carry_out(command, wal.as_mut(), &published).is_break() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("wal".to_owned()).spawn(work)?;
        handle.thread = Arc::new(Mutex::new(Some(thread)));
        Ok(handle)
    }

    /// A log without a thread: the future answers commands where it is polled, and holds up whoever
    /// polls it while the disk works. The log goes when the future ends or is dropped.
    #[must_use = "without the future no command is answered"]
    pub fn local(mut wal: Box<dyn Wal>) -> (Self, impl Future<Output = ()>) {
        let (handle, mut inbox) = Self::to(wal.as_ref());
        let published = Arc::clone(&handle.published);
        let serve = async move {
            while let Some(command) = inbox.recv().await {
                if carry_out(command, wal.as_mut(), &published).is_break() {
                    return;
                }
            }
        };
        (handle, serve)
    }

    fn to(wal: &dyn Wal) -> (Self, mpsc::Receiver<Command>) {
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let stats = wal.stats();
        let published = Arc::new(Published {
            state: Mutex::new(State { stream: wal.stream_id(), stats, lost: wal.lost().clone() }),
            appended: watch::Sender::new(stats.last_seq),
        });
        (Self { commands, published, thread: Arc::default() }, inbox)
    }

    /// As [`Wal::append`].
    ///
    /// # Errors
    /// As [`Wal::append`].
    pub async fn append(&self, record: Arc<OwnedRecord>) -> Result<u64, WalError> {
        self.ask(|reply| Command::Append(record, reply)).await
    }

    /// As [`Wal::register`].
    ///
    /// # Errors
    /// As [`Wal::register`].
    pub async fn register(&self, sink: &str) -> Result<u64, WalError> {
        self.register_as(sink, Delivery::Required).await
    }

    /// As [`Wal::register_as`].
    ///
    /// # Errors
    /// As [`Wal::register_as`].
    pub async fn register_as(&self, sink: &str, delivery: Delivery) -> Result<u64, WalError> {
        self.ask(|reply| Command::Register(sink.to_owned(), delivery, reply)).await
    }

    /// As [`Wal::retain_sinks`].
    ///
    /// # Errors
    /// As [`Wal::retain_sinks`].
    pub async fn retain_sinks(&self, sinks: &[&str]) -> Result<Vec<String>, WalError> {
        let sinks = sinks.iter().map(|sink| (*sink).to_owned()).collect();
        self.ask(|reply| Command::RetainSinks(sinks, reply)).await
    }

    /// As [`Wal::read`].
    ///
    /// # Errors
    /// As [`Wal::read`].
    pub async fn read(&self, sink: &str, limits: BatchLimits) -> Result<Option<Batch>, WalError> {
        self.ask(|reply| Command::Read(sink.to_owned(), limits, reply)).await
    }

    /// As [`Wal::acknowledge`].
    ///
    /// # Errors
    /// As [`Wal::acknowledge`].
    pub async fn acknowledge(&self, sink: &str, seq: u64) -> Result<(), WalError> {
        self.ask(|reply| Command::Acknowledge(sink.to_owned(), seq, reply)).await
    }

    /// As [`Wal::acknowledge`] and then [`Wal::read`], for the price of one: the log's thread is woken
    /// once.
    ///
    /// # Errors
    /// As [`Wal::acknowledge`]; nothing was read then.
    pub async fn go_on(
        &self,
        sink: &str,
        seq: u64,
        limits: BatchLimits,
    ) -> Result<WhatFollows, WalError> {
        self.ask(|reply| Command::GoOn(sink.to_owned(), seq, limits, reply)).await
    }

    /// The stream that new records belong to.
    #[must_use]
    pub fn stream_id(&self) -> StreamId {
        self.published.state().stream
    }

    /// How the log stood after the last command.
    #[must_use]
    pub fn stats(&self) -> WalStats {
        self.published.state().stats
    }

    /// As [`Wal::lost`] after the last command.
    #[must_use]
    pub fn lost(&self) -> BTreeMap<String, u64> {
        self.published.state().lost.clone()
    }

    /// Changes whenever a record became durable; holds the highest sequence number.
    #[must_use]
    pub fn appended(&self) -> watch::Receiver<u64> {
        self.published.appended.subscribe()
    }

    /// Makes cursors durable and lets go of the log. Later commands of other clones fail.
    ///
    /// # Errors
    /// As [`Wal::flush`].
    pub async fn close(self) -> Result<(), WalError> {
        let closed = self.ask(Command::Close).await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It has answered: all that is left to it is to drop the log.
            let _ = thread.join();
        }
        closed
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, WalError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| WalError::Closed)?;
        answer.await.map_err(|_| WalError::Closed)?
    }
}

/// Carries out one command; [`ControlFlow::Break`] when the log is to be let go of.
fn carry_out(command: Command, wal: &mut dyn Wal, published: &Published) -> ControlFlow<()> {
    // Published before the answer: whoever has the answer sees its effect.
    match command {
        Command::Append(record, reply) => {
            let appended = wal.append(&borrow(&record));
            publish(wal, published);
            if let Ok(seq) = appended {
                published.appended.send_replace(seq);
            }
            let _ = reply.send(appended);
        }
        Command::Register(sink, delivery, reply) => {
            answer(wal, published, reply, |wal| wal.register_as(&sink, delivery));
        }
        Command::RetainSinks(sinks, reply) => {
            let names: Vec<&str> = sinks.iter().map(String::as_str).collect();
            answer(wal, published, reply, |wal| wal.retain_sinks(&names));
        }
        Command::Read(sink, limits, reply) => {
            answer(wal, published, reply, |wal| wal.read(&sink, limits));
        }
        Command::Acknowledge(sink, seq, reply) => {
            answer(wal, published, reply, |wal| wal.acknowledge(&sink, seq));
        }
        Command::GoOn(sink, seq, limits, reply) => answer(wal, published, reply, |wal| {
            wal.acknowledge(&sink, seq)?;
            Ok(wal.read(&sink, limits))
        }),
        Command::Close(reply) => {
            let _ = reply.send(wal.flush());
            return ControlFlow::Break(());
        }
    }
    ControlFlow::Continue(())
}

fn answer<T>(
    wal: &mut dyn Wal,
    published: &Published,
    reply: Reply<T>,
    act: impl FnOnce(&mut dyn Wal) -> Result<T, WalError>,
) {
    let done = act(wal);
    publish(wal, published);
    let _ = reply.send(done);
}

fn publish(wal: &dyn Wal, published: &Published) {
    let mut state = published.state();
    (state.stream, state.stats) = (wal.stream_id(), wal.stats());
    // Mostly there are none.
    if &state.lost != wal.lost() {
        state.lost.clone_from(wal.lost());
    }
}

impl Published {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn borrow(record: &OwnedRecord) -> NewRecord<'_> {
    NewRecord {
        kind: record.kind,
        time_ms: record.time_ms,
        samples: record.samples,
        payload: &record.payload,
        schemas: &record.schemas,
    }
}
