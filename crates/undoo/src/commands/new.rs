//! `undoo restore --new`: an environment from its backup alone, for when there is nothing else left. What is asked
//! before, and what is said of it at the end.

use std::time::Instant;

use serde_json::{Value, json};
use undoo_archive::{Backup, backup::inspect};
use undoo_core::{Finding, Kind, Problem};
use undoo_engine::{
    order::{Answer, Audience as _, Failure, Intent},
    source::BackupOrder,
};
use undoo_storage::Options;

use super::{confirm, restore};
use crate::{
    caller::{Caller, Stop},
    cli::Restore as Arguments,
    place::Place,
    ui::{self, Ui},
    work::{
        checkouts,
        modules::Trust,
        new::{New, Words},
        restore::Restore,
    },
};

/// Makes the environment of this name, or says what would be made.
pub(super) async fn run(
    arguments: &Arguments,
    name: &str,
    order: BackupOrder,
    began: Instant,
    ui: &Ui,
) -> Result<(), Failure> {
    let keys = restore::trusted_keys(&arguments.trust_key)?;
    let trust = Trust { keys: &keys, accept: &arguments.accept };
    let new = find(arguments, name, &order, trust, Caller::at(ui)).await?;
    if arguments.dry_run {
        return dry_run(arguments, &new, ui).await;
    }
    if let Some(failure) = Failure::of(new.findings(), &arguments.accept) {
        return Err(failure);
    }
    for finding in new.findings() {
        ui.tell(Answer::Finding(finding.clone()));
    }
    let question = format!("Make \"{name}\" on {}, and let people in once it is proven?", new.server());
    confirm(&question, arguments.yes, ui).await?;
    let caller = Caller::at(ui);
    let load = async |place: &Place| {
        let restore = of(arguments, order.clone(), place)?;
        let staged = restore.stage(place, caller).await?;
        // It cannot be broken off, and is short: nobody else is there. Who called it off is heard after it.
        let never = Stop::never();
        let waiting = Caller { stop: &never, ..caller };
        let over = restore::go_live(&restore, place, &staged, began, waiting).await?;
        Ok((staged, over))
    };
    let (staged, (record, mut result)) = new.around(&order, trust, caller, load).await?;
    result["seconds"] = json!(began.elapsed().as_secs_f64());
    result["environment"] = described(&new);
    restore::show(&staged, &record, result, began, ui)?;
    if !ui.is_json() {
        show(&new);
    }
    Ok(())
}

/// Reads what the backup is, and looks at the server.
async fn find(
    arguments: &Arguments,
    name: &str,
    order: &BackupOrder,
    trust: Trust<'_>,
    caller: Caller<'_>,
) -> Result<New, Failure> {
    let backup = order.open(&Options::default()).await?;
    if backup.database.is_none() {
        return Err(no_database(arguments.backup()).into());
    }
    let reading = std::sync::Arc::clone(&backup);
    let inspection = tokio::task::spawn_blocking(move || inspect(&reading)).await.map_err(|error| {
        Problem::new(Kind::Internal, "inspect", "the inspection broke down", "please report this")
            .caused_by(error)
    })??;
    let typed = &arguments.new.environment;
    let words = Words {
        name,
        database: arguments.place.database.as_deref(),
        domain: typed.domain.as_deref(),
        http_port: typed.http_port,
        odoo_image: typed.odoo_image.as_deref(),
        postgres_image: typed.postgres_image.as_deref(),
        conf: &typed.conf,
    };
    let backup: &Backup = &backup;
    let endpoint = arguments.place.ssh.endpoint()?;
    let checkouts = checkouts::fetch(&typed.sources()?, caller).await?;
    Ok(New::find(endpoint, (backup, &inspection), &words, checkouts, trust).await?)
}

/// The restore in the middle. What was lost moves; as its backup is older than its end, what was due is held.
fn of(arguments: &Arguments, order: BackupOrder, place: &Place) -> Result<Restore, Failure> {
    let mut restore = restore::restore(arguments, order, place)?;
    let intent = restore.intent.unwrap_or(Intent::Move);
    restore.intent = Some(intent);
    restore.hold_outgoing = Some(restore.hold_outgoing.unwrap_or(intent != Intent::Copy));
    Ok(restore)
}

