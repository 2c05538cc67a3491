//! What `holdfast-hub doctor` finds, in any store.

/// How it stands with something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Nothing is lost, and somebody should look.
    Doubtful,
    /// Something is lost, or will be.
    Bad,
}

/// What was looked at, and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it stands.
    pub verdict: Verdict,
    /// With what.
    pub what: &'static str,
    /// In words.
    pub says: String,
}

impl Finding {
    pub(crate) fn new(verdict: Verdict, what: &'static str, says: impl Into<String>) -> Self {
        Self { verdict, what, says: says.into() }
    }
}
