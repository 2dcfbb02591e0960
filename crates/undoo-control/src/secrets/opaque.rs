//! Tokens that mean nothing by themselves: sessions, bearer tokens, one-time links.
//!
//! 32 random bytes. What is kept is their SHA-256, which for so many random bits is as good as a slow hash.

use secrecy::SecretString;
use sha2::{Digest, Sha256};
use undoo_core::{Kind, Problem, Result};

/// Every token begins with it, so that one which leaked is known for what it is.
const PREFIX: &str = "undoo_";

/// A token that was just made.
pub(crate) struct Opaque {
    /// What its owner gets, once.
    pub token: SecretString,
    /// What is kept.
    pub hash: [u8; 32],
}

impl Opaque {
    /// A new one.
    ///
    /// # Errors
    /// `Internal` when the system has no randomness.
    pub(crate) fn generate() -> Result<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| {
            Problem::new(Kind::Internal, "no_randomness", "the system gave no random bytes", "see its log")
                .caused_by(error.to_string())
        })?;
        let token = format!("{PREFIX}{}", hex::encode(bytes));
        let hash = Self::hash(&token);
        Ok(Self { token: token.into(), hash })
    }

    /// What is kept of a token.
    pub(crate) fn hash(token: &str) -> [u8; 32] {
        Sha256::digest(token.as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn tokens_differ_and_are_known_by_their_hash() {
        let (one, other) = (Opaque::generate().unwrap(), Opaque::generate().unwrap());
        assert_ne!(one.hash, other.hash);
        assert_eq!(Opaque::hash(one.token.expose_secret()), one.hash);
        assert_eq!(one.token.expose_secret().len(), PREFIX.len() + 64);
    }
}
