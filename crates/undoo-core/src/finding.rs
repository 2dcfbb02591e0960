//! What inspection and preflight have to say about a backup or a target before anything is touched.
//!
//! A finding is not an error: it is a fact with a consequence. An `Error` finding stops a restore unless
//! a person accepts it by its code; some can never be accepted, because no one could mean it.

use serde::{Deserialize, Serialize};

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing is asked.
    Info,
    /// Something will be done differently, or is worse than it could be.
    Warning,
    /// The restore does not go on unless this finding's code is accepted.
    Error,
}

/// One fact about a backup or a target, with what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Finding {
    /// Stable name, `snake_case`; findings about one piece of code end in `:` and its hash, so that
    /// accepting one accepts exactly that text.
    pub code: String,
    /// See [`Severity`].
    pub severity: Severity,
    /// What was found, naming the thing. One sentence.
    pub message: String,
    /// What will be done about it, or what the reader can do.
    pub remedy: String,
    /// Whether `--accept CODE` lets a restore go on in spite of it. Meaningless below `Error`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub acceptable: bool,
}

impl Finding {
    /// A fact that asks for nothing.
    pub fn info(code: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(code, Severity::Info, message, remedy, false)
    }

    /// A fact with a consequence that does not stop a restore.
    pub fn warning(code: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, message, remedy, false)
    }

    /// A fact that stops a restore until someone accepts its code.
    pub fn needs_acceptance(
        code: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(code, Severity::Error, message, remedy, true)
    }

    /// A fact that stops a restore, whoever accepts it.
    pub fn refusal(code: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, message, remedy, false)
    }

    fn new(
        code: impl Into<String>,
        severity: Severity,
        message: impl Into<String>,
        remedy: impl Into<String>,
        acceptable: bool,
    ) -> Self {
        Self { code: code.into(), severity, message: message.into(), remedy: remedy.into(), acceptable }
    }

    /// Whether a restore may go on, given the codes a person has accepted.
    pub fn blocks(&self, accepted: &[String]) -> bool {
        self.severity == Severity::Error && !(self.acceptable && accepted.contains(&self.code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_blocks_even_when_its_code_is_accepted() {
        let finding = Finding::refusal("meta_command", "the dump contains \\!", "use another backup");
        assert!(finding.blocks(&["meta_command".into()]));
    }

    #[test]
    fn an_acceptable_finding_blocks_until_its_exact_code_is_accepted() {
        let finding = Finding::needs_acceptance("code:ab12", "a trigger", "read it");
        assert!(finding.blocks(&["code:ab13".into()]));
        assert!(!finding.blocks(&["code:ab12".into()]));
    }
}
