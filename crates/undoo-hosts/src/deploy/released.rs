//! An environment that is done: its Odoo let out, stopped, started, and made anew from its value.

use std::time::Duration;

use undoo_core::{
    Kind, Problem, Result,
    platform::{
        Deployment, Names,
        deployment::{HTTP_PORT, PGDATA},
    },
};

use super::{
    Did, Done, Image, Part, Told, database, durable, exec, files, images,
    look::{self, Found},
    network, odoo, things,
};
use crate::{archive, docker::Docker, mover, scratch, service};

/// Odoo makes its first page from nothing, which takes longer than any later one.
const PAGE_SECONDS: u32 = 30;

/// Puts the Odoo that can be reached in the place of the carrier, starts it, and waits until it is well: by the
/// image's health check, else by its login page, 30 times 2 s.
///
/// # Errors
/// `not_durable` and `database_missing` before anything is changed: Odoo would make an empty database.
/// `port_taken`; the container is gone then. `service_unhealthy`; it is stopped then, for its log.
/// `environment_incomplete`, `name_taken`, `image_missing`, and those of the engine.
pub async fn release(docker: &Docker, deployment: &Deployment, told: Told<'_>) -> Result<()> {
    deployment.check()?;
    let names = &deployment.names;
    let work = async {
        expect_durable(docker, names).await?;
        expect_database(docker, deployment).await?;
        let image = images::present(docker, &deployment.odoo_image).await?;
        told(&network::public(docker, &deployment.public_network).await?)?;
        if let Some(carrier) = look::container(docker, names, &names.odoo()).await?
            && carrier.part == Part::Carrier
        {
            scratch::stop(docker, &carrier.id, odoo::STOP_GRACE).await?;
            things::remove_container(docker, &carrier.id).await?;
            told(&Done { part: Part::Carrier, name: names.odoo(), did: Did::Removed })?;
        }
        let_out(docker, deployment, &image, told).await
    };
    work.await.map_err(super::plain)
}

/// Makes sure that the Odoo that can be reached is there, runs and is well.
async fn let_out(docker: &Docker, deployment: &Deployment, image: &Image, told: Told<'_>) -> Result<()> {
    let names = &deployment.names;
    let name = names.odoo();
    let done = |did| Done { part: Part::Odoo, name: name.clone(), did };
    let did = match look::container(docker, names, &name).await? {
        Some(found) => {
            if !found.is_in(&names.network()) {
                mover::connect(docker, &names.network(), &found.id, &[]).await?;
            }
            Did::Found
        }
        None => {
            odoo::create_reachable(docker, deployment, image).await?;
            Did::Made
        }
    };
    told(&done(did))?;
    if let Err(problem) = service::start(docker, std::slice::from_ref(&name)).await {
        if did == Did::Made {
            things::remove_container(docker, &name).await?;
        }
        return Err(problem);
    }
    told(&done(Did::Started))?;
    await_healthy(docker, &name).await?;
    told(&done(Did::Answered))
}

/// Stops an environment: Odoo, then PostgreSQL. They stay stopped when the server is restarted.
///
/// # Errors
/// `not_released` while it is still being made; `environment_incomplete`; those of the engine.
pub async fn stop(docker: &Docker, names: &Names, told: Told<'_>) -> Result<()> {
    for (part, found) in whole(docker, names).await? {
        scratch::stop(docker, &found.id, grace(part)).await?;
        let name = crate::target::name(&found.inspected);
        told(&Done { part, name, did: if found.running { Did::Stopped } else { Did::Found } })?;
    }
    Ok(())
}

/// Starts an environment: PostgreSQL, then Odoo, and waits until each is well.
///
/// # Errors
/// As [`stop`]; `database_not_ready`, `service_unhealthy`, `port_taken`.
pub async fn start(docker: &Docker, names: &Names, told: Told<'_>) -> Result<()> {
    whole(docker, names).await?;
    let started = |part, name| Done { part, name, did: Did::Started };
    let work = async {
        service::start(docker, &[names.db()]).await?;
        told(&started(Part::Database, names.db()))?;
        told(&database::await_ready(docker, names).await?)?;
        service::start(docker, &[names.odoo()]).await?;
        told(&started(Part::Odoo, names.odoo()))?;
        await_healthy(docker, &names.odoo()).await?;
        told(&Done { part: Part::Odoo, name: names.odoo(), did: Did::Answered })
    };
    work.await.map_err(super::plain)
}

/// Makes both containers anew from the value, with the newest of their images, and keeps the volumes.
///
/// # Errors
/// `not_released`; `postgres_major` where the image is of another major version than the data;
/// `environment_incomplete` where a volume is missing; and as [`release`]. Once containers are removed, calling
/// it again goes on.
pub async fn redeploy(docker: &Docker, deployment: &Deployment, told: Told<'_>) -> Result<()> {
    deployment.check()?;
    again(docker, deployment, told).await.map_err(super::plain)
}

