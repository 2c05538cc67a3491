//! Processes and threads by state: `/proc/<pid>/stat`, and `/proc/<pid>/task/<tid>/stat` of processes that
//! have more than one thread.
//!
//! To let the kernel write a `stat` is nearly all it costs, so a process with one thread is read once.
//! A process may go at any moment; one that went is not counted.

use std::{io::Write as _, path::PathBuf};

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};
use nix::{
    errno::Errno,
    fcntl::{OFlag, openat},
    sys::stat::Mode,
    unistd::read,
};

use crate::{
    directory::Directory,
    parse::{ParseError, Words},
    reader::KeptFile,
    states::States,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "processes",
    summary: "Processes and threads by state, and how many there may be.",
    reads: &[
        "/proc/<pid>/stat",
        "/proc/<pid>/task",
        "/proc/sys/kernel/pid_max",
        "/proc/sys/kernel/threads-max",
    ],
    default_enabled: false,
    options: &[],
    build,
};

const THREADS: Metric<'_> = Metric::gauge("node_processes_threads", "Allocated threads in system");
const THREADS_MAX: Metric<'_> =
    Metric::gauge("node_processes_max_threads", "Limit of threads in the system");
const STATE: Metric<'_> =
    Metric::gauge("node_processes_state", "Number of processes in each state.");
const THREADS_STATE: Metric<'_> =
    Metric::gauge("node_processes_threads_state", "Number of threads in each state.");
const PIDS: Metric<'_> = Metric::gauge("node_processes_pids", "Number of PIDs");
const PIDS_MAX: Metric<'_> =
    Metric::gauge("node_processes_max_processes", "Number of max PIDs limit");

/// Longer than any: 52 numbers of at most 20 digits and a name.
const STAT_BYTES_MAX: usize = 2 << 10;
/// Processes and threads that are read in a tick; those of a host with more would take a second.
const READS_MAX: usize = 100_000;
/// Waiting for a disk, idle, running, sleeping, stopped, defunct, traced: proc(5). Others last no tick.
const STATES: &[u8] = b"DIRSTZt";
/// The fields between state and number of threads.
const FIELDS_BETWEEN: usize = 16;

struct Processes {
    path: PathBuf,
    directory: Option<Directory>,
    threads_max: KeptFile,
    pids_max: KeptFile,
    scan: Scan,
}

/// What a scan needs, and what it found.
struct Scan {
    reads_left: usize,
    pids: Vec<u32>,
    threads_of: Vec<u32>,
    /// A path below the directory, as `17/stat`.
    below: Vec<u8>,
    buffer: Vec<u8>,
    processes: u64,
    threads: u64,
    states: States<u8>,
    thread_states: States<u8>,
    denied: bool,
}

/// A process or thread as `stat` has it.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    /// A letter.
    state: u8,
    threads: u64,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let file = |name: &str| KeptFile::new(context.roots.proc(name));
    Ok(Box::new(Processes {
        path: context.roots.procfs.clone(),
        directory: None,
        threads_max: file("sys/kernel/threads-max"),
        pids_max: file("sys/kernel/pid_max"),
        scan: Scan::new(),
    }))
}

impl Collector for Processes {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let threads_max = number(&mut self.threads_max)?;
        let pids_max = number(&mut self.pids_max)?;
        let failed = |error: Errno| CollectError::from_io(&self.path, &error.into());
        let directory = match &mut self.directory {
            Some(directory) => directory,
            none => none.insert(Directory::open(&self.path).map_err(failed)?),
        };
        let scan = &mut self.scan;
        scan.all(directory).map_err(|(what, reason)| {
            CollectError::failed(self.path.join(what).display().to_string(), reason)
        })?;
        out.push(&THREADS, &[], scan.threads as f64);
        out.push(&THREADS_MAX, &[], threads_max);
        push(out, &STATE, "state", &scan.states);
        push(out, &THREADS_STATE, "thread_state", &scan.thread_states);
        out.push(&PIDS, &[], scan.processes as f64);
        out.push(&PIDS_MAX, &[], pids_max);
        if scan.denied {
            out.remark("processes of others: permission denied (is /proc mounted with hidepid?)");
        }
        Ok(())
    }
}

fn push(out: &mut Samples, metric: &Metric<'_>, label: &str, states: &States<u8>) {
    for (state, count) in states.iter() {
        let letter = [*state];
        let state = std::str::from_utf8(&letter).unwrap_or("?");
        out.push(metric, &[(label, state)], *count as f64);
    }
}

fn number(file: &mut KeptFile) -> Result<f64, CollectError> {
    let text = file.text()?;
    let number = Words::new(1, text.content).number("number");
    number.map(|number| number as f64).map_err(|error| text.malformed(&error))
}

/// The path that is wrong, and why.
type Wrong = (String, String);

