//! The custom modules of a backup on their way into an environment that is made for it.
//!
//! Unlike everything else of a backup they pass this process: they are few and small, and the folder that they go
//! to belongs to the server and not to a container that a mover could be beside.

use std::{
    io::{self, BufWriter, Write},
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

use super::deploy::sentence;
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

/// Puts the modules that a backup has, and the Python packages that they ask for.
///
/// # Errors
/// `addons_untrusted` where nobody stands for them, `addons_changed`, `cancelled`; those of the backup's storage and
/// of `undoo_hosts::deploy`. What was put stays in the environment's folder, and goes with it.
pub async fn put(
    docker: &Docker,
    deployment: &Deployment,
    backup: &BackupOrder,
    trust: Trust<'_>,
    caller: Caller<'_>,
) -> Result<(), Failure> {
    let work = async {
        let backup = backup.open(&Options::default()).await?;
        let Some(modules) = Modules::of(&backup) else { return Ok(()) };
        if let Some(failure) = Failure::of(&untrusted(&modules, trust), trust.accept) {
            return Err(failure);
        }
        let names = names(&modules);
        let requirements = modules.requirements().to_vec();
        send(docker, deployment, backup, modules).await?;
        caller.say(format!("custom modules put: {names}"));
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

async fn send(docker: &Docker, deployment: &Deployment, backup: Arc<Backup>, modules: Modules) -> Result<()> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let archiving = tokio::task::spawn_blocking(move || {
        let written = archive(&backup, &modules, Pieces(sender.clone()));
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

fn archive(backup: &Backup, modules: &Modules, out: Pieces) -> Result<()> {
    let mut archive = tar::Builder::new(BufWriter::with_capacity(PIECE, out));
    modules.read(backup, &mut |path, size, content| {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, content)
    })?;
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
