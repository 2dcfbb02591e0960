//! Whose word counts for the code in a dump.
//!
//! Code that nobody knows is accepted by a person, one hash at a time. A backup of ours lists the code that
//! the live system had, and whoever made it signed that list: where the key is one that the restore was told
//! to trust, the list counts as that person's word. It never counts for anything else: what cannot be
//! accepted is refused, and a list that is not signed, or by another, is not looked at.

use std::collections::BTreeSet;

use undoo_archive::Backup;
use undoo_core::{Finding, Severity};

/// The code that a trusted signature speaks for.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    key: String,
    code: BTreeSet<String>,
}

impl Trust {
    /// What a backup's signature speaks for, given the keys that are trusted.
    pub fn of(backup: &Backup, trusted_keys: &[String]) -> Self {
        match backup.signed_dump() {
            Some((key, record)) if trusted_keys.iter().any(|trusted| trusted == key) => Self {
                key: key.to_owned(),
                code: record.code.iter().map(|hash| format!("code:{hash}")).collect(),
            },
            _ => Self::default(),
        }
    }

    /// A finding about a dump as it stands with this: one that the signature accepts stops nothing, and
    /// says so.
    pub fn settle(&self, finding: Finding) -> Finding {
        if !finding.acceptable || !self.code.contains(&finding.code) {
            return finding;
        }
        let message = format!("accepted by the signature of key {}: {}", self.key, finding.message);
        let remedy = "The backup's manifest lists it, and that key is trusted.".to_owned();
        Finding { severity: Severity::Info, acceptable: false, message, remedy, code: finding.code }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_speaks_for_its_code_and_never_for_what_nobody_can_accept() {
        let trust = Trust { key: "k".into(), code: ["code:ab".to_owned()].into() };
        let listed = trust.settle(Finding::needs_acceptance("code:ab", "a trigger", "read it"));
        assert!(!listed.blocks(&[]) && listed.message == "accepted by the signature of key k: a trigger");
        assert!(trust.settle(Finding::needs_acceptance("code:cd", "a trigger", "read it")).blocks(&[]));
        assert!(trust.settle(Finding::refusal("code:ab", "a program", "find out")).blocks(&[]));
    }
}