async fn again(docker: &Docker, deployment: &Deployment, told: Told<'_>) -> Result<()> {
    let names = &deployment.names;
    let server = look::container(docker, names, &names.db()).await?;
    let odoo = look::container(docker, names, &names.odoo()).await?;
    if server.as_ref().is_some_and(Found::is_fast) || odoo.as_ref().is_some_and(|it| it.part != Part::Odoo) {
        return Err(not_released(names));
    }
    for volume in [names.pgdata(), names.data()] {
        look::expect_volume(docker, names, &volume).await?;
    }
    let odoo_image = images::ensure_image(docker, &deployment.odoo_image).await?;
    let postgres_image = images::ensure_image(docker, &deployment.postgres_image).await?;
    if let Some(server) = &server {
        refuse_other_major(docker, server, &postgres_image).await?;
    }
    told(&network::private(docker, names, &odoo_image).await?)?;
    told(&network::public(docker, &deployment.public_network).await?)?;
    told(&files::write(docker, deployment, &odoo_image).await?)?;
    for (part, found) in [(Part::Odoo, odoo), (Part::Database, server)] {
        let Some(found) = found else { continue };
        scratch::stop(docker, &found.id, grace(part)).await?;
        things::remove_container(docker, &found.id).await?;
        let name = crate::target::name(&found.inspected);
        told(&Done { part, name, did: Did::Removed })?;
    }
    database::create(docker, deployment, &postgres_image, false).await?;
    service::start(docker, &[names.db()]).await?;
    told(&Done { part: Part::Database, name: names.db(), did: Did::Made })?;
    told(&database::await_ready(docker, names).await?)?;
    durable::confirm(docker, names).await?;
    expect_database(docker, deployment).await?;
    let_out(docker, deployment, &odoo_image, told).await
}

/// Odoo and PostgreSQL of an environment that is done, in the order in which they are stopped.
async fn whole(docker: &Docker, names: &Names) -> Result<[(Part, Found); 2]> {
    let odoo = look::expect(docker, names, &names.odoo()).await?;
    let server = look::expect(docker, names, &names.db()).await?;
    if odoo.part != Part::Odoo || server.is_fast() {
        return Err(not_released(names));
    }
    Ok([(Part::Odoo, odoo), (Part::Database, server)])
}

/// Patience with a container that stops. An Odoo that has only just been started may not hear it at all.
fn grace(part: Part) -> Duration {
    if part == Part::Odoo { odoo::STOP_GRACE } else { database::STOP_GRACE }
}

fn not_released(names: &Names) -> Problem {
    Problem::new(
        Kind::Conflict,
        "not_released",
        format!("The environment {} is still being made.", names.name()),
        "Wait for its restore to end; if that failed, destroy the environment.",
    )
}

async fn expect_durable(docker: &Docker, names: &Names) -> Result<()> {
    let server = look::expect(docker, names, &names.db()).await?;
    if server.is_fast() || !server.running {
        return Err(Problem::new(
            Kind::Conflict,
            "not_durable",
            format!("PostgreSQL in {} is not yet safe against crashes, or does not run.", names.db()),
            "It is made durable before Odoo is let out; have that done again.",
        ));
    }
    durable::confirm(docker, names).await
}

/// An Odoo that is started without its database makes an empty one of that name.
async fn expect_database(docker: &Docker, deployment: &Deployment) -> Result<()> {
    // Its name has neither quotes nor backslashes: `Deployment::check`.
    let sql = format!("SELECT count(*) FROM pg_database WHERE datname = '{}'", deployment.database);
    if database::ask(docker, &deployment.names, &sql).await? == "1" {
        return Ok(());
    }
    Err(Problem::new(
        Kind::Missing,
        "database_missing",
        format!("There is no database \"{}\" in {}.", deployment.database, deployment.names.db()),
        "Restore a backup into it first; Odoo would make an empty database.",
    ))
}

async fn refuse_other_major(docker: &Docker, server: &Found, image: &Image) -> Result<()> {
    let path = format!("{PGDATA}/PG_VERSION");
    let found = archive::read_file(docker, &server.id, &path, 64).await?.unwrap_or_default();
    let found = String::from_utf8_lossy(&found).trim().to_owned();
    match image.variable("PG_MAJOR") {
        Some(wanted) if !found.is_empty() && wanted != found => Err(Problem::new(
            Kind::Refused,
            "postgres_major",
            format!("The data are of PostgreSQL {found}, and {} is {wanted}.", image.name),
            "Keep the major version; to change it, restore a backup to a new environment.",
        )),
        _ => Ok(()),
    }
}

/// # Errors
/// `service_unhealthy` with the end of its log; it is stopped then, so that nobody is led to it.
async fn await_healthy(docker: &Docker, name: &str) -> Result<()> {
    let words = probe();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let answers = || async { matches!(exec::run(docker, name, None, &words).await, Ok((0, _))) };
    let well =
        service::wait_healthy(docker, name, database::ATTEMPTS, database::INTERVAL, Some(answers)).await;
    let Err(mut problem) = well else { return Ok(()) };
    if problem.code == "service_unhealthy" {
        let log = scratch::log_tail(docker, name).await.unwrap_or_default();
        problem.message = format!("{}\n{}", problem.message, scratch::last_lines(&log));
        scratch::stop(docker, name, odoo::STOP_GRACE).await?;
    }
    Err(problem)
}

/// Asks for the login page from inside, since the server may be one that only SSH reaches. Not every image has
/// curl, and not every Python is one that Odoo 10 had.
fn probe() -> Vec<String> {
    let url = format!("http://127.0.0.1:{HTTP_PORT}/web/login");
    let patience = Duration::from_secs(PAGE_SECONDS.into()).as_secs();
    let curl = format!("curl -fsSL --noproxy '*' -m {patience} -o /dev/null {url}");
    let python = format!(
        "python3 -c 'import urllib.request as r; \
         r.build_opener(r.ProxyHandler({{}}), r.HTTPCookieProcessor()).open(\"{url}\", timeout={patience}).read()'"
    );
    ["sh", "-c", &format!("if command -v curl >/dev/null; then {curl}; else {python}; fi")]
        .map(str::to_owned)
        .to_vec()
}
