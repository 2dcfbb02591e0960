//! Files in and out of containers by the engine's archive endpoint (what `docker cp` uses).
//!
//! It works on stopped containers and needs no program inside. Nothing here ever reads more than it was
//! allowed to: a path inside a container may be anything, also endless.

use std::io::Read as _;

use bollard::query_parameters::{DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder};
use bytes::Bytes;
use futures_util::StreamExt as _;
use undoo_core::{Kind, Problem, Result};

use crate::docker::{Docker, is_missing, problem};

/// A symbolic link may point at another; more than this is a loop.
const MOST_LINKS: usize = 8;

/// Who owns a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Owner {
    /// Numeric user id, as inside the container.
    pub uid: u32,
    /// Numeric group id, as inside the container.
    pub gid: u32,
}

/// What the archive endpoint says about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) size: u64,
    /// Where a symbolic link leads in the end, as a path inside the container.
    pub(crate) link: Option<String>,
}

/// Reads a file of at most `limit` bytes, through symbolic links. `None` if it is not there.
pub(crate) async fn read_file(
    docker: &Docker,
    container: &str,
    path: &str,
    limit: usize,
) -> Result<Option<Vec<u8>>> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        // Headers, padding and extended headers of one file fit well into this allowance.
        let Some(bytes) = download(docker, container, &path, limit.saturating_add(64 * 1024)).await? else {
            return Ok(None);
        };
        let broken = |error: std::io::Error| {
            Problem::new(
                Kind::Unavailable,
                "docker_archive_broken",
                format!("Docker sent a broken archive for {path} in {container}."),
                "Try again; if it stays, check that \"docker cp\" can read that file.",
            )
            .caused_by(error)
        };
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut entries = archive.entries().map_err(broken)?;
        let Some(entry) = entries.next() else { return Ok(None) };
        let entry = entry.map_err(broken)?;
        match entry.header().entry_type() {
            tar::EntryType::Symlink | tar::EntryType::Link => {
                let Some(link) = entry.link_name().map_err(broken)? else { return Ok(None) };
                path = resolve(&path, &link.to_string_lossy());
            }
            tar::EntryType::Directory => return Ok(None),
            _ => {
                if entry.size() > limit as u64 {
                    return Err(Problem::new(
                        Kind::Invalid,
                        "container_file_too_large",
                        format!(
                            "{path} in {container} has {} bytes; at most {limit} are read.",
                            entry.size()
                        ),
                        "Check that the path names the file you mean.",
                    ));
                }
                let mut content = Vec::new();
                entry.take(limit as u64).read_to_end(&mut content).map_err(broken)?;
                return Ok(Some(content));
            }
        }
    }
    Err(Problem::new(
        Kind::Invalid,
        "container_link_loop",
        format!("Symbolic links at {path} in {container} lead in a circle."),
        "Check the links inside the container.",
    ))
}

/// Who owns `path`; `None` if it is not there. Of a directory only the first header is fetched.
pub(crate) async fn owner(docker: &Docker, container: &str, path: &str) -> Result<Option<Owner>> {
    // With "/." a link to a directory is followed.
    let Some(bytes) = download(docker, container, &format!("{path}/."), 16 * 1024).await? else {
        return Ok(None);
    };
    let mut archive = tar::Archive::new(bytes.as_slice());
    let header = archive
        .entries()
        .ok()
        .and_then(|mut entries| entries.next()?.ok())
        .and_then(|entry| Some((entry.header().uid().ok()?, entry.header().gid().ok()?)));
    Ok(header.and_then(|(uid, gid)| Some(Owner { uid: uid.try_into().ok()?, gid: gid.try_into().ok()? })))
}

/// What `path` is; `None` if it is not there.
pub(crate) async fn stat(docker: &Docker, container: &str, path: &str) -> Result<Option<Stat>> {
    let options = bollard::query_parameters::ContainerArchiveInfoOptionsBuilder::new().path(path).build();
    match docker.engine().get_container_archive_info(container, Some(options)).await {
        Ok(found) => Ok(Some(Stat {
            size: u64::try_from(found.size).unwrap_or(0),
            link: Some(found.link_target).filter(|link| !link.is_empty()),
        })),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(problem(error, || format!("looking at {path} in {container}"))),
    }
}

/// A tar archive of one file, for [`put`]. Directories on its way are made, owned by root.
pub(crate) fn of_file(path: &str, content: &[u8], mode: u32, owner: Owner) -> Result<Vec<u8>> {
    let write = || {
        let mut archive = tar::Builder::new(Vec::new());
        let parents = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
        for directory in parents {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_size(0);
            header.set_mode(0o755);
            archive.append_data(&mut header, directory, std::io::empty())?;
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_uid(owner.uid.into());
        header.set_gid(owner.gid.into());
        archive.append_data(&mut header, path, content)?;
        archive.into_inner()
    };
    write().map_err(|error: std::io::Error| {
        Problem::new(Kind::Internal, "archive_not_made", format!("{path} cannot be put into an archive."), "")
            .caused_by(error)
    })
}

/// Puts a tar archive into a directory of the container. The directory must exist.
pub(crate) async fn put(docker: &Docker, container: &str, directory: &str, archive: Vec<u8>) -> Result<()> {
    let options = UploadToContainerOptionsBuilder::new().path(directory).build();
    docker
        .engine()
        .upload_to_container(container, Some(options), bollard::body_full(Bytes::from(archive)))
        .await
        .map_err(|error| problem(error, || format!("writing into {directory} of {container}")))
}

/// At most `limit` bytes of the archive of `path`; the rest is left unread and the connection closed.
async fn download(docker: &Docker, container: &str, path: &str, limit: usize) -> Result<Option<Vec<u8>>> {
    let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
    let mut stream = std::pin::pin!(docker.engine().download_from_container(container, Some(options)));
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(problem(error, || format!("reading {path} in {container}"))),
        }
        if bytes.len() > limit {
            break;
        }
    }
    Ok(Some(bytes))
}

/// Where a link found at `path` leads.
fn resolve(path: &str, link: &str) -> String {
    if link.starts_with('/') {
        return link.to_owned();
    }
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    format!("{directory}/{link}")
}

#[cfg(test)]
mod tests {
    use super::resolve;

    #[test]
    fn links_are_resolved_against_the_directory_they_are_in() {
        assert_eq!(resolve("/etc/odoo/odoo.conf", "other.conf"), "/etc/odoo/other.conf");
        assert_eq!(resolve("/etc/odoo/odoo.conf", "/run/odoo.conf"), "/run/odoo.conf");
        assert_eq!(resolve("/odoo.conf", "x"), "/x");
    }
}
