//! Whom a piece of work is done for: who listens to it, and what calls it off.
//!
//! A command listens with its terminal, and is called off by its keys. A worker of the platform does several
//! pieces of work in one process, each with listeners and a stop of its own.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio_util::sync::CancellationToken;
use undoo_engine::order::{Answer, Audience};

use crate::{interrupt::interrupted, ui::Ui};

/// The keys of this process, as a stop.
static KEYS: Stop = Stop(Source::Keys);

/// What calls a piece of work off. Each call is heard once, by all who wait for it at that time: what is put
/// in order after it is not called off by it again.
pub struct Stop(Source);

enum Source {
    /// Ctrl-C, and what asks for the same.
    Keys,
    /// One piece of work among others.
    Token { token: CancellationToken, heard: Arc<AtomicBool> },
}

impl Stop {
    /// The cancelling of a token.
    pub fn by(token: CancellationToken) -> Self {
        Self(Source::Token { token, heard: Arc::default() })
    }

    /// Nothing: for what has to be done to its end.
    pub fn never() -> Self {
        Self::by(CancellationToken::new())
    }

    /// Ends when the work is called off from now on, or was before and nobody has heard it.
    pub fn asked(&self) -> BoxFuture<'static, ()> {
        match &self.0 {
            Source::Keys => interrupted().boxed(),
            Source::Token { heard, .. } if heard.load(Ordering::SeqCst) => std::future::pending().boxed(),
            Source::Token { token, heard } => {
                let (token, heard) = (token.clone(), Arc::clone(heard));
                async move {
                    token.cancelled().await;
                    heard.store(true, Ordering::SeqCst);
                }
                .boxed()
            }
        }
    }
}

/// Whom a piece of work is done for.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// Told of phases and progress.
    pub audience: &'a dyn Audience,
    /// What calls it off.
    pub stop: &'a Stop,
}

impl<'a> Caller<'a> {
    /// Whoever sits at the terminal.
    pub fn at(ui: &'a Ui) -> Self {
        Self { audience: ui, stop: &KEYS }
    }

    /// The same, for an order that only asks: nobody is told of its progress.
    #[must_use]
    pub fn quietly(self) -> Self {
        Self { audience: &|_: Answer| {}, ..self }
    }

    /// Says a sentence.
    pub fn say(&self, line: impl Into<String>) {
        self.audience.tell(Answer::Log { message: line.into() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_is_heard_by_all_who_wait_and_calls_off_nothing_after_it() {
        let token = CancellationToken::new();
        let stop = Stop::by(token.clone());
        let (first, second) = (stop.asked(), stop.asked());
        assert!(stop.asked().now_or_never().is_none());
        token.cancel();
        tokio::join!(first, second);
        assert!(stop.asked().now_or_never().is_none());
        assert!(Stop::never().asked().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_call_that_nobody_waited_for_is_heard_by_the_next_who_does() {
        let token = CancellationToken::new();
        let stop = Stop::by(token.clone());
        token.cancel();
        stop.asked().await;
    }
}
