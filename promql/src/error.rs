//! What can be wrong with a query, in the words that Prometheus's clients know.

/// Why a query has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is no PromQL, or PromQL that can't be typed; the client's fault.
    #[error("parse error: {0}")]
    Parse(String),
    /// PromQL that this engine knows of and doesn't evaluate.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// The expression is fine and its data isn't: labels that don't match one to one, a bad parameter.
    #[error("{0}")]
    Execution(String),
    /// The query needs more than it was allowed; a bound of [`crate::Limits`].
    #[error("{0}")]
    TooLarge(String),
    /// The deadline has passed.
    #[error("query timed out in expression evaluation")]
    Timeout,
    /// Nobody waits for the answer any more.
    #[error("query was canceled in expression evaluation")]
    Canceled,
    /// The source could not be read.
    #[error("expanding series: {0}")]
    Source(String),
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of evaluation in these words.
pub(crate) fn execution<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::Execution(message.into()))
}

/// What happens when two series of a result would be the same one.
pub(crate) fn same_labels<T>() -> Result<T> {
    execution("vector cannot contain metrics with the same labelset")
}
