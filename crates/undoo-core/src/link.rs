//! Links of ours to a part of a backup, for storages that can sign none and for parts that are no objects.
//!
//! A link names what it leads to and until when, and is signed by the key of whoever serves it. It is as
//! secret as what it leads to. Nothing here looks at a clock; nothing is served here.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    id::BackupId,
    problem::{Kind, Problem, Result},
    signature::{self, Signer},
};

/// For how long a link holds when nobody says, in seconds.
pub const EXPIRES_IN: u32 = 3600;
/// The longest that one may hold, in seconds.
pub const MOST_EXPIRES_IN: u32 = 86_400;

/// Precedes what is signed, so that a signature of something else never fits.
const SIGNED: &[u8] = b"undoo link 1\n";

/// A part of a backup that can be handed out by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Member {
    /// The dump.
    Database,
    /// The filestore, as a `.tar.gz`.
    Filestore,
    /// The whole object, as it lies in its storage.
    Zip,
}

/// What a link leads to, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Id of the organisation whose backup it is.
    pub organisation: String,
    /// The backup.
    pub backup: BackupId,
    /// Which part of it.
    pub member: Member,
    /// When it ends, in whole seconds since 1970.
    pub expires: i64,
}

impl Link {
    /// A link that holds for `expires_in` seconds, [`EXPIRES_IN`] by default.
    ///
    /// # Errors
    /// `link_expires_in` (`Invalid`) for none, or more than [`MOST_EXPIRES_IN`].
    pub fn new(
        organisation: impl Into<String>,
        backup: BackupId,
        member: Member,
        expires_in: Option<u32>,
        now: Timestamp,
    ) -> Result<Self> {
        let expires_in = expires_in.unwrap_or(EXPIRES_IN);
        if !(1..=MOST_EXPIRES_IN).contains(&expires_in) {
            return Err(Problem::new(
                Kind::Invalid,
                "link_expires_in",
                format!("a link cannot hold for {expires_in} seconds"),
                format!("Ask for 1 to {MOST_EXPIRES_IN} seconds."),
            ));
        }
        let expires = now.as_second().saturating_add(i64::from(expires_in));
        Ok(Self { organisation: organisation.into(), backup, member, expires })
    }

    /// The signature that goes with it, hexadecimal.
    pub fn sign(&self, signer: &Signer) -> String {
        signer.sign(&self.signed())
    }

    /// Whether this very link was signed by the key and holds still.
    ///
    /// The signature is checked first, so that nobody learns by the answer what a link of theirs would have
    /// led to. To check it takes no secret, so that its time tells nothing.
    ///
    /// # Errors
    /// `link_invalid` or `link_expired` (both `Denied`).
    pub fn check(&self, signature: &str, public_key: &str, now: Timestamp) -> Result<()> {
        let problem = |code, message: &str| {
            Err(Problem::new(Kind::Denied, code, message, "Ask for a new link where you got this one."))
        };
        if !signature::holds(public_key, signature, &self.signed()) {
            return problem("link_invalid", "the link was changed, or is not one of this server");
        }
        let left = self.expires.saturating_sub(now.as_second());
        // One that ends later than any that is given out was signed by a clock that is off.
        if left <= 0 || SignedDuration::from_secs(left) > SignedDuration::from_secs(MOST_EXPIRES_IN.into()) {
            return problem("link_expired", "the link holds no longer");
        }
        Ok(())
    }

    /// JSON: no value can run into the next.
    fn signed(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).expect("texts and numbers can be written as JSON");
        [SIGNED, &json].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(now: Timestamp) -> Link {
        Link::new("acme", BackupId::generate(), Member::Database, None, now).unwrap()
    }

    #[test]
    fn a_link_holds_for_an_hour_and_then_no_longer() {
        let (signer, now) = (Signer::from_seed(&[7; 32]), Timestamp::now());
        let link = link(now);
        let signature = link.sign(&signer);
        let check = |after| {
            let later = now + SignedDuration::from_secs(after);
            link.check(&signature, &signer.public_key(), later).map_err(|problem| problem.code)
        };
        assert_eq!((check(0), check(3599)), (Ok(()), Ok(())));
        assert_eq!((check(3600), check(1 << 30)), (Err("link_expired"), Err("link_expired")));
        assert_eq!(check(-90_000), Err("link_expired"));
    }

    #[test]
    fn a_link_to_anything_else_or_of_another_key_does_not_hold() {
        let (signer, now) = (Signer::from_seed(&[7; 32]), Timestamp::now());
        let link = link(now);
        let (signature, key) = (link.sign(&signer), signer.public_key());
        let others = [
            Link { organisation: "other".into(), ..link.clone() },
            Link { backup: BackupId::generate(), ..link.clone() },
            Link { member: Member::Filestore, ..link.clone() },
            Link { expires: link.expires + 1, ..link.clone() },
        ];
        for other in others {
            assert_eq!(other.check(&signature, &key, now).unwrap_err().code, "link_invalid", "{other:?}");
        }
        let stranger = Signer::from_seed(&[8; 32]);
        assert_eq!(link.check(&link.sign(&stranger), &key, now).unwrap_err().code, "link_invalid");
        assert_eq!(link.check("", &key, now).unwrap_err().code, "link_invalid");
    }

    #[test]
    fn a_link_for_longer_than_a_day_or_for_no_time_is_refused() {
        let ask = |seconds| {
            let link =
                Link::new("acme", BackupId::generate(), Member::Filestore, Some(seconds), Timestamp::now());
            link.map_err(|problem| problem.code)
        };
        assert!(ask(1).is_ok() && ask(86_400).is_ok());
        assert_eq!((ask(0).unwrap_err(), ask(86_401).unwrap_err()), ("link_expires_in", "link_expires_in"));
    }
}
