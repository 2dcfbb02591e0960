//! Identifiers. A newtype for each thing that has one, so that they cannot be mixed up.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Text that is no id.
pub type ParseError = uuid::Error;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id. Ids are UUIDv7: they sort by the time they were made.
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id as it is kept in a database.
            pub const fn uuid(self) -> Uuid {
                self.0
            }

            /// Twelve hexadecimal digits for the names of databases, roles and containers, which are
            /// limited to 63 bytes by PostgreSQL. They come from the random end of the UUID: the front
            /// is a clock.
            pub fn short(&self) -> String {
                let text = self.0.simple().to_string();
                text[20..].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

id! {
    /// One restore, and with it its staged pair, its journal and its undo pair on the target.
    RestoreId
}

id! {
    /// One backup, wherever its object lies.
    BackupId
}

id! {
    /// An organisation: what it owns, nobody else sees.
    OrganisationId
}

id! {
    /// A project of an organisation.
    ProjectId
}

id! {
    /// An environment: one Odoo with its database and files.
    EnvironmentId
}

id! {
    /// A server with a Docker Engine.
    ServerId
}

id! {
    /// A configured storage.
    StorageId
}

id! {
    /// Somebody who signs in.
    UserId
}

id! {
    /// A bearer token.
    TokenId
}

id! {
    /// A plan of what comes back where after a loss.
    RecoveryPlanId
}

id! {
    /// A backup from elsewhere that an environment waits for.
    MigrationId
}

id! {
    /// A piece of work in the queue.
    TaskId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_ids_of_one_moment_differ() {
        let ids: std::collections::HashSet<String> =
            (0..1000).map(|_| RestoreId::generate().short()).collect();
        assert_eq!(ids.len(), 1000);
    }
}
