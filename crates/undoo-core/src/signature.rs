//! Signatures over bytes: reports and manifests say by them who made them, and show a change.
//!
//! A signature that holds proves that the bytes are what some key has signed. Whether that key is one
//! to be trusted is for the caller to know. Keys are kept elsewhere; nothing here reads or makes one.

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, Verifier, VerifyingKey};

use crate::Result;

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
    fn a_signer_does_not_print_its_seed() {
        assert!(!format!("{:?}", Signer::from_seed(&[7; 32])).contains("0707"));
    }
}
