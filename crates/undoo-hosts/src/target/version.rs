//! Which Odoo an image holds.

use std::{collections::HashMap, time::Duration};

use bollard::models::{ContainerCreateBody, HostConfig};
use undoo_core::Result;

use super::{EnvMap, command::CommandLine};
use crate::{
    docker::Docker,
    labels::Role,
    scratch::{self, Scratch},
};

/// Importing Odoo takes seconds; on a busy server some more.
const PATIENCE: Duration = Duration::from_secs(90);

/// The version from what the image says about itself, else from `odoo --version` in a throw-away
/// container without network.
pub(super) async fn find(
    docker: &Docker,
    image: &str,
    image_id: &str,
    env: &EnvMap,
    labels: &HashMap<String, String>,
    command: &CommandLine,
) -> Result<Option<String>> {
    let said = env
        .get("ODOO_VERSION")
        .or_else(|| tag(image))
        .or_else(|| labels.get("org.opencontainers.image.version").map(String::as_str));
    if let Some(version) = said.and_then(parse) {
        return Ok(Some(version));
    }
    ask(docker, image_id, command).await
}

/// The first number of a version such as `17.0` or `saas~17.4`.
pub(super) fn major(version: &str) -> Option<u32> {
    version.trim_start_matches("saas~").split('.').next()?.parse().ok()
}

fn tag(image: &str) -> Option<&str> {
    // Behind the last slash, since a registry may have a port.
    let name = image.rsplit('/').next()?;
    name.split('@').next()?.split_once(':').map(|(_, tag)| tag)
}

/// `19.0` out of `19.0`, `19.0-20251001`, `Odoo Server 19.0-20251001`, `saas~18.2`.
fn parse(text: &str) -> Option<String> {
    text.split_whitespace().rev().find_map(|word| {
        let (prefix, number) = match word.strip_prefix("saas~").or_else(|| word.strip_prefix("saas-")) {
            Some(number) => ("saas~", number),
            None => ("", word),
        };
        let mut parts = number.split(|c: char| !c.is_ascii_digit());
        let (major, minor) = (parts.next()?, parts.next()?);
        let plausible = |major: &str| major.parse::<u32>().is_ok_and(|major| (5..100).contains(&major));
        let has_dot = number.get(major.len()..).is_some_and(|rest| rest.starts_with('.'));
        (has_dot && plausible(major) && !minor.is_empty()).then(|| format!("{prefix}{major}.{minor}"))
    })
}

async fn ask(docker: &Docker, image_id: &str, command: &CommandLine) -> Result<Option<String>> {
    let mut words = command.executable.iter().cloned();
    let Some(program) = words.next() else { return Ok(None) };
    let body = ContainerCreateBody {
        image: Some(image_id.to_owned()),
        entrypoint: Some(vec![program]),
        cmd: Some(words.chain(["--version".to_owned()]).collect()),
        labels: Some(HashMap::from([(crate::LABEL_ROLE.to_owned(), Role::Question.as_str().to_owned())])),
        host_config: Some(HostConfig {
            network_mode: Some("none".into()),
            mounts: Some(
                scratch::cover_image_volumes(docker, image_id, &[], scratch::Cover::ReadOnly).await?,
            ),
            ..scratch::hardened()
        }),
        ..Default::default()
    };
    let scratch = Scratch::create(docker, "question", body).await?;
    let answer = match scratch.start().await {
        Ok(()) => tokio::time::timeout(PATIENCE, scratch.finish()).await.ok(),
        // An image whose program cannot be started does not tell its version; that is no failure.
        Err(_) => None,
    };
    scratch.remove().await?;
    Ok(answer.transpose()?.and_then(|end| parse(&end.output)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_in_all_their_spellings() {
        for (text, version) in [
            ("19.0", Some("19.0")),
            ("17.0-20250909", Some("17.0")),
            ("Odoo Server 14.0-20231205\n", Some("14.0")),
            ("Odoo Server saas~18.2", Some("saas~18.2")),
            ("17", None),
            ("latest", None),
            ("2024.10", None),
            ("", None),
        ] {
            assert_eq!(parse(text).as_deref(), version, "{text}");
        }
    }

    #[test]
    fn tags_stand_behind_the_last_slash() {
        assert_eq!(tag("registry:5000/acme/odoo:17.0"), Some("17.0"));
        assert_eq!(tag("registry:5000/acme/odoo"), None);
        assert_eq!(tag("odoo:17.0@sha256:ab"), Some("17.0"));
        assert_eq!(major("saas~17.4"), Some(17));
    }
}
