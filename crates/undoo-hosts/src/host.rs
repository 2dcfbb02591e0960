//! A server as a whole: what its Docker Engine says that it is, has and has given away.
//!
//! It asks, and changes nothing. Of its disk Docker says nothing but the directory that it keeps everything in. On
//! this machine that is looked at; on another one `df`, which POSIX has on every server, is asked by SSH. A container
//! could look too, but this is asked each minute and of fresh servers: it would need an image, and the binary sent
//! there first. A server that runs no commands has a disk of unknown size.

use std::{collections::BTreeSet, path::Path};

use bollard::query_parameters::ListContainersOptions;
use undoo_core::Result;

use crate::docker::{Docker, problem};

/// A server that was looked at. What it did not say is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Version of its Docker Engine.
    pub docker_version: Option<String>,
    /// Its cores.
    pub cores: Option<u64>,
    /// Bytes of its memory.
    pub memory: Option<u64>,
    /// The disk that its engine keeps everything on.
    pub disk: Option<Disk>,
    /// Ports of it that running containers have taken.
    pub ports_taken: BTreeSet<u16>,
}

/// A disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Its bytes.
    pub size: u64,
    /// Those that a user other than root may still write.
    pub free: u64,
}

/// Looks at the server of an engine. `is_here` says that its file systems are this process's.
///
/// # Errors
/// Those of the engine.
pub async fn look(docker: &Docker, is_here: bool) -> Result<Host> {
    let info = docker.engine().info().await;
    let info = info.map_err(|error| problem(error, || "asking Docker about its server".into()))?;
    let containers = docker.engine().list_containers(None::<ListContainersOptions>).await;
    let containers = containers.map_err(|error| problem(error, || "listing containers".into()))?;
    let ports = containers.into_iter().flat_map(|container| container.ports.unwrap_or_default());
    let disk = match info.docker_root_dir {
        Some(root) if docker.is_remote() => disk_there(docker, &root).await,
        Some(root) if is_here => {
            tokio::task::spawn_blocking(move || disk_of(Path::new(&root))).await.ok().flatten()
        }
        _ => None,
    };
    let count = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
    Ok(Host {
        docker_version: info.server_version,
        cores: count(info.ncpu),
        memory: count(info.mem_total),
        disk,
        ports_taken: ports.filter_map(|port| port.public_port).collect(),
    })
}

/// The disk of a directory of another server.
async fn disk_there(docker: &Docker, path: &str) -> Option<Disk> {
    // Shells do not agree on how to write such a name.
    if path.contains(['\'', '\\', '!', '\n']) {
        return None;
    }
    told_by_df(&docker.ask_server(&format!("df -P -k '{path}'")).await?)
}

/// Reads the answer of `df -P -k` (POSIX.1-2017, df) about one directory: the name of a file system, its blocks of
/// 1024 bytes, those in use, those that are available, the share in use, and where it is mounted. The names may
/// have blanks.
fn told_by_df(answer: &str) -> Option<Disk> {
    let words: Vec<&str> = answer.lines().skip(1).flat_map(str::split_whitespace).collect();
    words.windows(4).find_map(|words| {
        let [size, used, free, share] = words else { return None };
        share.strip_suffix('%')?.parse::<u64>().ok()?;
        used.parse::<u64>().ok()?;
        let bytes = |blocks: &str| blocks.parse::<u64>().ok()?.checked_mul(1024);
        // Once root has written into what is reserved for it, less than nothing is available.
        let free = if free.starts_with('-') { 0 } else { bytes(free)? };
        Some(Disk { size: bytes(size)?, free })
    })
}

/// The disk of a directory that this process sees too; in a container it may not.
fn disk_of(path: &Path) -> Option<Disk> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(Disk {
        size: stat.f_blocks.saturating_mul(stat.f_frsize),
        free: stat.f_bavail.saturating_mul(stat.f_frsize),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_a_size_and_no_more_free_than_that() {
        let disk = disk_of(Path::new("/")).unwrap();
        assert!(disk.size > 0 && disk.free <= disk.size);
        assert_eq!(disk_of(Path::new("/no/such/directory")), None);
    }

    #[test]
    fn what_df_says_of_a_directory_is_read_whatever_the_file_system_is_called() {
        let head = "Filesystem     1024-blocks     Used Available Capacity Mounted on\n";
        let told = |row: &str| told_by_df(&format!("{head}{row}\n")).map(|disk| (disk.size, disk.free));
        assert_eq!(
            told("/dev/vda1 264212084 62059640 33226248 66% /"),
            Some((264_212_084 << 10, 33_226_248 << 10))
        );
        assert_eq!(told("//nas/two words 1000 900 100 90% /mnt/a b"), Some((1_024_000, 102_400)));
        assert_eq!(told("/dev/mapper/a-very-long-name\n  1000 1100 -50 105% /"), Some((1_024_000, 0)));
        assert_eq!(told("none - - - - /proc"), None);
        assert_eq!(told_by_df("df: /var/lib/docker: No such file or directory"), None);
        assert_eq!(told_by_df("Welcome!"), None);
    }
}
