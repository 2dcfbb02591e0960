//! An organisation's signing key: backups, reports and links of ours carry its signature.
//!
//! The seed is made when it is first needed, sealed, and kept in the database. It never leaves this process:
//! what has to be signed comes here.

use std::sync::Arc;

use undoo_core::{Kind, OrganisationId, Problem, Result, Signer};
use undoo_store::settings;
use zeroize::Zeroizing;

use crate::Control;

/// The name of the setting that has it.
pub(crate) fn setting(organisation: OrganisationId) -> String {
    format!("signing_seed:{organisation}")
}

impl Control {
    /// The signing key of an organisation.
    ///
    /// # Errors
    /// Those of the store; those of opening what is sealed.
    pub(crate) async fn signer(&self, organisation: OrganisationId) -> Result<Arc<Signer>> {
        let name = setting(organisation);
        if let Some(sealed) = settings::get(&self.store, &name).await? {
            return self.signer_of(&name, &sealed);
        }
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(|error| {
            Problem::new(Kind::Internal, "no_randomness", "the system gave no random bytes", "see its log")
                .caused_by(error.to_string())
        })?;
        let tx = self.store.begin().await?;
        // Of two who make one at the same time, the first one's counts.
        let sealed = match settings::get(&tx, &name).await? {
            Some(sealed) => sealed,
            None => {
                let sealed = self.sealer.seal(&name, &*seed)?;
                settings::set(&tx, &name, &sealed).await?;
                sealed
            }
        };
        tx.commit().await?;
        self.signer_of(&name, &sealed)
    }

    fn signer_of(&self, name: &str, sealed: &[u8]) -> Result<Arc<Signer>> {
        let seed = self.sealer.open(name, sealed)?;
        let seed: &[u8; 32] = seed.as_slice().try_into().map_err(|_| {
            Problem::new(Kind::Internal, "signing_seed", format!("{name} is no seed"), "please report this")
        })?;
        Ok(Arc::new(Signer::from_seed(seed)))
    }
}
