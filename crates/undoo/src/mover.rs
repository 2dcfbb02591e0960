//! The mover's side of orders: a JSON line in, JSON lines out, the last of which says how it went.
//!
//! It takes one order after another until its input is closed, and keeps the target's lock between them.
//! It knows nothing but what its orders say. It must never print anything else on standard output.

use std::{
    io::{BufRead as _, Read as _},
    pin::pin,
    process::ExitCode,
};

use tokio::{io::AsyncReadExt as _, sync::mpsc};
use tokio_util::sync::CancellationToken;
use undoo_core::{Kind, Problem};
use undoo_engine::{
    order::{Answer, Audience},
    orders::{Order, Session},
};

use crate::{interrupt::cancelled, ui::Ui};

/// Orders are a few kilobytes; accepted codes and reports make them longer.
const LONGEST_ORDER: u64 = 16 << 20;

/// Carries out orders until there are no more, or on SIGTERM. A caller that has closed our input has
/// ended, perhaps in the middle of an order: that one is cancelled. Only a lock that is being handed over
/// is kept until the cutover, which needs no caller any more, has come for it.
pub async fn run() -> ExitCode {
    let mut session = Session::default();
    let code = carry_out(&mut session).await;
    session.end().await;
    code
}

async fn carry_out(session: &mut Session) -> ExitCode {
    let ui = Ui::new(true);
    let (mut orders, closed) = orders();
    let mut stop = pin!(terminated());
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            () = &mut stop => None,
        };
        let Some(order) = order else { return ExitCode::SUCCESS };
        let outcome = match order {
            Ok(order) => {
                let outlasts = matches!(order, Order::HandOver { .. });
                tokio::select! {
                    outcome = session.carry_out(order, &ui) => Some(outcome),
                    () = &mut stop => None,
                    () = closed.cancelled(), if !outlasts => None,
                }
            }
            Err(problem) => Some(Err(problem.into())),
        };
        match outcome {
            Some(Ok(result)) => ui.tell(Answer::Done { result }),
            Some(Err(failure)) => ui.tell(Answer::failed(failure)),
            None => {
                let problem = cancelled();
                let code = problem.exit_code();
                session.end().await;
                ui.tell(Answer::failed(problem.into()));
                return ExitCode::from(code);
            }
        }
    }
}

async fn terminated() {
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

/// Orders as they come, and what fires when there will be no more.
fn orders() -> (mpsc::Receiver<Result<Order, Problem>>, CancellationToken) {
    let (orders, received) = mpsc::channel(1);
    let closed = CancellationToken::new();
    let guard = closed.clone().drop_guard();
    // A thread that nobody waits for: a read of standard input cannot be called off.
    std::thread::spawn(move || {
        let _guard = guard;
        let mut input = std::io::stdin().lock();
        loop {
            let mut line = Vec::new();
            let order = match input.by_ref().take(LONGEST_ORDER).read_until(b'\n', &mut line) {
                Ok(0) => return,
                Ok(_) => serde_json::from_slice(&line).map_err(invalid),
                Err(error) => Err(invalid(error)),
            };
            // After what is no order, what follows may be the rest of it.
            let last = order.is_err();
            if orders.blocking_send(order).is_err() || last {
                return;
            }
        }
    });
    (received, closed)
}

/// The one order that standard input holds to its end.
///
/// # Errors
/// `Invalid` for anything else.
pub async fn read_order<T: serde::de::DeserializeOwned>() -> Result<T, Problem> {
    let mut bytes = Vec::new();
    tokio::io::stdin().take(LONGEST_ORDER).read_to_end(&mut bytes).await.map_err(invalid)?;
    serde_json::from_slice(&bytes).map_err(invalid)
}

fn invalid(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Problem {
    Problem::new(
        Kind::Invalid,
        "order",
        "standard input holds no order of this version",
        "this command is started by undoo itself",
    )
    .caused_by(cause)
}
