//! Real threads inside simulated time: the hub's code runs on a runtime of its own, which its store's
//! threads can wake. Simulated time stands still until it is done.

use std::sync::mpsc;

use tokio::runtime::{Builder, Runtime};

/// See the module's opening.
pub(crate) struct Meanwhile {
    /// Until it is dropped.
    runtime: Option<Runtime>,
}

impl Meanwhile {
    /// One thread, so that what it begins at one time is begun in order.
    pub(crate) fn new() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_time().build();
        Self { runtime: Some(runtime.unwrap()) }
    }

    /// Runs it to its end; nothing else happens, and no time passes.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let (done, result) = mpsc::channel();
        let work = async move {
            // Received below.
            let _ = done.send(work.await);
        };
        drop(self.runtime.as_ref().map(|runtime| runtime.spawn(work)));
        result.recv().unwrap_or_else(|_| panic!("the hub's code panicked, see above"))
    }
}

impl Drop for Meanwhile {
    fn drop(&mut self) {
        // Dropped where a runtime may not wait for its threads.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
