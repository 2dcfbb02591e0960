//! From a PostgreSQL that forgets everything in a crash of the server to one that does not.
//!
//! What the fast one wrote is with the kernel and perhaps not on disk. It is stopped cleanly, its files are
//! synced, and the server's boot is the same before and after: then nothing was lost in between. What cannot
//! be shown to be so does not go on.

use bollard::models::{ContainerCreateBody, HostConfig};
use undoo_core::{
    Kind, Problem, Result,
    platform::{Deployment, Names, deployment::PGDATA},
};

use super::{Did, Done, Image, Part, Told, database, exec, images, look, things};
use crate::{
    archive,
    docker::Docker,
    labels::{Labels, Role},
    scratch::{self, Cover, Scratch},
    service,
};

/// Which boot of the server a fast PostgreSQL was stopped in. The kernel makes it anew with each.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// Where that is noted, inside its container.
const NOTE: &str = "/etc/undoo/boot";

/// Makes the data of an environment safe against crashes of its server: PostgreSQL is stopped, its files are
/// synced, and it is made anew without the settings that were fast. Odoo, the carrier, is stopped for that and
/// stays so.
///
/// # Errors
/// `cluster_lost` where something else stopped the fast server, or the machine was restarted since: the data
/// cannot be trusted, and the environment has to be made anew. `not_durable` where the new one does not say
/// that it is safe. `environment_incomplete`, `name_taken`, and those of the engine.
pub async fn make_durable(docker: &Docker, deployment: &Deployment, told: Told<'_>) -> Result<()> {
    deployment.check()?;
    make(docker, deployment, told).await.map_err(super::plain)
}

async fn make(docker: &Docker, deployment: &Deployment, told: Told<'_>) -> Result<()> {
    let names = &deployment.names;
    let image = images::present(docker, &deployment.postgres_image).await?;
    look::expect_volume(docker, names, &names.pgdata()).await?;
    let name = names.db();
    let done = |did| Done { part: Part::Database, name: name.clone(), did };
    let found = look::container(docker, names, &name).await?;
    if found.as_ref().is_none_or(look::Found::is_fast) {
        if let Some(carrier) = look::container(docker, names, &names.odoo()).await?
            && carrier.running
        {
            scratch::stop(docker, &carrier.id, super::odoo::STOP_GRACE).await?;
            told(&Done { part: carrier.part, name: names.odoo(), did: Did::Stopped })?;
        }
        if let Some(fast) = found {
            if fast.running {
                note_boot(docker, &fast.id).await?;
                scratch::stop(docker, &fast.id, database::STOP_GRACE).await?;
                told(&done(Did::Stopped))?;
            }
            let stopped = look::expect(docker, names, &name).await?;
            if stopped.running || stopped.exit_code != 0 {
                return Err(lost(&name, "it did not end cleanly"));
            }
            let noted = archive::read_file(docker, &stopped.id, NOTE, 1024).await?;
            let boot = sync(docker, names, &image).await?;
            if noted.as_deref().map(<[u8]>::trim_ascii) != Some(boot.as_bytes()) {
                return Err(lost(&name, "something else stopped it, or the server was restarted since"));
            }
            told(&Done { part: Part::DatabaseVolume, name: names.pgdata(), did: Did::Answered })?;
            things::remove_container(docker, &stopped.id).await?;
        } else {
            // Removed by us after it was synced, since nothing else of ours removes it alone; once more costs
            // little.
            sync(docker, names, &image).await?;
        }
        database::create(docker, deployment, &image, false).await?;
        told(&done(Did::Replaced))?;
    }
    service::start(docker, std::slice::from_ref(&name)).await?;
    told(&database::await_ready(docker, names).await?)?;
    confirm(docker, names).await?;
    told(&done(Did::Answered))
}

