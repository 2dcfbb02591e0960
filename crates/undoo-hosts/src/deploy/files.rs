//! The folder of an environment on its server, `/opt/PREFIX/ENVIRONMENT`: configuration, addons, packages.
//!
//! It is reached through containers that mount its parent and are never started; only to remove it, one is
//! run. So whatever the server is and wherever, Docker is all that is needed.

use bollard::models::{ContainerCreateBody, HostConfig};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use secrecy::ExposeSecret as _;
use undoo_core::{
    Kind, Problem, Result,
    platform::{Deployment, Names},
};

use super::{Did, Done, Image, Part, images::ensure_image, look, things::LABEL_IMAGE};
use crate::{
    archive::{self, Owner},
    docker::{Docker, problem},
    labels::{Labels, Role},
    scratch::{self, Cover, Scratch},
    target::user_ids,
};

/// Where the parent of the folder is mounted in our containers.
const INSIDE: &str = "/undoo-folders";
/// No `odoo.conf` is larger.
const LARGEST_CONF: usize = 1024 * 1024;
/// How long a folder of addons may take to be sent.
const ADDONS_PATIENCE: std::time::Duration = std::time::Duration::from_secs(3600);
pub(super) const ROOT: Owner = Owner { uid: 0, gid: 0 };

/// Something in an archive.
pub(super) enum Entry<'a> {
    Directory { path: &'a str, mode: u32, owner: Owner },
    File { path: &'a str, mode: u32, owner: Owner, content: &'a [u8] },
}

