//! The `undoo` binary on a server: a volume that every mover there mounts read-only.
//!
//! The volume's name holds the hash of the binary, so a new version never disturbs a running mover. It
//! is filled through a container that is created and never started. A crash in between leaves a volume
//! without its marker, which is filled anew by the next one.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::{
    models::{ContainerCreateBody, HostConfig, Mount, MountType, VolumeCreateRequest},
    query_parameters::{ListVolumesOptionsBuilder, UploadToContainerOptionsBuilder},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;
use undoo_core::{Kind, Problem, Result};

use crate::{
    archive::{self, Owner},
    docker::{Docker, is_missing, problem},
    labels::{LABEL_ROLE, Role, label_filter},
    scratch::{self, Cover, Scratch},
};

/// Where the volume is mounted in our containers.
pub(crate) const DIRECTORY: &str = "/undoo";
/// The binary as our containers call it.
pub(crate) const PROGRAM: &str = "/undoo/undoo";
/// Written last; holds the binary's hash.
const MARKER: &str = "complete";
const VOLUME_PREFIX: &str = "undoo_bin_";
/// Whoever fills a volume is done by then, or dead.
const LONGEST_FILL: Duration = Duration::from_secs(300);

/// Makes sure that this server has this binary in a volume, and gives the volume's name. Volumes of
/// other versions that no container uses are removed.
///
/// `image` is any image that the server has; nothing in it is run.
///
/// # Errors
/// `binary_unreadable` where `binary` cannot be read, `binary_not_stored` where the volume does not
/// hold it afterwards.
pub async fn ensure_binary(docker: &Docker, binary: &Path, image: &str) -> Result<String> {
    let (hash, size) = hash_of(binary).await.map_err(|error| unreadable(binary, error))?;
    let volume = format!("{VOLUME_PREFIX}{}", hash.get(..16).unwrap_or(&hash));
    let request = VolumeCreateRequest {
        name: Some(volume.clone()),
        labels: Some(HashMap::from([(LABEL_ROLE.to_owned(), Role::Binary.as_str().to_owned())])),
        ..Default::default()
    };
    docker
        .engine()
        .create_volume(request)
        .await
        .map_err(|error| problem(error, || format!("creating the volume {volume}")))?;
    let filler = lock(docker, &volume, image).await?;
    let filled = fill(docker, &filler.id, binary, &hash, size).await;
    filler.remove().await?;
    filled?;
    remove_others(docker, &volume).await?;
    Ok(volume)
}

/// The mount of the volume in a container that runs the binary.
pub(crate) fn mount(volume: &str, read_only: bool) -> Mount {
    Mount {
        target: Some(DIRECTORY.into()),
        source: Some(volume.to_owned()),
        typ: Some(MountType::VOLUME),
        read_only: Some(read_only),
        ..Default::default()
    }
}

