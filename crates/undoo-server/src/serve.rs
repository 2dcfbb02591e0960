//! Serving: from the listener to the last answer.

use std::time::Duration;

use axum::{Router, serve::ListenerExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use undoo_core::{Kind, Problem, Result};

use crate::watch;

/// So long the last answers may take once the server is to stop.
const LAST_ANSWERS: Duration = Duration::from_secs(20);

/// Serves until `stop`, then takes no more and sees the last answers off. The router's settings hold the same
/// `stop`, by which endless streams end.
///
/// # Errors
/// `serve_failed` when the listener breaks.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> Result<()> {
    let listener = listener.tap_io(|connection| {
        // Events are small and must not wait for each other.
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!("a connection keeps its delay: {error}");
        }
    });
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let too_long = async {
        stop.cancelled().await;
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        ended = async { serving.await } => ended.map_err(|error| {
            Problem::new(
                Kind::Unavailable,
                "serve_failed",
                "the server cannot take connections any more",
                "See the log, and start it again.",
            )
            .caused_by(error)
        }),
        () = too_long => {
            tracing::warn!("some answers were not taken within {LAST_ANSWERS:?}, and are broken off");
            Ok(())
        }
        never = watch::fold_figures() => never,
    }
}
