//! Where tests hold a worker: just before or after a line of a task's log is written, so that it can be killed
//! or stopped at exactly that boundary between two steps.
//!
//! Debug builds only: a release must never wait for what a test says. A worker that is held shows that it lives.

/// The moment to hold at. A release has nothing to say here.
#[derive(Debug, Clone, Default)]
pub struct Hold {
    /// `STEP:EVENT:before` or `STEP:EVENT:after` of a line of the log, as `stage:do_finished:before`, or
    /// `conclude:before` or `conclude:after` of a task's end.
    #[cfg(debug_assertions)]
    pub at: Option<String>,
    /// File that ends the hold when it is there; without one it never ends.
    #[cfg(debug_assertions)]
    pub until: Option<std::path::PathBuf>,
}

impl Hold {
    /// Says that the moment was reached and stays there, if it is the one asked for.
    #[cfg(debug_assertions)]
    pub(super) async fn checkpoint(&self, moment: impl FnOnce() -> String) {
        let Some(at) = self.at.as_ref().filter(|at| **at == moment()) else { return };
        tracing::info!("held at {at}");
        while !self.until.as_ref().is_some_and(|file| file.exists()) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Goes on.
    #[cfg(not(debug_assertions))]
    pub(super) async fn checkpoint(&self, _: impl FnOnce() -> String) {}
}