/// The environment for a program. Passwords stay in its configuration.
fn described(new: &New) -> Value {
    let deployment = new.deployment();
    let names = &deployment.names;
    json!({
        "id": names.environment(),
        "name": names.name(),
        "server": new.server(),
        "target": new.target(),
        "container": names.odoo(),
        "database_container": names.db(),
        "database": deployment.database,
        "odoo_image": deployment.odoo_image,
        "postgres_image": deployment.postgres_image,
        "address": new.address(),
        "http_port": deployment.http_port,
        "odoo_conf": new.configuration(),
        "modules": new.modules(),
        "fetched": new.fetched(),
    })
}

fn show(new: &New) {
    let (deployment, names) = (new.deployment(), &new.deployment().names);
    println!("Environment \"{}\" is on {}", names.name(), new.server());
    println!("  id          {}", names.environment());
    println!("  target      {}", new.target());
    println!("  address     {}", new.address().unwrap_or_else(|| nowhere(new)));
    println!("  database    \"{}\" in {}", deployment.database, names.db());
    println!("  config      {}, where root reads the master password (admin_passwd)", new.configuration());
}

fn nowhere(new: &New) -> String {
    format!(
        "none: port 8069 of {} in the network {}",
        new.deployment().names.odoo(),
        new.deployment().public_network
    )
}

async fn dry_run(arguments: &Arguments, new: &New, ui: &Ui) -> Result<(), Failure> {
    let images = new.has_images().await?;
    ui.settle();
    if ui.is_json() {
        let images = images.map(|(image, is_there)| json!({ "image": image, "is_present": is_there }));
        let findings = new.findings();
        ui.done(&json!({ "environment": described(new), "images": images, "findings": findings }))?;
    } else {
        println!("Plan: make \"{}\" on {} from {}", name(new), new.server(), arguments.backup());
        for (number, step) in steps(arguments, new, images).iter().enumerate() {
            println!("  {}. {step}", number + 1);
        }
        new.findings().iter().for_each(|finding: &Finding| println!("{}", ui::finding_lines(finding)));
    }
    // Each was shown with the plan.
    let stands = Failure::of(new.findings(), &arguments.accept);
    stands.map_or(Ok(()), |failure| Err(Failure { findings: Vec::new(), ..failure }))
}

fn name(new: &New) -> String {
    new.deployment().names.name()
}

/// What would be done, in order.
fn steps(arguments: &Arguments, new: &New, images: [(&str, bool); 2]) -> Vec<String> {
    let (deployment, names) = (new.deployment(), &new.deployment().names);
    let images =
        images.map(
            |(image, is_there)| {
                if is_there { format!("{image} (is there)") } else { format!("{image} (to be fetched)") }
            },
        );
    let mut steps = vec![
        format!("see that the images are there: {}", images.join(", ")),
        format!(
            "make network {}, volumes {} and {}, configuration in {}, and PostgreSQL in {}",
            names.network(),
            names.pgdata(),
            names.data(),
            names.folder(),
            names.db()
        ),
    ];
    for fetched in new.fetched() {
        let modules = fetched.modules.join(", ");
        steps.push(format!("put the modules of {} at {} there: {modules}", fetched.url, fetched.commit));
    }
    if !new.modules().is_empty() {
        steps.push(format!("put the backup's modules there: {}", new.modules().join(", ")));
    }
    steps.push(format!(
        "load the backup as \"{}\"; count every table, match every attachment",
        deployment.database
    ));
    if !arguments.no_boot {
        steps.push("boot Odoo on a clone of it".into());
    }
    steps.push("make PostgreSQL safe against crashes".into());
    let address = new.address().unwrap_or_else(|| "no address from outside (--http-port or --domain)".into());
    steps.push(format!("let people in to {}: {address}", names.odoo()));
    steps
}

fn no_database(backup: &str) -> Problem {
    Problem::new(
        Kind::Missing,
        "no_database",
        format!("{backup} has no database, and a new environment has none either"),
        "Choose another backup.",
    )
}