/// Asks PostgreSQL whether it is safe against crashes.
///
/// # Errors
/// `not_durable`.
pub(super) async fn confirm(docker: &Docker, names: &Names) -> Result<()> {
    for setting in Deployment::durable_settings() {
        let value = database::ask(docker, names, &format!("SHOW {setting}")).await?;
        if value != "on" {
            return Err(Problem::new(
                Kind::NotProven,
                "not_durable",
                format!("PostgreSQL in {} has {setting} = {value}: a crash would cost data.", names.db()),
                format!("See where that is set (\"SELECT * FROM pg_settings WHERE name = '{setting}'\")."),
            ));
        }
    }
    Ok(())
}

async fn note_boot(docker: &Docker, container: &str) -> Result<()> {
    let (code, boot) = exec::run(docker, container, None, &["cat", BOOT]).await?;
    if code != 0 {
        return Err(Problem::new(
            Kind::Unavailable,
            "boot_unknown",
            format!("The server's boot could not be read in {container}: {}", boot.trim()),
            "See that /proc is there in containers of that server.",
        ));
    }
    let file =
        archive::of_file(NOTE.trim_start_matches('/'), boot.trim().as_bytes(), 0o444, super::files::ROOT)?;
    archive::put(docker, container, "/", file).await
}

/// Has every file of a stopped server written to disk; gives the boot in which that was done.
async fn sync(docker: &Docker, names: &Names, image: &Image) -> Result<String> {
    let mut mounts =
        scratch::cover_image_volumes(docker, &image.id, &[PGDATA.to_owned()], Cover::Writable).await?;
    mounts.push(database::data(names));
    let body = ContainerCreateBody {
        image: Some(image.id.clone()),
        user: Some("postgres".into()),
        entrypoint: Some(vec!["sh".into(), "-c".into()]),
        cmd: Some(vec![format!("cat {BOOT} && exec initdb --sync-only --pgdata={PGDATA}")]),
        labels: Some(
            Labels::new(names.environment().to_string(), 0).on_target(names.odoo()).to_map(Role::Files),
        ),
        host_config: Some(HostConfig {
            network_mode: Some("none".into()),
            mounts: Some(mounts),
            ..scratch::hardened()
        }),
        ..Default::default()
    };
    let scratch = Scratch::create(docker, Role::Files.as_str(), body).await?;
    let ended = match scratch.start().await {
        Ok(()) => scratch.finish().await,
        Err(problem) => Err(problem),
    };
    scratch.remove().await?;
    let end = ended?;
    match boot_in(&end.output) {
        Some(boot) if end.exit_code == 0 => Ok(boot.to_owned()),
        _ => Err(Problem::new(
            Kind::Unavailable,
            "not_synced",
            format!("The data of {} could not be written to disk: {}", names.db(), end.last_lines()),
            "Check the disk of that server, then try again.",
        )),
    }
}

/// The id of a boot in a log: a UUID on a line of its own.
fn boot_in(log: &str) -> Option<&str> {
    let is_id =
        |line: &&str| line.len() == 36 && line.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    log.lines().map(str::trim).find(is_id)
}

fn lost(name: &str, why: &str) -> Problem {
    Problem::new(
        Kind::NotProven,
        "cluster_lost",
        format!(
            "PostgreSQL in {name} still ran with settings that forget everything in a crash, and {why}: its data \
             cannot be trusted."
        ),
        "Nothing else was touched. Destroy this environment and restore the backup again.",
    )
}

#[cfg(test)]
mod tests {
    use super::boot_in;

    #[test]
    fn the_boot_is_found_among_what_the_program_says() {
        let log = "8c5b6d1e-4c5a-4a3f-9d7e-0a1b2c3d4e5f\nsyncing data to disk ... ok\n";
        assert_eq!(boot_in(log), Some("8c5b6d1e-4c5a-4a3f-9d7e-0a1b2c3d4e5f"));
        assert_eq!(boot_in("syncing data to disk ... ok"), None);
    }
}