/// Creates the container through which the volume is looked at and filled. Its name is the lock: the
/// engine lets only one container have it.
async fn lock(docker: &Docker, volume: &str, image: &str) -> Result<Scratch> {
    let name = format!("undoo-fill-{}", volume.trim_start_matches(VOLUME_PREFIX));
    let mut mounts = scratch::cover_image_volumes(docker, image, &[], Cover::ReadOnly).await?;
    mounts.push(mount(volume, false));
    let waiting_since = tokio::time::Instant::now();
    loop {
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            entrypoint: Some(vec![PROGRAM.into()]),
            labels: Some(HashMap::from([(LABEL_ROLE.to_owned(), Role::Binary.as_str().to_owned())])),
            host_config: Some(HostConfig {
                network_mode: Some("none".into()),
                mounts: Some(mounts.clone()),
                ..scratch::hardened()
            }),
            ..Default::default()
        };
        match Scratch::create_named(docker, name.clone(), body).await {
            Err(taken) if taken.code == "docker_conflict" => {
                if waiting_since.elapsed() > LONGEST_FILL {
                    // Its owner crashed: it never runs, and it has our name.
                    scratch::remove(docker, &name).await?;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            other => return other,
        }
    }
}

async fn fill(docker: &Docker, container: &str, binary: &Path, hash: &str, size: u64) -> Result<()> {
    if is_whole(docker, container, hash, size).await? {
        return Ok(());
    }
    upload(docker, container, binary, size).await?;
    let marker = archive::of_file(MARKER, hash.as_bytes(), 0o444, Owner { uid: 0, gid: 0 })?;
    archive::put(docker, container, DIRECTORY, marker).await?;
    if is_whole(docker, container, hash, size).await? {
        return Ok(());
    }
    Err(Problem::new(
        Kind::Unavailable,
        "binary_not_stored",
        "The volume for Undoo's binary does not hold it after writing it.",
        "Check the free space under Docker's data directory on that server, then try again.",
    ))
}

async fn is_whole(docker: &Docker, container: &str, hash: &str, size: u64) -> Result<bool> {
    let marker = archive::read_file(docker, container, &format!("{DIRECTORY}/{MARKER}"), 1024).await?;
    if marker.as_deref() != Some(hash.as_bytes()) {
        return Ok(false);
    }
    Ok(archive::stat(docker, container, PROGRAM).await?.is_some_and(|found| found.size == size))
}

/// Streams the binary as a tar archive of one file, so that memory does not grow with it.
async fn upload(docker: &Docker, container: &str, binary: &Path, size: u64) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_path("undoo").map_err(|error| unreadable(binary, error))?;
    header.set_size(size);
    header.set_mode(0o555);
    header.set_cksum();
    let file = tokio::fs::File::open(binary).await.map_err(|error| unreadable(binary, error))?;
    let padding = usize::try_from(size.next_multiple_of(512) - size).unwrap_or(0) + 1024;
    let start = futures_util::stream::iter([Ok(Bytes::copy_from_slice(header.as_bytes()))]);
    // A file that grows meanwhile must not shift what follows it.
    let content = tokio_util::io::ReaderStream::with_capacity(file.take(size), 256 * 1024);
    let end = futures_util::stream::iter([Ok(Bytes::from(vec![0; padding]))]);
    let body = bollard::body_try_stream(start.chain(content).chain(end).into_stream());
    let options = UploadToContainerOptionsBuilder::new().path(DIRECTORY).build();
    docker
        .engine_patient(LONGEST_FILL)
        .upload_to_container(container, Some(options), body)
        .await
        .map_err(|error| problem(error, || "sending Undoo's binary to the server".into()))
}

async fn remove_others(docker: &Docker, keep: &str) -> Result<()> {
    let mut filters = label_filter(&[(LABEL_ROLE, Some(Role::Binary.as_str()))]);
    filters.insert("dangling".into(), vec!["true".into()]);
    let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
    let found = docker
        .engine()
        .list_volumes(Some(options))
        .await
        .map_err(|error| problem(error, || "listing volumes".into()))?;
    for volume in found.volumes.into_iter().flatten() {
        if volume.name == keep || !volume.name.starts_with(VOLUME_PREFIX) {
            continue;
        }
        let options = bollard::query_parameters::RemoveVolumeOptionsBuilder::new().force(false).build();
        match docker.engine().remove_volume(&volume.name, Some(options)).await {
            Ok(()) => tracing::debug!(volume = volume.name, "removed an older binary"),
            Err(error) if is_missing(&error) => {}
            // Somebody has begun to use it since it was listed.
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 409, .. }) => {}
            Err(error) => return Err(problem(error, || format!("removing the volume {}", volume.name))),
        }
    }
    Ok(())
}

async fn hash_of(binary: &Path) -> std::io::Result<(String, u64)> {
    let binary = PathBuf::from(binary);
    let mut file = tokio::fs::File::open(binary).await?;
    let mut hash = Sha256::new();
    let mut size = 0u64;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut buffer).await?;
        let Some(chunk) = buffer.get(..read).filter(|chunk| !chunk.is_empty()) else { break };
        hash.update(chunk);
        size += chunk.len() as u64;
    }
    Ok((hex::encode(hash.finalize()), size))
}

fn unreadable(binary: &Path, error: std::io::Error) -> Problem {
    Problem::new(
        Kind::Missing,
        "binary_unreadable",
        format!("Undoo's own binary {} cannot be read: {error}.", binary.display()),
        "Check the path and its permissions.",
    )
    .caused_by(error)
}
