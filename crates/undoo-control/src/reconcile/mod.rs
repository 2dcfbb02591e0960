//! What has to stay true without being asked for: looked at now and then, mended where it is not.
//!
//! A reconciler has no input and remembers nothing: it reads how things are, does one small thing about each,
//! and comes again. It never tries twice in one round, since the next round is the second try. Several
//! processes may do the same at once, because what each changes is checked where it is changed.

mod deployments;
mod environments;
mod kept_pairs;
mod pruning;
mod servers;
mod stuck;
mod uploads;

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use undoo_core::Result;

use crate::Control;

/// All of them.
pub struct Reconcilers;

impl Reconcilers {
    /// Runs all of them, each at its own pace, until `stop` is cancelled.
    pub async fn run(control: Control, stop: CancellationToken) {
        let every = |seconds| Duration::from_secs(seconds);
        let all = async {
            tokio::join!(
                paced("kept pairs", every(60), || kept_pairs::reconcile(&control)),
                paced("pruning", every(600), || pruning::reconcile(&control)),
                paced("servers", every(60), || servers::reconcile(&control)),
                paced("environments", every(60), || environments::reconcile(&control)),
                paced("deployments", every(60), || deployments::reconcile(&control)),
                paced("uploads", every(600), || uploads::reconcile(&control)),
                paced("stuck restores", every(120), || stuck::reconcile(&control)),
            );
        };
        tokio::select! {
            () = all => {}
            () = stop.cancelled() => {}
        }
    }

    /// One round of all of them, one after another.
    ///
    /// # Errors
    /// Those of the first that failed.
    pub async fn round(control: &Control) -> Result<()> {
        kept_pairs::reconcile(control).await?;
        pruning::reconcile(control).await?;
        servers::reconcile(control).await?;
        environments::reconcile(control).await?;
        deployments::reconcile(control).await?;
        uploads::reconcile(control).await?;
        stuck::reconcile(control).await
    }
}

async fn paced<F: Future<Output = Result<()>>>(what: &str, pause: Duration, work: impl Fn() -> F) {
    loop {
        if let Err(problem) = work().await {
            tracing::warn!(%problem, what, "a reconciler failed; it comes again");
        }
        tokio::time::sleep(pause).await;
    }
}
