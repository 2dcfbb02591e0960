//! What is kept of an environment that the platform itself has put on a server, beside what every environment
//! has: enough to make it again, and to find what is left of it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    id::{EnvironmentId, OrganisationId},
    word::words,
};

words! {
    /// How far an environment is on its server.
    DeploymentState {
        /// It is being made around a restore; nobody reaches it yet.
        Making = "making",
        /// It is there.
        Deployed = "deployed",
        /// What is left of it is to be removed.
        Removing = "removing",
    }
}

impl DeploymentState {
    /// Whether it may go from here to there.
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Making => next != Self::Making,
            Self::Deployed => next == Self::Removing,
            // There is no way back: part of it may be gone.
            Self::Removing => false,
        }
    }
}

/// A deployment, as it is kept. An environment that was adopted has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentRecord {
    /// The environment.
    pub environment_id: EnvironmentId,
    /// Whose it is.
    pub organisation_id: OrganisationId,
    /// How far it is.
    pub state: DeploymentState,
    /// What the names of its things begin with.
    pub prefix: String,
    /// The network that Traefik is in.
    pub public_network: String,
    /// PostgreSQL's image.
    pub postgres_image: String,
    /// A port of the server at which it is to be found as well.
    pub http_port: Option<u16>,
    /// Options of `odoo.conf` of its own.
    pub odoo_conf: BTreeMap<String, String>,
    /// Its passwords, sealed.
    pub sealed: Vec<u8>,
    /// When it was begun.
    pub created_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_being_removed_does_not_come_back() {
        use DeploymentState::{Deployed, Making, Removing};
        for next in [Making, Deployed, Removing] {
            assert!(!Removing.may_become(next));
        }
        assert!(Making.may_become(Deployed) && Making.may_become(Removing));
        assert!(Deployed.may_become(Removing) && !Deployed.may_become(Making));
    }
}
