//! Secrets at rest: sealed under a key that is not in the database.
//!
//! XChaCha20-Poly1305 with a random nonce. A sealed text names its key, so that keys can be changed while
//! both are known, and is bound to what it is about, so that one cannot be put in another's place. A key is
//! named by a digest of itself: nobody has to hand out names.

use std::{fmt, sync::Arc};

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use sha2::{Digest, Sha256};
use undoo_core::{Kind, Problem, Result};
use zeroize::Zeroizing;

/// The form of what is sealed; it stands at the front.
const FORM: u8 = 1;
const ID: usize = 8;
const NONCE: usize = 24;
const HEAD: usize = 1 + ID + NONCE;

struct Key {
    id: [u8; ID],
    cipher: XChaCha20Poly1305,
}

impl Key {
    fn new(bytes: &[u8; 32]) -> Self {
        let digest = Sha256::new().chain_update(b"undoo sealing key\n").chain_update(bytes).finalize();
        let mut id = [0; ID];
        id.copy_from_slice(&digest[..ID]);
        Self { id, cipher: XChaCha20Poly1305::new(bytes.into()) }
    }
}

/// The keys that secrets are sealed with: the first seals, all open.
#[derive(Clone)]
pub struct Sealer(Arc<[Key]>);

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({} keys)", self.0.len())
    }
}

impl Sealer {
    /// Seals with `current`; opens what it or one of the `former` keys has sealed.
    pub fn new(current: &[u8; 32], former: &[Zeroizing<[u8; 32]>]) -> Self {
        let former = former.iter().map(|key| Key::new(key));
        Self(std::iter::once(Key::new(current)).chain(former).collect())
    }

    /// Seals bytes; `about` names what they belong to and has to be the same when they are opened.
    ///
    /// # Errors
    /// `Internal` when the system has no randomness.
    pub fn seal(&self, about: &str, plain: &[u8]) -> Result<Vec<u8>> {
        let key = &self.0[0];
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|error| {
            Problem::new(Kind::Internal, "no_randomness", "the system gave no random bytes", "see its log")
                .caused_by(error.to_string())
        })?;
        let payload = Payload { msg: plain, aad: &bound(&key.id, about) };
        let sealed = key.cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| {
            Problem::new(Kind::Internal, "seal", "a secret could not be sealed", "please report this")
        })?;
        Ok([&[FORM][..], &key.id, &nonce, &sealed].concat())
    }

    /// Opens what was sealed. Wiped from memory when dropped.
    ///
    /// # Errors
    /// `sealing_key_missing` (`Denied`) when the key is not among ours; `sealed_broken` (`Invalid`) when the
    /// bytes were changed or belong to something else.
    pub fn open(&self, about: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let (id, nonce, content) = parts(sealed).ok_or_else(|| broken(about))?;
        let key = self.0.iter().find(|key| key.id == id).ok_or_else(|| {
            Problem::new(
                Kind::Denied,
                "sealing_key_missing",
                format!("{about} is sealed with key {}, which is not among the given ones", hex::encode(id)),
                "start with that key among the former ones, rotate, and take it away then",
            )
        })?;
        let payload = Payload { msg: content, aad: &bound(&id, about) };
        let plain = key.cipher.decrypt(&XNonce::from(nonce), payload).map_err(|_| broken(about))?;
        Ok(Zeroizing::new(plain))
    }

    /// The same, sealed with the key that seals now; `None` where it is.
    ///
    /// # Errors
    /// As [`Sealer::open`] and [`Sealer::seal`].
    pub(crate) fn renewed(&self, about: &str, sealed: &[u8]) -> Result<Option<Vec<u8>>> {
        if self.is_current(sealed) {
            return Ok(None);
        }
        self.seal(about, &self.open(about, sealed)?).map(Some)
    }

    /// Whether this was sealed with the key that seals now.
    pub fn is_current(&self, sealed: &[u8]) -> bool {
        parts(sealed).is_some_and(|(id, _, _)| id == self.0[0].id)
    }
}

/// What is bound to a sealed text without being in it.
fn bound(id: &[u8; ID], about: &str) -> Vec<u8> {
    [&[FORM][..], id, about.as_bytes()].concat()
}

fn parts(sealed: &[u8]) -> Option<([u8; ID], [u8; NONCE], &[u8])> {
    let (head, content) = sealed.split_at_checked(HEAD)?;
    let (form, rest) = head.split_first()?;
    let (id, nonce) = rest.split_at_checked(ID)?;
    (*form == FORM).then_some((id.try_into().ok()?, nonce.try_into().ok()?, content))
}

fn broken(about: &str) -> Problem {
    Problem::new(
        Kind::Invalid,
        "sealed_broken",
        format!("what is sealed for {about} was changed, or belongs to something else"),
        "enter the secret again; find out who writes to the database",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_for_what_it_is_about_and_for_nothing_else() {
        let sealer = Sealer::new(&[1; 32], &[]);
        let sealed = sealer.seal("storage a", b"geheim").unwrap();
        assert_eq!(&*sealer.open("storage a", &sealed).unwrap(), b"geheim");
        assert_eq!(sealer.open("storage b", &sealed).unwrap_err().code, "sealed_broken");
        assert_ne!(sealer.seal("storage a", b"geheim").unwrap(), sealed, "the nonce is random");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(sealer.open("storage a", &changed).is_err(), "byte {at}");
        }
        for length in 0..sealed.len() {
            assert!(sealer.open("storage a", &sealed[..length]).is_err());
        }
    }

    #[test]
    fn a_former_key_opens_and_does_not_seal() {
        let old = Sealer::new(&[1; 32], &[]);
        let sealed = old.seal("x", b"geheim").unwrap();
        let both = Sealer::new(&[2; 32], &[Zeroizing::new([1; 32])]);
        assert_eq!(&*both.open("x", &sealed).unwrap(), b"geheim");
        assert!(!both.is_current(&sealed) && both.is_current(&both.seal("x", b"").unwrap()));
        let new = Sealer::new(&[2; 32], &[]);
        assert_eq!(new.open("x", &sealed).unwrap_err().code, "sealing_key_missing");
    }
}
