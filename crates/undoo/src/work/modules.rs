//! Custom modules on their way into an environment that is made: those of git repositories, and of the backup what
//! these do not have.
//!
//! Unlike everything else of a backup its modules pass this process: they are few and small, and the folder that they
//! go to belongs to the server and not to a container that a mover could be beside.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::PathBuf,
    sync::Arc,
};

use tokio::sync::mpsc;
use undoo_archive::{Backup, addons::Modules};
use undoo_core::{Finding, Kind, Problem, Result, platform::Deployment};
use undoo_engine::{order::Failure, source::BackupOrder};
use undoo_hosts::{
    Docker,
    deploy::{self, Done},
};
use undoo_storage::Options;

use super::{checkouts::Checkouts, deploy::sentence};
use crate::{caller::Caller, interrupt::cancelled};

/// Code of the finding about modules whose maker is not known. It can be accepted.
const UNTRUSTED: &str = "addons_untrusted";
/// Bytes of the archive that are sent at once.
const PIECE: usize = 256 * 1024;
/// Pieces that wait to be sent.
const AHEAD: usize = 4;

/// Whose code is run: of which keys, and what somebody has accepted.
#[derive(Debug, Clone, Copy)]
pub struct Trust<'a> {
    /// Public keys, hexadecimal.
    pub keys: &'a [String],
    /// Codes of findings.
    pub accept: &'a [String],
}

/// Puts the modules that were fetched, those that a backup has besides, and the Python packages that they ask for.
///
/// # Errors
/// `addons_untrusted` where nobody stands for them, `addons_changed`, `cancelled`; those of the backup's storage and
/// of `undoo_hosts::deploy`. What was put stays in the environment's folder, and goes with it.
pub async fn put(
    docker: &Docker,
    deployment: &Deployment,
    checkouts: &Checkouts,
    backup: &BackupOrder,
    trust: Trust<'_>,
    caller: Caller<'_>,
) -> Result<(), Failure> {
    let work = async {
        let backup = backup.open(&Options::default()).await?;
        let modules = besides(&backup, checkouts);
        let untrusted = modules.iter().flat_map(|modules| untrusted(modules, trust)).collect::<Vec<_>>();
        if let Some(failure) = Failure::of(&untrusted, trust.accept) {
            return Err(failure);
        }
        let mut names = checkouts.modules();
        let mut requirements = checkouts.requirements().to_vec();
        if let Some(modules) = &modules {
            names.extend(modules.names().map(str::to_owned));
            requirements.extend(modules.requirements().map(str::to_owned));
        }
        if names.is_empty() && requirements.is_empty() {
            return Ok(());
        }
        send(docker, deployment, Contents { fetched: checkouts.files().clone(), backup, modules }).await?;
        caller.say(format!("custom modules put: {}", names.into_iter().collect::<Vec<_>>().join(", ")));
        let mut told = |done: &Done| {
            caller.say(sentence(done));
            Ok(())
        };
        Ok(deploy::put_requirements(docker, deployment, &requirements, &mut told).await?)
    };
    tokio::select! {
        done = work => done,
        () = caller.stop.asked() => Err(cancelled().into()),
    }
}

/// The modules of a backup, but those that were fetched.
pub fn besides(backup: &Backup, checkouts: &Checkouts) -> Option<Modules> {
    Modules::of(backup)?.without(&checkouts.modules())
}

/// Code that nobody known stands for is not run unasked.
pub fn untrusted(modules: &Modules, trust: Trust<'_>) -> Vec<Finding> {
    if modules.signed_by().is_some_and(|key| trust.keys.iter().any(|trusted| trusted == key)) {
        return Vec::new();
    }
    vec![Finding::needs_acceptance(
        UNTRUSTED,
        format!(
            "the backup brings modules whose code Odoo would run, and no key that is trusted has signed it: {}",
            names(modules)
        ),
        "Read them, or use a backup that was signed by a key that is trusted.",
    )]
}

fn names(modules: &Modules) -> String {
    modules.names().collect::<Vec<_>>().join(", ")
}

/// What goes into the environment's folder.
struct Contents {
    fetched: BTreeMap<String, PathBuf>,
    backup: Arc<Backup>,
    modules: Option<Modules>,
}

async fn send(docker: &Docker, deployment: &Deployment, contents: Contents) -> Result<()> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let archiving = tokio::task::spawn_blocking(move || {
        let written = archive(&contents, Pieces(sender.clone()));
        match written {
            // Whoever took the pieces has a problem of its own.
            Err(_) if sender.is_closed() => Ok(()),
            Err(problem) => {
                // An archive that ended here would be taken for whole.
                _ = sender.blocking_send(Err(io::Error::other(problem.message.clone())));
                Err(problem)
            }
            Ok(()) => Ok(()),
        }
    });
    let pieces = futures_util::stream::unfold(receiver, |mut pieces| async move {
        pieces.recv().await.map(|piece| (piece, pieces))
    });
    let put = deploy::put_addons(docker, deployment, pieces).await;
    archiving.await.map_err(|error| {
        Problem::new(Kind::Internal, "worker", "reading the backup's modules broke off", "please report this")
            .caused_by(error)
    })??;
    put
}

fn archive(contents: &Contents, out: Pieces) -> Result<()> {
    let mut archive = tar::Builder::new(BufWriter::with_capacity(PIECE, out));
    let mut put = |path: &str, size, content: &mut dyn Read| {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, content)
    };
    for (path, file) in &contents.fetched {
        let mut open = || {
            let mut file = File::open(file)?;
            let size = file.metadata()?.len();
            put(path, size, &mut file)
        };
        open().map_err(undoo_archive::error::problem_of)?;
    }
    if let Some(modules) = &contents.modules {
        modules.read(&contents.backup, &mut put)?;
    }
    let ended = archive.into_inner().and_then(|mut out| out.flush());
    ended.map_err(undoo_archive::error::problem_of)
}

/// Hands on what is written.
struct Pieces(mpsc::Sender<io::Result<bytes::Bytes>>);

impl Write for Pieces {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(bytes::Bytes::copy_from_slice(piece)));
        sent.map(|()| piece.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
