//! The custom modules of a backup on their way into an environment that the platform makes.
//!
//! Unlike everything else of a backup they pass this process: they are few and small, and the folder that they go
//! to belongs to the server and not to a container that a mover could be beside.

use std::{
    io::{self, BufWriter, Write},
    sync::Arc,
};

use tokio::sync::mpsc;
use undoo_archive::{Backup, addons::Modules};
use undoo_control::plane::{RestoreJob, Watch};
use undoo_core::{Finding, Kind, Problem, Result, platform::Deployment};
use undoo_engine::order::{Answer, Failure};
use undoo_hosts::{
    Docker,
    deploy::{self, Done},
};
use undoo_storage::Options;

use super::{deploy::sentence, found::endpoint};

/// Code of the finding about modules whose maker is not known. It can be accepted.
const UNTRUSTED: &str = "addons_untrusted";
/// Bytes of the archive that are sent at once.
const PIECE: usize = 256 * 1024;
/// Pieces that wait to be sent.
const AHEAD: usize = 4;

/// Puts them, and the Python packages that they ask for.
pub(super) async fn put(job: &RestoreJob, deployment: &Deployment, watch: &Watch) -> Result<(), Failure> {
    let work = async {
        let backup = job.backup.open(&Options::default()).await?;
        let Some(modules) = Modules::of(&backup) else { return Ok(()) };
        if let Some(failure) = Failure::of(&untrusted(job, &modules), &job.options.accept) {
            return Err(failure);
        }
        let docker = Docker::connect(endpoint(&job.at.server)).await?;
        let names = modules.names().collect::<Vec<_>>().join(", ");
        let requirements = modules.requirements().to_vec();
        send(&docker, deployment, backup, modules).await?;
        watch.audience.tell(Answer::Log { message: format!("custom modules put: {names}") });
        let mut told = |done: &Done| {
            watch.audience.tell(Answer::Log { message: sentence(done) });
            Ok(())
        };
        Ok(deploy::put_requirements(&docker, deployment, &requirements, &mut told).await?)
    };
    // What was put stays in the environment's folder, and goes with it.
    tokio::select! {
        done = work => done,
        () = watch.stop.cancelled() => Err(Problem::new(Kind::Cancelled, "cancelled", "it was called off", "").into()),
    }
}

/// Code that nobody known stands for is not run unasked.
fn untrusted(job: &RestoreJob, modules: &Modules) -> Vec<Finding> {
    let keys = &job.options.trusted_keys;
    if modules.signed_by().is_some_and(|key| keys.iter().any(|trusted| trusted == key)) {
        return Vec::new();
    }
    let names = modules.names().collect::<Vec<_>>().join(", ");
    vec![Finding::needs_acceptance(
        UNTRUSTED,
        format!(
            "the backup brings modules whose code Odoo would run, and no key that is trusted has signed it: {names}"
        ),
        "Read them, or use a backup that this platform has made.",
    )]
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
