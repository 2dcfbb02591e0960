//! What the storages promise, shown on real ones: this machine's disk, a SeaweedFS server over plain HTTP
//! and over S3, OpenSSH and vsftpd, also behind a proxy that breaks connections.

mod blocking;
mod causes;
mod faults;
mod local;
mod lock;
mod proxy;
mod refusals;
mod servers;
mod ssh;
mod suite;
mod weed;
mod write_faults;
mod writing;

use std::{io, sync::Arc, time::Duration};

use futures_util::TryStreamExt;
use undoo_core::{Problem, Result};
use undoo_storage::{Access, Folder, Object, Opened, Options, Retry, problem_of};

/// Bytes that repeat nowhere within a few megabytes, so that a read from a wrong place is seen.
fn sample(len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(len as u64);
    (0..len).map(|_| random.u8(..)).collect()
}

/// The defaults, with pauses that a test can wait for.
fn quick() -> Options {
    Options {
        stall_timeout: Duration::from_millis(500),
        retry: Retry {
            attempts: 4,
            first_pause: Duration::from_millis(5),
            longest_pause: Duration::from_millis(20),
        },
        ..Options::default()
    }
}

async fn open_file(access: &Access, options: &Options) -> Result<Arc<Object>> {
    match access.open(options).await? {
        Opened::File(object) => Ok(object),
        Opened::Folder(folder) => panic!("{} is a folder", folder.place()),
    }
}

async fn open_folder(access: &Access, options: &Options) -> Result<Arc<Folder>> {
    match access.open(options).await? {
        Opened::Folder(folder) => Ok(folder),
        Opened::File(object) => panic!("{} is a file", object.place()),
    }
}

async fn read(object: &Object, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let chunks: Vec<_> = object.read(offset, len)?.try_collect().await?;
    Ok(chunks.concat())
}

/// The problem that a failed read carries.
async fn read_problem(object: &Object, offset: u64, len: u64) -> Problem {
    let error = read(object, offset, len).await.expect_err("the read fails");
    problem_of(error).expect("errors of streams carry problems")
}
