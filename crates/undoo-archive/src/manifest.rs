//! `manifest.json`, as Odoo writes it and others imitate it.
//!
//! A manifest is a hint: Odoo's own restore never reads it, and anyone can have edited it. Whatever it
//! says is shown as what it says, and nothing is decided by it that the dump itself can tell.

mod conf;
mod json;
pub mod ours;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use undoo_core::Problem;

pub use self::conf::redacted;
use self::ours::{SignatureState, Undoo};

/// A longer manifest is not read.
pub const MAX_MANIFEST: u64 = 16 << 20;

/// What a manifest says. Each part is absent where the manifest lacks it or has something else there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Name of the database that was backed up.
    pub db_name: Option<String>,
    /// Odoo's version, such as `19.0` or `saas~18.3`.
    pub version: Option<String>,
    /// PostgreSQL's version as Odoo writes it: `15.0` for every 15.x.
    pub pg_version: Option<String>,
    /// Installed modules and their versions.
    pub modules: Option<BTreeMap<String, String>>,
    /// Checksums of the backup's parts in hexadecimal, by name.
    pub checksums: BTreeMap<String, String>,
    /// Files in the filestore and their bytes, where it says so.
    pub filestore: Option<(u64, u64)>,
    /// What our own backups say besides.
    pub undoo: Option<Box<Undoo>>,
    /// Whether what they say is signed, and whether the signature holds.
    pub signature: SignatureState,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    db_name: Value,
    #[serde(default)]
    version: Value,
    #[serde(default)]
    major_version: Value,
    #[serde(default)]
    pg_version: Value,
    #[serde(default)]
    modules: Value,
    #[serde(default)]
    checksums: Value,
    #[serde(default)]
    filestore_files: Value,
    #[serde(default)]
    filestore_bytes: Value,
    #[serde(default)]
    filestore_size_bytes: Value,
}

impl Manifest {
    /// Reads a manifest; `None` when the bytes are not a JSON object. The problem tells why our own part
    /// of it is left out, where it is there and cannot be used.
    pub fn read(bytes: &[u8]) -> Option<(Self, Option<Problem>)> {
        let mut manifest = Self::parse(bytes)?;
        let problem = match ours::read(bytes) {
            Ok(Some((undoo, signature))) => {
                manifest.undoo = Some(Box::new(undoo));
                manifest.signature = signature;
                None
            }
            Ok(None) => None,
            Err(problem) => Some(problem),
        };
        Some((manifest, problem))
    }

    /// What any backup's manifest may say.
    fn parse(bytes: &[u8]) -> Option<Self> {
        // Serde would take an array of values for the fields in their order.
        bytes.trim_ascii_start().first().filter(|first| **first == b'{')?;
        let raw: Raw = serde_json::from_slice(bytes).ok()?;
        let text = |value: Value| match value {
            Value::String(text) if text.len() <= 256 && !text.chars().any(char::is_control) => Some(text),
            _ => None,
        };
        let map = |value: Value| match value {
            Value::Object(entries) => Some(entries),
            _ => None,
        };
        let files = raw.filestore_files.as_u64();
        let bytes = raw.filestore_bytes.as_u64().or(raw.filestore_size_bytes.as_u64());
        Some(Self {
            db_name: text(raw.db_name),
            version: text(raw.major_version).or_else(|| text(raw.version)),
            pg_version: text(raw.pg_version),
            modules: map(raw.modules).map(|modules| {
                let version = |value| text(value).unwrap_or_default();
                modules.into_iter().map(|(name, value)| (name, version(value))).collect()
            }),
            checksums: map(raw.checksums)
                .into_iter()
                .flatten()
                .filter_map(|(name, value)| checksum(value).map(|checksum| (name, checksum)))
                .collect(),
            filestore: files.zip(bytes),
            undoo: None,
            signature: SignatureState::Unsigned,
        })
    }

    /// Whether this looks like the manifest of a backup at all.
    pub(crate) fn says_something(&self) -> bool {
        self.db_name.is_some()
            || self.version.is_some()
            || self.modules.is_some()
            || !self.checksums.is_empty()
    }
}

/// A checksum as plain text (`ab12…`, `sha256:ab12…`) or one level down (`{"sha256": "ab12…"}`).
fn checksum(value: Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text,
        Value::Object(entries) => {
            entries.into_iter().find_map(|(_, value)| value.as_str().map(str::to_owned))?
        }
        _ => return None,
    };
    let digits = text.rsplit(':').next().unwrap_or(&text).to_ascii_lowercase();
    (matches!(digits.len(), 32 | 40 | 64 | 128) && digits.bytes().all(|b| b.is_ascii_hexdigit()))
        .then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odoos_manifest_is_read() {
        let text = br#"{"odoo_dump": "1", "db_name": "acme", "version": "19.0", "version_info": [19, 0, 0, "final", 0, ""],
            "major_version": "19.0", "pg_version": "15.0", "modules": {"base": "19.0.1.3", "sale": null}}"#;
        let manifest = Manifest::parse(text).unwrap_or_default();
        assert_eq!(manifest.db_name.as_deref(), Some("acme"));
        assert_eq!(manifest.version.as_deref(), Some("19.0"));
        assert_eq!(manifest.pg_version.as_deref(), Some("15.0"));
        assert_eq!(manifest.modules.map(|modules| modules.len()), Some(2));
    }

    #[test]
    fn checksums_are_read_in_the_forms_that_are_met() {
        let md5 = "0123456789abcdef0123456789abcdef";
        let text = format!(
            r#"{{"checksums": {{"a": "{md5}", "b": "md5:{md5}", "c": {{"md5": "{md5}"}}, "d": 7, "e": "no"}}}}"#
        );
        let checksums = Manifest::parse(text.as_bytes()).unwrap_or_default().checksums;
        assert_eq!(
            checksums.into_iter().collect::<Vec<_>>(),
            ["a", "b", "c"].map(|name| (name.into(), md5.into()))
        );
    }

    #[test]
    fn wrong_types_are_absent_and_other_json_is_no_manifest() {
        let manifest =
            Manifest::parse(br#"{"db_name": 7, "modules": [], "version": "a\u0000b", "checksums": "x"}"#);
        assert_eq!(manifest, Some(Manifest::default()));
        for text in [&b"[]"[..], b"7", b"", b"{", &b"[".repeat(100_000)] {
            assert_eq!(Manifest::parse(text), None);
        }
    }
}
