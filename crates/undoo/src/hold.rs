//! Where the tests of the whole hold a cutover or a worker, so that they can kill it at exactly one step.
//!
//! Debug builds only: a release must never wait for what an environment variable says.

use serde::{Deserialize, Serialize};
use undoo_core::Move;
use undoo_engine::order::Audience;

/// The moment to hold at, as it travels to an agent. A release has nothing to say here.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Hold {
    /// `STEP:before` or `STEP:after`, the steps named as in the journal.
    #[cfg(debug_assertions)]
    at: Option<String>,
    /// File, as an agent sees it, that ends the hold when it is there; without one it never ends.
    #[cfg(debug_assertions)]
    #[serde(default)]
    until: Option<std::path::PathBuf>,
}

impl Hold {
    /// What `UNDOO_HOLD_AT` asks for.
    pub fn asked() -> Self {
        Self {
            #[cfg(debug_assertions)]
            at: asked_moment(),
            #[cfg(debug_assertions)]
            until: asked_end(),
        }
    }

    /// Says that the moment was reached and stays there, if it is the one asked for.
    #[cfg(debug_assertions)]
    pub fn checkpoint(&self, step: Move, done: bool, audience: &dyn Audience) {
        let Some(at) = &self.at else { return };
        let name = serde_json::to_value(step).unwrap_or_default();
        let moment = if done { "after" } else { "before" };
        if name.as_str().is_some_and(|name| format!("{name}:{moment}") == *at) {
            audience.tell(undoo_engine::order::Answer::Log { message: format!("held at {at}") });
            while !self.until.as_ref().is_some_and(|file| file.exists()) {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    }

    /// Goes on.
    #[cfg(not(debug_assertions))]
    pub fn checkpoint(&self, _: Move, _: bool, _: &dyn Audience) {}
}

/// What `UNDOO_HOLD_AT` asks a worker for, and until what file `UNDOO_HOLD_UNTIL` is there.
pub fn of_worker() -> undoo_control::work::Hold {
    undoo_control::work::Hold {
        #[cfg(debug_assertions)]
        at: asked_moment(),
        #[cfg(debug_assertions)]
        until: asked_end(),
    }
}

#[cfg(debug_assertions)]
fn asked_moment() -> Option<String> {
    std::env::var("UNDOO_HOLD_AT").ok()
}

#[cfg(debug_assertions)]
fn asked_end() -> Option<std::path::PathBuf> {
    std::env::var_os("UNDOO_HOLD_UNTIL").map(Into::into)
}
