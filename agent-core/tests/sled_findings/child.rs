//! This test binary again, as a process of its own: to be looked at, limited or killed.

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// What the child is to do.
const JOB: &str = "HOLDFAST_TEST_JOB";
/// Where.
const DIRECTORY: &str = "HOLDFAST_TEST_WAL";
/// Nothing lies there: trying to open a file in it leaves a mark among the calls of a process.
const MARKS: &str = "/nowhere/mark/";

/// The job and the directory of this process, if it is a child.
pub(crate) fn given() -> Option<(String, PathBuf)> {
    Some((env::var(JOB).ok()?, env::var_os(DIRECTORY)?.into()))
}

/// Leaves a mark.
pub(crate) fn mark(name: &str) {
    assert!(fs::File::open(format!("{MARKS}{name}")).is_err());
}

/// Says something to the parent.
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Lets a child do its job, as an argument of `program`; it must go well.
fn run(program: &[&str], job: &str, directory: &Path) -> Output {
    let output = command(program, job, directory).output().unwrap();
    assert!(output.status.success(), "{job}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn command(program: &[&str], job: &str, directory: &Path) -> Command {
    let this = env::current_exe().unwrap();
    let mut words = program.iter().map(std::ffi::OsStr::new).chain([this.as_os_str()]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args(["--exact", "child", "--nocapture"]);
    command.env(JOB, job).env(DIRECTORY, directory);
    command
}

/// Lets a child do its job; returns what it said.
pub(crate) fn done(job: &str, directory: &Path) -> String {
    String::from_utf8(run(&[], job, directory).stdout).unwrap()
}

/// Lets a child do its job where writing beyond `RLIMIT_FSIZE` is an error and no signal.
pub(crate) fn done_with_limits(job: &str, directory: &Path) {
    run(&["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""], job, directory);
}

/// Lets a child do its job until it has said so many lines, kills it, and returns the last it said.
pub(crate) fn killed_after(lines: usize, job: &str, directory: &Path) -> u64 {
    let mut child = command(&[], job, directory).stdout(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = out.filter_map(|line| line.ok()?.parse().ok());
    let last: Option<u64> = said.by_ref().take(lines).last();
    child.kill().unwrap();
    child.wait().unwrap();
    // What it said before it died counts too.
    said.last().or(last).unwrap()
}

/// A system call of a child, as strace writes it.
#[derive(Debug)]
pub(crate) struct Call {
    /// Its name.
    pub(crate) name: String,
    /// What was given to it, descriptors with their paths.
    arguments: String,
}

impl Call {
    /// Whether it is of that name, on that file.
    pub(crate) fn is(&self, name: &str, file: &Path) -> bool {
        self.name == name && self.is_on(file)
    }

    /// Whether it makes something durable.
    pub(crate) fn is_sync(&self) -> bool {
        SYNCS.contains(&self.name.as_str())
    }

    /// Whether its first argument is a descriptor of that file, or of one below.
    pub(crate) fn is_on(&self, file: &Path) -> bool {
        self.path().starts_with(file)
    }

    /// Whether its first argument is a descriptor of that very file.
    pub(crate) fn is_exactly(&self, file: &Path) -> bool {
        self.path() == file
    }

    fn path(&self) -> &Path {
        let path = self.arguments.split_once('<').map_or("", |(_, rest)| rest);
        Path::new(path.split_once('>').map_or("", |(path, _)| path))
    }
}

/// Calls of a child, in the order in which they began.
#[derive(Debug)]
pub(crate) struct Calls(Vec<Call>);

impl Calls {
    /// Those between two marks; the first of each counts.
    pub(crate) fn between(&self, from: &str, to: &str) -> &[Call] {
        let place = |name: &str| {
            let mark = format!("\"{MARKS}{name}\"");
            let is_mark = |call: &Call| call.arguments.contains(&mark);
            self.0.iter().position(is_mark).unwrap_or_else(|| panic!("no mark {name}"))
        };
        &self.0[place(from)..place(to)]
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[Call] {
        &self.0
    }
}

/// Calls that make something durable.
const SYNCS: [&str; 5] = ["fsync", "fdatasync", "sync", "syncfs", "msync"];

/// Counts calls that make a file durable, or one below.
pub(crate) fn syncs_of(calls: &[Call], file: &Path) -> usize {
    calls.iter().filter(|call| call.is_sync() && call.is_on(file)).count()
}

/// Lets a child do its job and returns its calls about files; `None`, and says so, where this machine
/// can't show them.
pub(crate) fn watched(job: &str, directory: &Path) -> Option<Calls> {
    let aside = tempfile::tempdir().unwrap();
    let out = aside.path().join("calls");
    let path = out.to_str().unwrap();
    let watched = "trace=openat,pwrite64,write,sync_file_range,fsync,fdatasync,sync,syncfs,msync";
    strace(&["-o", path, "-e", watched], job, directory)?;
    let text = fs::read_to_string(out).unwrap();
    Some(Calls(text.lines().filter_map(call).collect()))
}

/// Lets a child do its job until it makes the n-th `write`, of which nothing is done any more; `None`,
/// and says so, where this machine can't do that. False if it had done its job before.
pub(crate) fn killed_at_write(nth: usize, job: &str, directory: &Path) -> Option<bool> {
    let inject = format!("inject=write:signal=KILL:error=EINTR:when={nth}");
    let output = strace(&["-o", "/dev/null", "-e", "trace=write", "-e", &inject], job, directory)?;
    Some(!output.status.success())
}

/// Runs a child below strace.
fn strace(options: &[&str], job: &str, directory: &Path) -> Option<Output> {
    let strace = [&["strace", "-f", "-y", "-s", "0"], options].concat();
    let probe = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        let why = "strace is not there or may not look on, so which calls sync is not verified";
        // Past libtest, which would keep it to itself.
        let _ = writeln!(io::stderr(), "SKIPPED: {job}: {why} (apt-get install strace)");
        return None;
    }
    Some(command(&strace, job, directory).output().unwrap())
}

/// One line: thread, name, arguments. The second half of a call that another came between is none.
fn call(line: &str) -> Option<Call> {
    let (_, call) = line.split_once(' ')?;
    let (name, arguments) = call.trim_start().split_once('(')?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then(|| Call { name: name.to_owned(), arguments: arguments.to_owned() })
}
