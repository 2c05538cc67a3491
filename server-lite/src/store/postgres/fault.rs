//! Why a transaction failed, and so what is to be done: try again, try each request alone, or say so.

use tokio_postgres::error::SqlState;

use super::connect::database;
use crate::store::StoreError;

/// Why a group isn't stored.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The database couldn't be reached, or not in time.
    Store(StoreError),
    /// It refused.
    Refused(tokio_postgres::Error),
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Refused(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Fault {
    fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Refused(error) => error.code(),
            Self::Store(_) => None,
        }
    }

    /// Two hubs waited for each other, or a partition was dropped meanwhile.
    pub(crate) fn may_go_by(&self) -> bool {
        let codes = [
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::CHECK_VIOLATION,
            SqlState::UNDEFINED_TABLE,
        ];
        self.code().is_some_and(|code| codes.contains(code))
    }

    /// What is sent is at fault, not how the database is: data, constraints, limits of a row.
    pub(crate) fn is_by_content(&self) -> bool {
        let class = self.code().and_then(|code| code.code().get(..2));
        class.is_some_and(|class| ["22", "23", "54"].contains(&class))
    }

    pub(crate) fn into_error(self) -> StoreError {
        match self {
            Self::Store(error) => error,
            Self::Refused(error) => database("store requests")(error),
        }
    }
}

/// An error with all that led to it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
