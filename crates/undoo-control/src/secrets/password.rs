//! Passwords: Argon2id on threads that may block, a few at a time.
//!
//! Each takes 19 MiB and some tens of milliseconds, on purpose; the limit keeps a flood of sign-ins from
//! taking all memory. Whether there is such a user must not be told by how long the answer takes.

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;
use undoo_core::{Kind, Problem, Result};

static AT_ONCE: Semaphore = Semaphore::const_new(4);

/// Characters that a password has at least.
const SHORTEST: usize = 10;
/// Bytes that it has at most: hashing takes all of them.
const LONGEST: usize = 1024;

/// Refuses passwords that are too short to be one.
///
/// # Errors
/// `password_weak` (`Invalid`).
pub(crate) fn check(password: &SecretString) -> Result<()> {
    let text = password.expose_secret();
    if text.chars().count() >= SHORTEST && text.len() <= LONGEST {
        return Ok(());
    }
    Err(Problem::new(
        Kind::Invalid,
        "password_weak",
        format!("a password has at least {SHORTEST} characters, and at most {LONGEST} bytes"),
        "Choose a longer one: several words are good.",
    ))
}

/// The hash of a password, as PHC text.
///
/// # Errors
/// `Internal` when hashing breaks down.
pub(crate) async fn hash(password: SecretString) -> Result<String> {
    blocking(move || {
        let hash = Argon2::default().hash_password(password.expose_secret().as_bytes());
        hash.map(|hash| hash.to_string()).map_err(|error| broken(error.to_string()))
    })
    .await
}

/// Whether a password is the one that was hashed. Without a hash the same work is done, for nothing.
///
/// # Errors
/// `Internal` when hashing breaks down.
pub(crate) async fn holds(password: SecretString, hash: Option<String>) -> Result<bool> {
    blocking(move || {
        let password = password.expose_secret().as_bytes();
        let Some(hash) = hash else {
            let none = Argon2::default().hash_password(password);
            return none.map(|_| false).map_err(|error| broken(error.to_string()));
        };
        let hash = PasswordHash::new(&hash).map_err(|error| broken(error.to_string()))?;
        Ok(Argon2::default().verify_password(password, &hash).is_ok())
    })
    .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let _permit = AT_ONCE.acquire().await.map_err(|error| broken(error.to_string()))?;
    tokio::task::spawn_blocking(work).await.map_err(|error| broken(error.to_string()))?
}

fn broken(cause: String) -> Problem {
    Problem::new(Kind::Internal, "password_hash", "a password could not be hashed", "please report this")
        .caused_by(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_holds_for_its_hash_and_no_hash_holds_for_none() {
        let hashed = hash("correct horse".into()).await.unwrap();
        assert!(hashed.starts_with("$argon2id$") && !hashed.contains("horse"));
        assert!(holds("correct horse".into(), Some(hashed.clone())).await.unwrap());
        assert!(!holds("correct house".into(), Some(hashed)).await.unwrap());
        assert!(!holds("correct horse".into(), None).await.unwrap());
    }

    #[test]
    fn a_short_or_endless_password_is_refused() {
        assert_eq!(check(&"123456789".into()).unwrap_err().code, "password_weak");
        assert!(check(&"1234567890".into()).is_ok());
        assert!(check(&"x".repeat(1025).into()).is_err());
    }
}
