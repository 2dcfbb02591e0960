//! Images on a server: from a registry where one answers, else what is there under the name.

use std::{collections::BTreeMap, time::Duration};

use bollard::{models::ImageInspect, query_parameters::CreateImageOptionsBuilder};
use futures_util::StreamExt as _;
use undoo_core::{Kind, Problem, Result};

use super::Did;
use crate::docker::{Docker, is_missing, problem};

/// A registry that is reached answers one question within this.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(20);
/// A pull that says nothing for this long has come to a halt.
const PULL_PATIENCE: Duration = Duration::from_secs(120);

/// An image that is on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// As it was asked for.
    pub name: String,
    /// Its id.
    pub id: String,
    /// The user that its program runs as, by name or number; empty is root.
    pub user: String,
    /// Whether it was there, or was fetched.
    pub did: Did,
    variables: BTreeMap<String, String>,
}

impl Image {
    /// A variable that the image gives to its containers.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// One that no engine has.
    #[cfg(test)]
    pub(super) fn for_test(name: &str, variables: &[(&str, &str)]) -> Self {
        let env = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let config = bollard::models::ImageConfig { env: Some(env), ..Default::default() };
        Self::of(name, ImageInspect { config: Some(config), ..Default::default() }, Did::Found)
    }

    /// The user that Odoo runs as in the end: an image that starts as root becomes that one by itself.
    pub(super) fn odoo_user(&self) -> &str {
        if ["", "root", "0", "0:0"].contains(&self.user.as_str()) { "odoo" } else { &self.user }
    }

    fn of(name: &str, found: ImageInspect, did: Did) -> Self {
        let config = found.config.unwrap_or_default();
        let pairs = config.env.unwrap_or_default();
        let pairs = pairs.iter().filter_map(|pair| pair.split_once('='));
        Self {
            name: name.to_owned(),
            id: found.id.unwrap_or_default(),
            user: config.user.unwrap_or_default(),
            did,
            variables: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        }
    }
}

/// Makes sure that an image is on the server, the newest of its name where a registry can be asked.
///
/// # Errors
/// `image_missing` with the registry's words; `no_room`; and those of the engine.
pub async fn ensure_image(docker: &Docker, name: &str) -> Result<Image> {
    let present = look(docker, name).await?;
    if let Some(found) = &present
        && names_its_content(name)
    {
        return Ok(Image::of(name, found.clone(), Did::Found));
    }
    let fetched = match newest(docker, name).await {
        Ok(digest) if present.as_ref().is_some_and(|found| has(found, &digest)) => Err(String::new()),
        Ok(_) => pull(docker, name).await.map(|()| present.is_some()),
        Err(silent) => Err(silent),
    };
    match (fetched, present) {
        (Ok(newer), _) => {
            let found = look(docker, name).await?.ok_or_else(|| missing(name, "it was removed again"))?;
            Ok(Image::of(name, found, if newer { Did::Replaced } else { Did::Made }))
        }
        (Err(reason), Some(found)) => {
            if !reason.is_empty() {
                tracing::info!(
                    image = name,
                    reason,
                    "no registry gave the image; the one that is there is taken"
                );
            }
            Ok(Image::of(name, found, Did::Found))
        }
        (Err(reason), None) => Err(super::plain(missing(name, &reason))),
    }
}

/// An image that has to be there already: no registry is asked.
///
/// # Errors
/// `image_missing`.
pub(super) async fn present(docker: &Docker, name: &str) -> Result<Image> {
    let found = look(docker, name).await?;
    found.map(|found| Image::of(name, found, Did::Found)).ok_or_else(|| missing(name, "none was asked"))
}

/// Whether an image of this name is on the server. Nothing is fetched.
///
/// # Errors
/// Those of the engine.
pub async fn is_present(docker: &Docker, name: &str) -> Result<bool> {
    look(docker, name).await.map(|found| found.is_some())
}

async fn look(docker: &Docker, name: &str) -> Result<Option<ImageInspect>> {
    match docker.engine().inspect_image(name).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(problem(error, || format!("inspecting the image {name}"))),
    }
}

/// What the registry has under the name, as a digest; its silence in words.
async fn newest(docker: &Docker, name: &str) -> Result<String, String> {
    let asked = docker.engine().inspect_registry_image(name, None);
    match tokio::time::timeout(REGISTRY_PATIENCE, asked).await {
        Ok(Ok(found)) => Ok(found.descriptor.digest.unwrap_or_default()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no registry answered within {} s", REGISTRY_PATIENCE.as_secs())),
    }
}

async fn pull(docker: &Docker, name: &str) -> Result<(), String> {
    // Without a tag, the engine would fetch all that there are.
    let whole = with_tag(name);
    let options = CreateImageOptionsBuilder::new().from_image(&whole).build();
    let mut said = std::pin::pin!(docker.engine().create_image(Some(options), None, None));
    loop {
        match tokio::time::timeout(PULL_PATIENCE, said.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => return Err(error.to_string()),
            Err(_) => return Err(format!("the download stood still for {} s", PULL_PATIENCE.as_secs())),
        }
    }
}

fn missing(name: &str, reason: &str) -> Problem {
    let reason = reason.trim().trim_end_matches('.');
    Problem::new(
        Kind::Missing,
        "image_missing",
        format!("The image {name} is not on the server, and no registry gave it: {reason}."),
        format!(
            "Let the server reach a registry that has it (\"docker pull {name}\" there), or bring it there: \
             \"docker save {name} | ssh SERVER docker load\"."
        ),
    )
}

fn has(found: &ImageInspect, digest: &str) -> bool {
    !digest.is_empty()
        && found
            .repo_digests
            .iter()
            .flatten()
            .any(|own| own.rsplit_once('@').is_some_and(|(_, own)| own == digest))
}

/// Whether the name can only ever mean one image.
fn names_its_content(name: &str) -> bool {
    name.starts_with("sha256:") || name.contains("@sha256:")
}

fn with_tag(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_tag_means_latest_and_a_port_is_no_tag() {
        assert_eq!(with_tag("odoo"), "odoo:latest");
        assert_eq!(with_tag("registry:5000/acme/odoo"), "registry:5000/acme/odoo:latest");
        assert_eq!(with_tag("registry:5000/acme/odoo:17.0"), "registry:5000/acme/odoo:17.0");
        assert_eq!(with_tag("odoo@sha256:ab"), "odoo@sha256:ab");
        assert!(names_its_content("odoo@sha256:ab") && !names_its_content("odoo:17.0"));
    }

    #[test]
    fn an_image_is_the_registrys_by_its_digest_whatever_it_is_called() {
        let found =
            ImageInspect { repo_digests: Some(vec!["acme/odoo@sha256:ab".into()]), ..Default::default() };
        assert!(has(&found, "sha256:ab"));
        assert!(!has(&found, "sha256:cd"));
        assert!(!has(&found, ""), "a registry that names no digest has said nothing");
    }
}
