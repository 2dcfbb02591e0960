//! `undoo env`: environments, and the Odoos that could become ones.

use undoo_api::environments::{
    AdoptRequest, EnvironmentQuery, EnvironmentResponse, FoundOdoo, ServerResponse,
};
use undoo_core::{OrganisationId, Result, StorageId};
use undoo_engine::order::Failure;

use super::{Remote, one, page};
use crate::{
    cli::remote::{EnvAdopt, EnvCommand, EnvFound, EnvShow, ServerArgs},
    commands::{confirm, print_json},
    ui::Ui,
};

pub(super) async fn run(command: EnvCommand, ui: &Ui) -> Result<(), Failure> {
    match command {
        EnvCommand::List(arguments) => list(&arguments).await,
        EnvCommand::Show(arguments) => show(&arguments).await,
        EnvCommand::Found(arguments) => found(&arguments).await,
        EnvCommand::Adopt(arguments) => adopt(&arguments, ui).await,
    }
}

async fn list(arguments: &ServerArgs) -> Result<(), Failure> {
    let remote = Remote::open(arguments)?;
    let mut rows = Vec::new();
    for organisation in remote.organisations().await? {
        let projects = remote.client.projects(organisation.id).all().await?;
        let query = EnvironmentQuery { organization_id: Some(organisation.id), ..Default::default() };
        for environment in remote.client.environments(&query).all().await? {
            let project = projects.iter().find(|project| project.id == environment.project_id);
            let project = project.map_or_else(String::new, |project| project.name.clone());
            rows.push((organisation.name.clone(), project, environment));
        }
    }
    if arguments.json {
        let environments: Vec<&EnvironmentResponse> = rows.iter().map(|(_, _, one)| one).collect();
        return print_json(&environments);
    }
    if rows.is_empty() {
        println!("No environments. `undoo env found` shows what could become one.");
        return Ok(());
    }
    let mut table = page::table(&["ENVIRONMENT", "TYPE", "STATUS", "ODOO", "ORGANISATION", "ID"]);
    for (organisation, project, environment) in rows {
        table.add_row([
            format!("{project}/{}", environment.name),
            environment.environment_type.to_string(),
            environment.status.to_string(),
            page::text(environment.odoo_version),
            organisation,
            environment.id.to_string(),
        ]);
    }
    println!("{table}");
    Ok(())
}

async fn show(arguments: &EnvShow) -> Result<(), Failure> {
    let environment = Remote::open(&arguments.server)?.environment(&arguments.environment).await?;
    if arguments.server.json {
        return print_json(&environment);
    }
    println!("{}", described(&environment));
    Ok(())
}

fn described(environment: &EnvironmentResponse) -> comfy_table::Table {
    let one = environment.clone();
    page::properties([
        ("Name", one.name),
        ("Id", one.id.to_string()),
        ("Type", one.environment_type.to_string()),
        ("Status", one.status.to_string()),
        ("Container", page::text(one.container)),
        ("Database", page::text(one.database_name)),
        ("Odoo", page::text(one.odoo_version)),
        ("Image", page::text(one.odoo_image)),
        ("PostgreSQL", page::text(one.postgres_version)),
        ("Domain", page::text(one.domain)),
        ("Added", page::time(one.create_date)),
    ])
}

async fn server(
    remote: &Remote,
    organisation: OrganisationId,
    wanted: Option<&str>,
) -> Result<ServerResponse> {
    let all = remote.client.servers(organisation).all().await?;
    one(all, wanted, "server", "--on", |one| (one.id.to_string(), &one.name))
}

async fn found(arguments: &EnvFound) -> Result<(), Failure> {
    let remote = Remote::open(&arguments.server)?;
    let organisation = remote.organisation().await?;
    let server = server(&remote, organisation.id, arguments.on.as_deref()).await?;
    let found = remote.client.containers(server.id).await?;
    if arguments.server.json {
        return print_json(&found);
    }
    if found.is_empty() {
        println!("No Odoo runs on {}.", server.name);
        return Ok(());
    }
    let mut table = page::table(&["CONTAINER", "IMAGE", "DATABASES", "ODOO", "POSTGRESQL", "RUNS"]);
    for odoo in found {
        table.add_row([
            odoo.container,
            odoo.image,
            odoo.databases.join(", "),
            page::text(odoo.odoo_version),
            page::text(odoo.postgres_version),
            if odoo.running { "yes".into() } else { "no".into() },
        ]);
    }
    println!("{table}");
    Ok(())
}

async fn adopt(arguments: &EnvAdopt, ui: &Ui) -> Result<(), Failure> {
    crate::commands::can_confirm(arguments.yes, ui)?;
    let remote = Remote::open(&arguments.server)?;
    let organisation = remote.organisation().await?.id;
    let project = remote.project(organisation, arguments.project.as_deref()).await?;
    let server = server(&remote, organisation, arguments.on.as_deref()).await?;
    let storage_id = storage(&remote, organisation, arguments.storage.as_deref()).await?;
    let found = remote.client.container(server.id, &arguments.container, arguments.database.clone()).await?;
    if !ui.is_json() {
        println!("{}", looked_at(&found));
    }
    let question =
        format!("Adopt it as {}/{} ({})?", project.name, arguments.name, arguments.environment_type);
    confirm(&question, arguments.yes, ui).await?;
    let request = AdoptRequest {
        project_id: project.id,
        name: arguments.name.clone(),
        environment_type: arguments.environment_type,
        server_id: server.id,
        container: arguments.container.clone(),
        database_name: arguments.database.clone(),
        domain: arguments.domain.clone(),
        storage_id,
    };
    let environment = remote.client.environment_adopt(&request).await?;
    if arguments.server.json {
        return print_json(&environment);
    }
    println!("Adopted {}/{} as {}", project.name, environment.name, environment.id);
    Ok(())
}

/// A storage by its name or id, where one was named.
pub(super) async fn storage(
    remote: &Remote,
    organisation: OrganisationId,
    wanted: Option<&str>,
) -> Result<Option<StorageId>> {
    let Some(wanted) = wanted else { return Ok(None) };
    let all = remote.client.storages(organisation).all().await?;
    let storage = one(all, Some(wanted), "storage", "--storage", |one| (one.id.to_string(), &one.name))?;
    Ok(Some(storage.id))
}

fn looked_at(found: &FoundOdoo) -> comfy_table::Table {
    let odoo = found.clone();
    page::properties([
        ("Container", odoo.container),
        ("Image", odoo.image),
        ("Databases", odoo.databases.join(", ")),
        ("Odoo", page::text(odoo.odoo_version)),
        ("PostgreSQL", page::text(odoo.postgres_version)),
        ("Database's container", page::text(odoo.database_container)),
        ("Files", odoo.filestore),
        ("Runs", if odoo.running { "yes".into() } else { "no".into() }),
    ])
}
