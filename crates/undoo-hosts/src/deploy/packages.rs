//! Python packages that an environment's addons ask for, in a folder of their own on its server.
//!
//! `pip` of the environment's own Odoo image puts them there, so that they fit its Python, and the image stays
//! the one that was named. Installing may run code of the packages: the container that does it sees the
//! environment's addons and this folder, and no other environment.

use std::{collections::BTreeSet, time::Duration};

use bollard::models::{ContainerCreateBody, HealthConfig, HostConfig};
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use undoo_core::{
    Kind, Problem, Result,
    platform::{
        Deployment,
        deployment::{ADDONS, PYTHON},
    },
};

use super::{
    Did, Done, Image, Part, Told,
    database::nano_cpus,
    files::{self, Entry, ROOT, archive_of},
    images, look,
};
use crate::{
    archive,
    docker::Docker,
    labels::{Labels, Role},
    mover::{Bind, ContainerEnd},
    scratch::{self, Cover, Scratch},
    target::user_ids,
};

/// How long all packages together may take.
const PATIENCE: Duration = Duration::from_secs(1800);
/// What the folder has when everything in it was installed: the digest of what was asked for.
const MARK: &str = ".undoo-requirements";
/// How the script says that there is no pip.
const NO_PIP: i64 = 90;
const SCRIPT: &str = include_str!("packages.sh");

/// Installs the packages that addons ask for, which have to be there already ([`super::put_addons`]): lines as
/// in `requirements.txt` and in manifests. Wheels that lie among the addons go before an index. What the
/// image has is not installed again. Nothing is done if it was done before with this image.
///
/// # Errors
/// `requirements_failed` with the end of pip's words, `requirements_timeout`, `pip_missing`; what was there
/// before is left as it was. `environment_incomplete`, `image_missing`, `no_room`, and those of the engine.
pub async fn put_requirements(
    docker: &Docker,
    deployment: &Deployment,
    requirements: &[String],
    told: Told<'_>,
) -> Result<()> {
    deployment.check()?;
    let did = put(docker, deployment, &plain(requirements)).await.map_err(super::plain)?;
    told(&Done { part: Part::Packages, name: deployment.names.packages(), did })
}

async fn put(docker: &Docker, deployment: &Deployment, lines: &BTreeSet<String>) -> Result<Did> {
    let names = &deployment.names;
    let image = images::present(docker, &deployment.odoo_image).await?;
    if !look::network(docker, names).await? {
        return Err(look::incomplete(names, "folder"));
    }
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    // Packages fit one Python only, which is the image's.
    let digest =
        hex::encode(Sha256::new().chain_update(&image.id).chain_update("\n").chain_update(&text).finalize());
    let found = files::read(docker, names, &image, &format!("/python/{MARK}")).await?;
    match found.as_deref() {
        Some(found) if found == digest.as_bytes() => return Ok(Did::Found),
        None if lines.is_empty() => return Ok(Did::Found),
        _ => {}
    }
    let installer = create(docker, deployment, &image, &text, &digest).await?;
    let ended = match installer.start().await {
        Ok(()) => tokio::time::timeout(PATIENCE, installer.finish()).await.unwrap_or_else(|_| Err(late())),
        Err(problem) => Err(problem),
    };
    installer.remove().await?;
    outcome(&ended?, &image.name)?;
    Ok(if found.is_some() { Did::Replaced } else { Did::Made })
}

/// Lines that name a package. Options are left out: an index is chosen by the server, and a file or a folder
/// of the machine that the backup was made on is not here.
fn plain(requirements: &[String]) -> BTreeSet<String> {
    let line = |line: &String| {
        let line = line.split(" #").next()?.split(" --").next()?.trim().trim_end_matches('\\').trim_end();
        (!line.is_empty() && !line.starts_with(['#', '-', '.', '/']) && !line.contains('\0'))
            .then(|| line.to_owned())
    };
    requirements
        .iter()
        .flat_map(|text| text.lines().map(str::to_owned))
        .filter_map(|text| line(&text))
        .collect()
}