impl Scan {
    fn new() -> Self {
        Self {
            reads_left: 0,
            pids: Vec::new(),
            threads_of: Vec::new(),
            below: Vec::new(),
            buffer: vec![0; STAT_BYTES_MAX],
            processes: 0,
            threads: 0,
            states: States::new(STATES),
            thread_states: States::new(STATES),
            denied: false,
        }
    }

    fn all(&mut self, directory: &mut Directory) -> Result<(), Wrong> {
        self.states.restart();
        self.thread_states.restart();
        (self.processes, self.threads, self.reads_left) = (0, 0, READS_MAX);
        self.denied = false;
        let mut pids = std::mem::take(&mut self.pids);
        let listed = list(directory, &mut pids).map_err(|error| (String::new(), error.to_string()));
        let scanned =
            listed.and_then(|()| pids.iter().try_for_each(|pid| self.one(directory, *pid)));
        self.pids = pids;
        scanned
    }

    fn one(&mut self, directory: &Directory, pid: u32) -> Result<(), Wrong> {
        let Some(stat) = self.stat(directory, pid, None)? else { return Ok(()) };
        self.processes += 1;
        self.threads += stat.threads;
        self.states.add(stat.state);
        self.thread_states.add(stat.state);
        if stat.threads > 1 {
            self.other_threads(directory, pid)?;
        }
        Ok(())
    }

    /// The threads of a process beside its first one.
    fn other_threads(&mut self, directory: &Directory, pid: u32) -> Result<(), Wrong> {
        self.path(pid, "task");
        let opened = Directory::open_at(directory, self.below.as_slice());
        let mut threads = std::mem::take(&mut self.threads_of);
        let listed = opened.and_then(|mut tasks| list(&mut tasks, &mut threads).map(|()| tasks));
        let scanned = match listed {
            Ok(tasks) => threads.iter().filter(|thread| **thread != pid).try_for_each(|thread| {
                if let Some(stat) = self.stat(&tasks, *thread, Some(pid))? {
                    self.thread_states.add(stat.state);
                }
                Ok(())
            }),
            Err(error) => self.passed_over(error).map_err(|reason| (format!("{pid}/task"), reason)),
        };
        self.threads_of = threads;
        scanned
    }

    /// Reads one; `None` if it went meanwhile, or isn't ours to read.
    fn stat(
        &mut self,
        directory: &Directory,
        id: u32,
        of: Option<u32>,
    ) -> Result<Option<Stat>, Wrong> {
        let wrong = |reason: String| match of {
            Some(process) => (format!("{process}/task/{id}/stat"), reason),
            None => (format!("{id}/stat"), reason),
        };
        if self.reads_left == 0 {
            let reason =
                format!("more than {READS_MAX} processes and threads: switch this collector off");
            return Err((String::new(), reason));
        }
        self.reads_left -= 1;
        self.path(id, "stat");
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let length = openat(directory, self.below.as_slice(), flags, Mode::empty())
            .and_then(|file| read(&file, &mut self.buffer));
        match length {
            Ok(length) => parse(&self.buffer[..length]).map(Some).map_err(|e| wrong(e.to_string())),
            Err(error) => self.passed_over(error).map(|()| None).map_err(wrong),
        }
    }

    fn passed_over(&mut self, error: Errno) -> Result<(), String> {
        match error {
            Errno::ENOENT | Errno::ESRCH => Ok(()),
            Errno::EACCES | Errno::EPERM => {
                self.denied = true;
                Ok(())
            }
            error => Err(error.desc().to_owned()),
        }
    }

    fn path(&mut self, id: u32, name: &str) {
        self.below.clear();
        // writing to a Vec can't fail
        let _ = write!(self.below, "{id}/{name}");
    }
}

/// The numbers among the entries of a directory.
fn list(directory: &mut Directory, numbers: &mut Vec<u32>) -> Result<(), Errno> {
    numbers.clear();
    directory.list(|entry| {
        let name = entry.name.to_bytes();
        if name.first().is_some_and(u8::is_ascii_digit)
            && let Ok(number) = std::str::from_utf8(name).unwrap_or_default().parse()
        {
            numbers.push(number);
        }
    })
}

/// `17 (name) S 1 …`: the name may hold anything, also parentheses.
fn parse(stat: &[u8]) -> Result<Stat, ParseError> {
    let end = stat.iter().rposition(|byte| *byte == b')');
    let end = end.ok_or_else(|| ParseError::new(1, "name", "not in parentheses"))?;
    let fields = std::str::from_utf8(&stat[end + 1..])
        .map_err(|_| ParseError::new(1, "fields", "not UTF-8"))?;
    let mut words = Words::new(1, fields);
    let state = match words.word("state")?.as_bytes() {
        [letter] if letter.is_ascii_alphabetic() => *letter,
        _ => return Err(ParseError::new(1, "state", "not a letter")),
    };
    for _ in 0..FIELDS_BETWEEN {
        words.word("a field between state and threads")?;
    }
    Ok(Stat { state, threads: words.number("threads")? })
}

#[cfg(test)]
mod tests;
