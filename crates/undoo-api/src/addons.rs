//! Git repositories that custom modules are fetched from.

use serde::{Deserialize, Serialize};
use undoo_core::platform::{AddonsOrigin, AddonsSource};
use utoipa::ToSchema;

use crate::{bounds, secret::Secret};

/// A git repository whose modules an environment is to have.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddonsSourceRequest {
    /// Its address, by HTTPS, without user and password.
    #[serde(deserialize_with = "bounds::visible::<_, 1024>")]
    #[schema(min_length = 1, max_length = 1024, pattern = "^[!-~]+$")]
    pub url: String,
    /// A branch, a tag, or the whole name of a commit. The repository's default branch without it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_text::<_, 255>"
    )]
    #[schema(min_length = 1, max_length = 255, example = "19.0")]
    pub reference: Option<String>,
    /// The folder of the repository in which modules are looked for. All of it without one.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_text::<_, 1024>"
    )]
    #[schema(min_length = 1, max_length = 1024)]
    pub folder: Option<String>,
    /// The user that the token belongs to, for servers that ask for one.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_text::<_, 255>"
    )]
    #[schema(min_length = 1, max_length = 255)]
    pub username: Option<String>,
    /// A token or password that may read it, for one that is not public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
}

impl From<AddonsSourceRequest> for AddonsSource {
    fn from(asked: AddonsSourceRequest) -> Self {
        let AddonsSourceRequest { url, reference, folder, username, token } = asked;
        let origin = AddonsOrigin { url, reference, folder, username };
        Self { origin, token: token.map(Secret::into_inner), anywhere: false }
    }
}

impl From<AddonsSource> for AddonsSourceRequest {
    fn from(source: AddonsSource) -> Self {
        let AddonsOrigin { url, reference, folder, username } = source.origin;
        Self { url, reference, folder, username, token: source.token.map(Secret::from) }
    }
}

impl PartialEq for AddonsSourceRequest {
    fn eq(&self, other: &Self) -> bool {
        AddonsSource::from(self.clone()) == other.clone().into()
    }
}

impl Eq for AddonsSourceRequest {}

/// The repositories of an environment that waits to be deployed, instead of those that were named before. One that
/// is named without a token keeps that which it had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddonsRequest {
    /// The repositories; of two modules with one name, that of the first counts.
    #[serde(deserialize_with = "bounds::list::<_, _, 32>")]
    #[schema(max_items = 32)]
    pub addons: Vec<AddonsSourceRequest>,
}

/// A git repository that modules are fetched from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddonsResponse {
    /// Its address.
    pub url: String,
    /// A branch, a tag, or a commit; `null` for its default branch.
    pub reference: Option<String>,
    /// The folder in which modules are looked for; `null` for all of it.
    pub folder: Option<String>,
    /// The user that the token belongs to.
    pub username: Option<String>,
    /// Whether there is a token. It is not shown again.
    pub has_token: bool,
}

impl From<(AddonsOrigin, bool)> for AddonsResponse {
    fn from((origin, has_token): (AddonsOrigin, bool)) -> Self {
        let AddonsOrigin { url, reference, folder, username } = origin;
        Self { url, reference, folder, username, has_token }
    }
}
