//! Work that may block, off the agent's one thread.

use std::sync::{Arc, Mutex, PoisonError};

use agent_core::SinkError;

/// Runs `work` on `state` on a blocking thread. A caller that doesn't wait for the end leaves the
/// work running; the next call waits for it.
///
/// # Errors
/// What `work` says; [`SinkError::Transient`] if it panicked. It finds the state as it was then, so
/// states here are such that every step leaves them whole.
pub(crate) async fn run<S, T>(
    state: &Arc<Mutex<S>>,
    work: impl FnOnce(&mut S) -> Result<T, SinkError> + Send + 'static,
) -> Result<T, SinkError>
where
    S: Send + 'static,
    T: Send + 'static,
{
    let state = Arc::clone(state);
    let locked = move || work(&mut state.lock().unwrap_or_else(PoisonError::into_inner));
    tokio::task::spawn_blocking(locked).await.unwrap_or_else(|error| {
        Err(SinkError::Transient { reason: format!("write: {error}"), retry_after: None })
    })
}
