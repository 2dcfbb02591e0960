//! The one error that people and programs see.
//!
//! A problem names the thing, the cause and the next step. Libraries' errors ride along as its source
//! and are logged; they are never pasted into the message.

use std::{
    collections::BTreeSet,
    error::Error as StdError,
    sync::{Mutex, PoisonError},
};

/// What sort of problem it is, for exit codes and HTTP statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The input is broken or not what it says it is.
    Invalid,
    /// The input looks made to do harm, or a finding stands that was not accepted.
    Refused,
    /// Something that was named does not exist.
    Missing,
    /// A right or a password is missing or wrong.
    Denied,
    /// Someone else is at work on the same thing, or it is in another state than asked for.
    Conflict,
    /// A server did not answer, broke off, or has no room: trying again may help.
    Unavailable,
    /// The restored system did not prove whole; the live one is as it was.
    NotProven,
    /// A journal could be brought to neither end by itself; the message has the operator's command.
    Stuck,
    /// The caller asked to stop.
    Cancelled,
    /// A defect of Undoo.
    Internal,
}

/// An error with a kind, a stable code, a sentence that names thing and cause, and the next step.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// See [`Kind`].
    pub kind: Kind,
    /// Stable name, `snake_case`.
    pub code: &'static str,
    /// What went wrong, naming the thing and the cause.
    pub message: String,
    /// What the reader can do next; empty where there is nothing to be done.
    pub remedy: String,
    /// The error underneath, for the log.
    #[source]
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What fallible functions of this project return.
pub type Result<T, E = Problem> = std::result::Result<T, E>;

impl Problem {
    /// A problem without an underlying error.
    pub fn new(
        kind: Kind,
        code: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { kind, code, message: message.into(), remedy: remedy.into(), source: None }
    }

    /// A problem that another process of ours has written down.
    pub fn from_wire(kind: Kind, code: &str, message: String, remedy: String) -> Self {
        Self { kind, code: known_code(code), message, remedy, source: None }
    }

    /// The next step as a sentence of its own, however it was written down; a command stays as it is typed.
    pub fn next_step(&self) -> String {
        let mut letters = self.remedy.chars();
        match letters.next() {
            Some(first) if !self.remedy.starts_with("undoo ") => {
                first.to_uppercase().chain(letters).collect()
            }
            _ => self.remedy.clone(),
        }
    }

    /// Keeps the underlying error for the log.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Whether doing the same again later cannot help: all but what a server, a network or a disk may mend
    /// by itself.
    pub fn is_permanent(&self) -> bool {
        self.kind != Kind::Unavailable
    }

    /// The process exit code for this problem; documented in the guide of the command line.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Internal => 1,
            Kind::Invalid => 3,
            Kind::Refused => 4,
            Kind::Missing => 5,
            Kind::Denied => 6,
            Kind::Conflict => 7,
            Kind::Unavailable => 8,
            Kind::NotProven => 9,
            Kind::Stuck => 10,
            Kind::Cancelled => 130,
        }
    }
}

/// Codes live as long as the process, so that they can be compared and matched as constants. Those that
/// come over a wire are kept once each, and only so many: a mover that a hostile backup has taken over
/// must not fill our memory with invented ones.
fn known_code(code: &str) -> &'static str {
    const MOST: usize = 1024;
    const LONGEST: usize = 80;
    static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(code) = known.get(code) {
        return code;
    }
    if known.len() >= MOST || code.len() > LONGEST {
        return "unknown_code";
    }
    let code: &'static str = Box::leak(code.to_owned().into_boxed_str());
    known.insert(code);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_next_step_begins_like_a_sentence_and_a_command_as_it_is_typed() {
        let step = |remedy: &str| Problem::new(Kind::Invalid, "a_code", "", remedy).next_step();
        assert_eq!(step("wait, then try again"), "Wait, then try again");
        assert_eq!(step("`undoo migrate` does it"), "`undoo migrate` does it");
        assert_eq!(step("undoo resume docker:odoo"), "undoo resume docker:odoo");
        assert_eq!(step(""), "");
    }

    #[test]
    fn a_code_from_the_wire_is_kept_once_and_an_endless_one_is_not_kept() {
        let code = |code: &str| Problem::from_wire(Kind::Invalid, code, String::new(), String::new()).code;
        assert!(std::ptr::eq(code("a_code"), code("a_code")));
        assert_eq!(code(&"x".repeat(1000)), "unknown_code");
    }
}