/// An archive of these things and nothing else.
pub(super) fn archive_of(entries: &[Entry<'_>]) -> Result<Vec<u8>> {
    let write = || {
        let mut archive = tar::Builder::new(Vec::new());
        for entry in entries {
            let (path, mode, owner, content, kind): (_, _, _, &[u8], _) = match *entry {
                Entry::Directory { path, mode, owner } => (path, mode, owner, &[], tar::EntryType::Directory),
                Entry::File { path, mode, owner, content } => {
                    (path, mode, owner, content, tar::EntryType::Regular)
                }
            };
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(content.len() as u64);
            header.set_mode(mode);
            header.set_uid(owner.uid.into());
            header.set_gid(owner.gid.into());
            archive.append_data(&mut header, path, content)?;
        }
        archive.into_inner()
    };
    write().map_err(|error: std::io::Error| {
        Problem::new(Kind::Internal, "archive_not_made", "An archive of files could not be made.", "")
            .caused_by(error)
    })
}

/// Makes sure that the folder is not somebody else's. Only to be asked while the environment has no network.
pub(super) async fn refuse_taken(docker: &Docker, names: &Names, image: &Image) -> Result<()> {
    let door = door(docker, names, image).await?;
    let found = archive::stat(docker, &door.id, &inside(names, "")).await;
    door.remove().await?;
    match found? {
        Some(_) => Err(look::taken("folder", &names.folder())),
        None => Ok(()),
    }
}

/// Writes configuration and folders, if they are not there as they are to be. The configuration can be read by
/// the user that Odoo runs as and by root.
pub(super) async fn write(docker: &Docker, deployment: &Deployment, image: &Image) -> Result<Done> {
    let door = door(docker, &deployment.names, image).await?;
    let written = write_through(docker, deployment, image, &door).await;
    door.remove().await?;
    Ok(Done { part: Part::Folder, name: deployment.names.folder(), did: written? })
}

async fn write_through(
    docker: &Docker,
    deployment: &Deployment,
    image: &Image,
    door: &Scratch,
) -> Result<Did> {
    let names = &deployment.names;
    let conf = deployment.odoo_conf();
    let conf = conf.expose_secret().as_bytes();
    let found = archive::read_file(docker, &door.id, &inside(names, "/odoo.conf"), LARGEST_CONF).await?;
    // It is written last, so that whoever finds it finds the others.
    if found.as_deref() == Some(conf) {
        return Ok(Did::Found);
    }
    let owner = user_ids(docker, &door.id, image.odoo_user()).await?;
    let folder = names.name();
    let [addons, python, file] = ["addons", "python", "odoo.conf"].map(|name| format!("{folder}/{name}"));
    let directory = |path, owner| Entry::Directory { path, mode: 0o755, owner };
    let archive = archive_of(&[
        directory(&folder, ROOT),
        directory(&addons, ROOT),
        // Packages are installed by the user that they are for; while Odoo runs, it cannot write there.
        directory(&python, owner),
        Entry::File { path: &file, mode: 0o640, owner, content: conf },
    ])?;
    archive::put(docker, &door.id, INSIDE, archive).await?;
    Ok(if found.is_some() { Did::Replaced } else { Did::Made })
}

/// Puts addons into the environment's folder, from a tar archive whose top folders are the modules. What is
/// there already stays, unless it has the same name.
///
/// # Errors
/// `environment_incomplete` where there is no folder; `no_room`; those of the engine and of the stream.
pub async fn put_addons<S>(docker: &Docker, deployment: &Deployment, archive: S) -> Result<()>
where
    S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
{
    let names = &deployment.names;
    let image = super::images::present(docker, &deployment.odoo_image).await?;
    let door = door(docker, names, &image).await?;
    let put = async {
        let addons = inside(names, "/addons");
        if !look::network(docker, names).await? || archive::stat(docker, &door.id, &addons).await?.is_none() {
            return Err(look::incomplete(names, "folder for addons"));
        }
        let options = bollard::query_parameters::UploadToContainerOptionsBuilder::new().path(&addons).build();
        docker
            .engine_patient(ADDONS_PATIENCE)
            .upload_to_container(&door.id, Some(options), bollard::body_try_stream(archive.into_stream()))
            .await
            .map_err(|error| {
                super::plain(problem(error, || format!("writing addons into {}", names.folder())))
            })
    };
    let put = put.await;
    door.remove().await?;
    put
}

/// A small file of the folder; `None` where it is not there.
pub(super) async fn read(
    docker: &Docker,
    names: &Names,
    image: &Image,
    below: &str,
) -> Result<Option<Vec<u8>>> {
    let door = door(docker, names, image).await?;
    let found = archive::read_file(docker, &door.id, &inside(names, below), LARGEST_CONF).await;
    door.remove().await?;
    found
}

/// Removes the folder; answers whether there was one.
pub(super) async fn remove(docker: &Docker, names: &Names) -> Result<bool> {
    let network = names.network();
    let labels = match docker.engine().inspect_network(&network, None).await {
        Ok(found) => found.labels.unwrap_or_default(),
        Err(error) => return Err(problem(error, || format!("inspecting the network {network}"))),
    };
    let Some(name) = labels.get(LABEL_IMAGE) else { return Ok(false) };
    let image = match super::images::present(docker, name).await {
        Ok(image) => image,
        Err(_) => ensure_image(docker, name).await?,
    };
    let folder = inside(names, "");
    let mut body = door_body(docker, names, &image).await?;
    body.entrypoint = Some(vec!["rm".into(), "-rf".into(), "--".into(), folder.clone()]);
    body.cmd = Some(Vec::new());
    let door = Scratch::create(docker, Role::Files.as_str(), body).await?;
    let removed = async {
        if archive::stat(docker, &door.id, &folder).await?.is_none() {
            return Ok(false);
        }
        door.start().await?;
        let end = door.finish().await?;
        if end.exit_code == 0 {
            return Ok(true);
        }
        Err(Problem::new(
            Kind::Unavailable,
            "folder_not_removed",
            format!("The folder {} could not be removed: {}", names.folder(), end.last_lines()),
            "Remove it by hand on that server, then try again.",
        ))
    };
    let removed = removed.await;
    door.remove().await?;
    removed
}

/// A container through which the folder can be read and written.
async fn door(docker: &Docker, names: &Names, image: &Image) -> Result<Scratch> {
    Scratch::create(docker, Role::Files.as_str(), door_body(docker, names, image).await?).await
}

async fn door_body(docker: &Docker, names: &Names, image: &Image) -> Result<ContainerCreateBody> {
    let covers = scratch::cover_image_volumes(docker, &image.id, &[], Cover::ReadOnly).await?;
    Ok(ContainerCreateBody {
        image: Some(image.id.clone()),
        entrypoint: Some(vec!["true".into()]),
        user: Some("0:0".into()),
        labels: Some(
            Labels::new(names.environment().to_string(), 0).on_target(names.odoo()).to_map(Role::Files),
        ),
        healthcheck: Some(bollard::models::HealthConfig {
            test: Some(vec!["NONE".into()]),
            ..Default::default()
        }),
        host_config: Some(HostConfig {
            network_mode: Some("none".into()),
            mounts: Some(covers),
            // The older form, since it makes a folder that is not there.
            binds: Some(vec![format!("{}:{INSIDE}", names.folders())]),
            cap_add: Some(vec!["DAC_OVERRIDE".into(), "FOWNER".into()]),
            ..scratch::hardened()
        }),
        ..Default::default()
    })
}

fn inside(names: &Names, below: &str) -> String {
    format!("{INSIDE}/{}{below}", names.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_what_was_given_with_owners_and_modes_and_no_more() {
        let owner = Owner { uid: 100, gid: 101 };
        let bytes = archive_of(&[
            Entry::Directory { path: "a", mode: 0o755, owner: ROOT },
            Entry::File { path: "a/odoo.conf", mode: 0o640, owner, content: b"[options]" },
        ])
        .unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let found: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                let path = entry.path().unwrap().display().to_string();
                (path, header.mode().unwrap(), header.uid().unwrap(), header.entry_type().is_dir())
            })
            .collect();
        assert_eq!(found, [("a".into(), 0o755, 0, true), ("a/odoo.conf".into(), 0o640, 100, false)]);
    }
}
