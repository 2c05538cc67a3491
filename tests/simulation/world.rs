//! What all parts of a run share: time, chance, the trace, the books, and the first thing that went
//! wrong.

use std::{
    cell::{Cell, RefCell, RefMut},
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;
use wire::AgentId;

use crate::{
    book::{Book, Checked},
    plan::{AgentPlan, Plan},
    random::Random,
};

/// 2026-01-01: when every run begins.
const BEGINS_MS: i64 = 1_767_225_600_000;

/// See the module's opening.
pub(crate) struct World {
    pub(crate) plan: Plan,
    /// For parts to fork theirs from.
    pub(crate) random: RefCell<Random>,
    begins: Instant,
    books: Vec<RefCell<Book>>,
    directory: tempfile::TempDir,
    directories: Cell<u64>,
    trace: RefCell<Vec<String>>,
    violation: RefCell<Option<String>>,
}

impl World {
    /// Draws a plan. Call it inside a runtime whose time is paused.
    pub(crate) fn new(seed: u64) -> io::Result<Self> {
        let mut random = Random::new(seed);
        let plan = Plan::draw(&mut random.fork());
        let id = |n: usize| AgentId::from_bytes([n as u8 + 1; 16]);
        let book = |(n, agent): (usize, &AgentPlan)| RefCell::new(Book::new(id(n), agent.drops));
        let books = plan.agents.iter().enumerate().map(book).collect();
        let world = Self {
            plan,
            random: RefCell::new(random),
            begins: Instant::now(),
            books,
            directory: directory()?,
            directories: Cell::new(0),
            trace: RefCell::default(),
            violation: RefCell::default(),
        };
        world.note("plan", format_args!("{:?}", world.plan));
        Ok(world)
    }

    /// Unix milliseconds by a right clock.
    pub(crate) fn now_ms(&self) -> i64 {
        BEGINS_MS + self.begins.elapsed().as_millis() as i64
    }

    pub(crate) const fn begins_at(&self) -> Instant {
        self.begins
    }

    /// When trouble ends.
    pub(crate) fn heals_at(&self) -> Instant {
        self.begins + self.plan.trouble
    }

    /// Whether nothing goes wrong any more.
    pub(crate) fn is_healed(&self) -> bool {
        Instant::now() >= self.heals_at()
    }

    /// A moment of trouble, on average `mean` from now; none if it would be after the healing.
    pub(crate) fn trouble_at(
        &self,
        random: &mut Random,
        mean: Option<Duration>,
    ) -> Option<Instant> {
        let at = Instant::now() + random.until_next(mean?);
        (at < self.heals_at()).then_some(at)
    }

    pub(crate) fn fork(&self) -> Random {
        self.random.borrow_mut().fork()
    }

    pub(crate) fn book(&self, agent: usize) -> RefMut<'_, Book> {
        self.books[agent].borrow_mut()
    }

    pub(crate) fn agents(&self) -> usize {
        self.books.len()
    }

    pub(crate) fn agent_of(&self, id: AgentId) -> Option<usize> {
        self.books.iter().position(|book| book.borrow().agent_id == id)
    }

    /// A path that nothing lies at yet.
    pub(crate) fn new_path(&self, name: &str) -> PathBuf {
        self.directories.set(self.directories.get() + 1);
        self.directory.path().join(format!("{}-{name}", self.directories.get()))
    }

    /// Adds an event to the trace.
    pub(crate) fn note(&self, who: impl std::fmt::Display, what: impl std::fmt::Display) {
        let seconds = self.begins.elapsed().as_secs_f64();
        self.trace.borrow_mut().push(format!("{seconds:10.3} {who:<9} {what}"));
    }

    /// Keeps what is wrong, if it is the first.
    pub(crate) fn check(&self, who: impl std::fmt::Display, checked: Checked) {
        let Err(what) = checked else { return };
        let what = format!("{who}: {what}");
        self.note("VIOLATED", &what);
        self.violation.borrow_mut().get_or_insert(what);
    }

    /// What went wrong first.
    pub(crate) fn violation(&self) -> Option<String> {
        self.violation.borrow().clone()
    }

    /// Everything that happened.
    pub(crate) fn trace(&self) -> Vec<String> {
        self.trace.borrow().clone()
    }
}

/// In memory if this machine has such a place: syncing costs nothing there.
fn directory() -> io::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    let fast = memory.is_dir().then(|| tempfile::tempdir_in(memory).ok()).flatten();
    fast.map_or_else(tempfile::tempdir, Ok)
}

/// What a kill leaves: the files as they are at this moment. Closing the original afterwards, which in
/// one process can't be helped, then changes nothing.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        match path.is_dir() {
            true => copy(&path, &target)?,
            false => drop(fs::copy(&path, &target)?),
        }
    }
    Ok(())
}

/// Who, for the trace.
pub(crate) fn agent_name(agent: usize) -> String {
    format!("agent-{agent}")
}
