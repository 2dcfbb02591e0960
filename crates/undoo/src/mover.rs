//! The mover's side of an order: JSON in, JSON lines out, and an end that says how it went.
//!
//! It knows nothing but what its order says. It must never print anything else on standard output.

use std::process::ExitCode;

use tokio::io::AsyncReadExt;
use undoo_core::{Kind, Problem};
use undoo_engine::{
    order::{Answer, Audience, Failure},
    orders::{self, Order},
};

use crate::ui::Ui;

/// Orders are a few kilobytes; accepted codes make them longer.
const LONGEST_ORDER: u64 = 4 << 20;

/// Reads the order, carries it out, and stops on SIGTERM.
pub async fn run() -> ExitCode {
    let ui = Ui::new(true);
    let outcome = match read_order().await {
        Ok(order) => carry_out(order, &ui).await,
        Err(problem) => Err(problem.into()),
    };
    match outcome {
        Ok(result) => {
            ui.tell(Answer::Done { result });
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let code = failure.problem.exit_code();
            ui.tell(Answer::failed(failure));
            ExitCode::from(code)
        }
    }
}

async fn carry_out(order: Order, ui: &Ui) -> Result<serde_json::Value, Failure> {
    let stop = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        outcome = orders::carry_out(order, ui) => outcome,
        () = stop => Err(Problem::new(Kind::Cancelled, "cancelled", "the work was cancelled", "").into()),
    }
}

/// An order from standard input.
///
/// # Errors
/// `Invalid` for anything else.
pub async fn read_order<T: serde::de::DeserializeOwned>() -> Result<T, Problem> {
    let mut bytes = Vec::new();
    let read = tokio::io::stdin().take(LONGEST_ORDER).read_to_end(&mut bytes).await;
    let invalid = |cause: Box<dyn std::error::Error + Send + Sync>| {
        Problem::new(
            Kind::Invalid,
            "order",
            "standard input holds no order of this version",
            "this command is started by undoo itself",
        )
        .caused_by(cause)
    };
    read.map_err(|error| invalid(error.into()))?;
    serde_json::from_slice(&bytes).map_err(|error| invalid(error.into()))
}
