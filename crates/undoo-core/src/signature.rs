//! Signatures over bytes: reports and manifests say by them who made them, and show a change.
//!
//! A signature that holds proves that the bytes are what some key has signed. Whether that key is one
//! to be trusted is for the caller to know. Keys are kept elsewhere; nothing here reads or makes one.

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, Verifier, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::problem::{Kind, Problem, Result};

/// Who can sign: a key that is at hand, or somebody elsewhere who has one and is asked.
pub trait Sign {
    /// The public half of the key, hexadecimal.
    fn public_key(&self) -> String;

    /// The signature of these bytes, 128 hexadecimal digits.
    ///
    /// # Errors
    /// When whoever is asked does not sign.
    fn sign(&self, bytes: &[u8]) -> Result<String>;
}

/// The private half of a key (Ed25519, RFC 8032). Wiped from memory when dropped, never printed.
pub struct Signer(SigningKey);

impl Signer {
    /// A key from its seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The public half, hexadecimal.
    pub fn public_key(&self) -> String {
        hex::encode(self.0.verifying_key().to_bytes())
    }

    /// The signature of these bytes, 128 hexadecimal digits. Equal bytes have equal signatures.
    pub fn sign(&self, bytes: &[u8]) -> String {
        hex::encode(self.0.sign(bytes).to_bytes())
    }
}

impl Sign for Signer {
    fn public_key(&self) -> String {
        self.public_key()
    }

    fn sign(&self, bytes: &[u8]) -> Result<String> {
        Ok(self.sign(bytes))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.public_key())
    }
}

/// A text about something and its signature, which is of one kind of text only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The report as JSON text. What is signed are the bytes of the kind's line, then these very bytes.
    pub report: String,
    /// Public half of the key, hexadecimal (Ed25519, RFC 8032).
    pub public_key: String,
    /// The signature, hexadecimal.
    pub signature: String,
}

impl Signed {
    /// Signs a report. `kind` is a line such as `undoo report 1` with its end: it goes before what is signed,
    /// so that what somebody signed as one thing never passes for another.
    ///
    /// # Errors
    /// `report` (`Internal`) for what cannot be written as JSON.
    pub fn new(kind: &[u8], report: &impl Serialize, signer: &Signer) -> Result<Self> {
        let report = serde_json::to_string(report).map_err(|error| {
            Problem::new(Kind::Internal, "report", "the report could not be written", "please report this")
                .caused_by(error)
        })?;
        let signature = signer.sign(&[kind, report.as_bytes()].concat());
        Ok(Self { report, public_key: signer.public_key(), signature })
    }

    /// Whether the report is what its key has signed as this kind.
    pub fn holds(&self, kind: &[u8]) -> bool {
        holds(&self.public_key, &self.signature, &[kind, self.report.as_bytes()].concat())
    }
}

/// Whether a signature of these bytes is the key's. Key and signature are hexadecimal; what is not a key
/// or a signature does not hold.
pub fn holds(public_key: &str, signature: &str, bytes: &[u8]) -> bool {
    let check = || -> Option<bool> {
        let key: [u8; 32] = hex::decode(public_key).ok()?.try_into().ok()?;
        let signature: [u8; 64] = hex::decode(signature).ok()?.try_into().ok()?;
        let key = VerifyingKey::from_bytes(&key).ok()?;
        Some(key.verify(bytes, &Signature::from_bytes(&signature)).is_ok())
    };
    check().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_bytes_and_key_only() {
        let (signer, other) = (Signer::from_seed(&[7; 32]), Signer::from_seed(&[8; 32]));
        let signature = signer.sign(b"bytes");
        assert!(holds(&signer.public_key(), &signature, b"bytes"));
        assert!(!holds(&signer.public_key(), &signature, b"other"));
        assert!(!holds(&other.public_key(), &signature, b"bytes"));
        for wrong in ["", "zz", &signature[2..]] {
            assert!(!holds(&signer.public_key(), wrong, b"bytes"), "{wrong}");
            assert!(!holds(wrong, &signature, b"bytes"), "{wrong}");
        }
    }

    #[test]
    fn a_report_that_was_changed_or_signed_as_something_else_does_not_hold() {
        let (report, signer) = (serde_json::json!({"rows": 1}), Signer::from_seed(&[7; 32]));
        let signed = Signed::new(b"one 1\n", &report, &signer).unwrap();
        assert!(signed.holds(b"one 1\n"));
        assert!(!signed.holds(b"other 1\n"));
        assert!(!signed.holds(b""));
        let changed = Signed { report: signed.report.replace('1', "2"), ..signed };
        assert!(!changed.holds(b"one 1\n"));
    }

    #[test]
    fn a_signer_does_not_print_its_seed() {
        assert!(!format!("{:?}", Signer::from_seed(&[7; 32])).contains("0707"));
    }
}