async fn create(
    docker: &Docker,
    deployment: &Deployment,
    image: &Image,
    requirements: &str,
    digest: &str,
) -> Result<Scratch> {
    let names = &deployment.names;
    let bind = |source: String, target: &str, read_only| {
        scratch::bind(&Bind { source, target: target.to_owned(), read_only })
    };
    let mut mounts = vec![bind(names.addons(), ADDONS, true), bind(names.packages(), PYTHON, false)];
    let covered = [ADDONS.to_owned(), PYTHON.to_owned()];
    mounts.extend(scratch::cover_image_volumes(docker, &image.id, &covered, Cover::Writable).await?);
    let memory = deployment.odoo_memory().and_then(|bytes| i64::try_from(bytes).ok());
    let body = ContainerCreateBody {
        image: Some(image.id.clone()),
        user: Some(image.odoo_user().to_owned()),
        env: Some(vec![format!("MARK={MARK}"), format!("DIGEST={digest}"), "HOME=/tmp".into()]),
        entrypoint: Some(vec!["sh".into(), "/etc/undoo/packages.sh".into()]),
        cmd: Some(Vec::new()),
        labels: Some(
            Labels::new(names.environment().to_string(), 0).on_target(names.odoo()).to_map(Role::Files),
        ),
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".into()]), ..Default::default() }),
        host_config: Some(HostConfig {
            // It has a way out, and nobody else's containers.
            network_mode: Some(names.network()),
            mounts: Some(mounts),
            memory,
            memory_swap: memory,
            nano_cpus: nano_cpus(deployment),
            ..scratch::hardened()
        }),
        ..Default::default()
    };
    let installer = Scratch::create(docker, "packages", body).await?;
    let owner = user_ids(docker, &installer.id, image.odoo_user()).await?;
    let index =
        deployment.pip_index.as_ref().map(|url| format!("[global]\nindex-url = {}\n", url.expose_secret()));
    let file = |path, content, mode, owner| Entry::File { path, mode, owner, content };
    let archive = archive_of(&[
        Entry::Directory { path: "etc/undoo", mode: 0o755, owner: ROOT },
        file("etc/undoo/packages.sh", SCRIPT.as_bytes(), 0o444, ROOT),
        file("etc/undoo/requirements.txt", requirements.as_bytes(), 0o444, ROOT),
        // Its address may have a password, which variables would show.
        file("etc/undoo/pip.conf", index.unwrap_or_default().as_bytes(), 0o400, owner),
    ])?;
    archive::put(docker, &installer.id, "/", archive).await?;
    Ok(installer)
}

fn outcome(end: &ContainerEnd, image: &str) -> Result<()> {
    match end.exit_code {
        0 => Ok(()),
        NO_PIP => Err(Problem::new(
            Kind::Invalid,
            "pip_missing",
            format!("The addons ask for Python packages, and the image {image} has no pip to install them."),
            "Use an image that has pip, or one that has these packages already.",
        )),
        code => {
            let memory = if end.oom_killed { " (killed: it needed more memory than it may use)" } else { "" };
            Err(Problem::new(
                Kind::Unavailable,
                "requirements_failed",
                format!(
                    "The Python packages that the addons ask for could not be installed: pip ended with \
                     {code}{memory}.\n{}",
                    end.last_lines()
                ),
                "See whether the server reaches a package index (PyPI, or the one that the settings name), put \
                 wheels of them next to requirements.txt, or use an image that has them.",
            ))
        }
    }
}

fn late() -> Problem {
    Problem::new(
        Kind::Unavailable,
        "requirements_timeout",
        format!(
            "The Python packages that the addons ask for were not installed within {} s.",
            PATIENCE.as_secs()
        ),
        "See how the server reaches the package index; packages without a wheel are compiled, which takes long.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_name_packages_are_asked_for_and_no_option_or_place_is() {
        let asked = [
            "requests==2.31.0  # why",
            "-i https://u:p@host/simple",
            "--hash=sha256:ab",
            "xlrd>=1.0 --hash=sha256:ab \\",
            "./local",
            "/srv/pkg.whl",
            "",
            "xlrd>=1.0\n# more\nnum2words; python_version < '3.9'",
        ]
        .map(str::to_owned);
        let lines: Vec<_> = plain(&asked).into_iter().collect();
        assert_eq!(lines, ["num2words; python_version < '3.9'", "requests==2.31.0", "xlrd>=1.0"]);
    }

    #[test]
    fn how_pip_ended_is_told_with_its_last_words() {
        let end =
            |exit_code| ContainerEnd { exit_code, oom_killed: false, output: "ERROR: No matching".into() };
        assert!(outcome(&end(0), "odoo:19.0").is_ok());
        assert_eq!(outcome(&end(NO_PIP), "odoo:19.0").unwrap_err().code, "pip_missing");
        let failed = outcome(&end(1), "odoo:19.0").unwrap_err();
        assert_eq!(failed.code, "requirements_failed");
        assert!(failed.message.contains("No matching"), "{}", failed.message);
    }
}
