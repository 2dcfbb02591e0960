//! `undoo env`: environments, what is done with those that the platform has deployed, and the Odoos that could
//! become ones.

use undoo_api::{
    addons::{AddonsRequest, AddonsResponse},
    client::IdempotencyKey,
    environments::{
        AdoptRequest, DeployQuery, DeployRequest, DestroyRequest, EnvironmentDetails, EnvironmentQuery,
        EnvironmentResponse, FoundOdoo,
    },
    tasks::TaskResponse,
};
use undoo_core::{
    OrganisationId, Result, StorageId,
    platform::{EnvironmentType, TaskKind},
};
use undoo_engine::order::Failure;

use super::{Remote, one, page, server::server, watch};
use crate::{
    cli::remote::{EnvAct, EnvAdopt, EnvCommand, EnvDeploy, EnvDestroy, EnvFound, EnvShow, ServerArgs},
    commands::{confirm, confirm_by_name, print_json},
    git_credentials,
    ui::Ui,
};

pub(super) async fn run(command: EnvCommand, ui: &Ui) -> Result<(), Failure> {
    match command {
        EnvCommand::List(arguments) => list(&arguments).await,
        EnvCommand::Show(arguments) => show(&arguments).await,
        EnvCommand::Found(arguments) => found(&arguments).await,
        EnvCommand::Adopt(arguments) => adopt(&arguments, ui).await,
        EnvCommand::Deploy(arguments) => deploy(&arguments, ui).await,
        EnvCommand::Start(arguments) => act(&arguments, TaskKind::Start, ui).await,
        EnvCommand::Stop(arguments) => act(&arguments, TaskKind::Stop, ui).await,
        EnvCommand::Destroy(arguments) => destroy(&arguments, ui).await,
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
    let remote = Remote::open(&arguments.server)?;
    let id = remote.environment(&arguments.environment).await?.id;
    let details = remote.client.environment(id).await?;
    if arguments.server.json {
        return print_json(&details);
    }
    println!("{}", described(details, remote.client.base()));
    Ok(())
}

fn described(details: EnvironmentDetails, base: &str) -> comfy_table::Table {
    let one = details.environment;
    let has_page = details.deployment.is_some() || details.migration_id.is_some();
    let address = has_page.then(|| format!("{base}/deploy#{}", one.id));
    let (made, port) = match (details.deployment, details.migration_id) {
        (Some(deployment), _) => (deployment.state.to_string(), deployment.http_port),
        (None, Some(_)) => ("waits for its migration".to_owned(), None),
        (None, None) => ("adopted".to_owned(), None),
    };
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
        ("Port", page::text(port)),
        ("Deployment", made),
        ("Migration", page::text(details.migration_id)),
        ("Migration restored", page::text(details.migration_restore_completed_at.map(page::time))),
        ("Modules from", modules_from(&details.addons)),
        ("Page", page::text(address)),
        ("Added", page::time(one.create_date)),
    ])
}

fn modules_from(addons: &[AddonsResponse]) -> String {
    let line = |one: &AddonsResponse| match &one.reference {
        Some(reference) => format!("{}#{reference}", one.url),
        None => one.url.clone(),
    };
    addons.iter().map(line).collect::<Vec<_>>().join("\n")
}

async fn found(arguments: &EnvFound) -> Result<(), Failure> {
    let remote = Remote::open(&arguments.server)?;
    let organisation = remote.organisation().await?;
    let server = server(&remote, organisation.id, arguments.on.as_deref(), "--on").await?;
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
    let server = server(&remote, organisation, arguments.on.as_deref(), "--on").await?;
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

/// Has something done with an environment that the platform has deployed.
async fn act(arguments: &EnvAct, action: TaskKind, ui: &Ui) -> Result<(), Failure> {
    let remote = Remote::open(&arguments.server)?;
    let environment = remote.environment(&arguments.environment).await?;
    let (id, name) = (environment.id, &environment.name);
    if environment.environment_type == EnvironmentType::Production && action != TaskKind::Start {
        confirm(&format!("Stop {name} (production)?"), arguments.yes, ui).await?;
    }
    let key = IdempotencyKey::generate();
    let task = match action {
        TaskKind::Start => remote.client.environment_start(id, &key).await?,
        _ => remote.client.environment_stop(id, &key).await?,
    };
    followed(&remote, task, name, (arguments.watch, arguments.server.json), ui).await
}

async fn deploy(arguments: &EnvDeploy, ui: &Ui) -> Result<(), Failure> {
    let EnvDeploy { act, force_restore, confirm: word, image, addons, git_credentials, accept } = arguments;
    let sources = git_credentials::sources(addons, git_credentials.as_deref())?;
    let remote = Remote::open(&act.server)?;
    let environment = remote.environment(&act.environment).await?;
    let (id, name) = (environment.id, &environment.name);
    let details = remote.client.environment(id).await?;
    if *force_restore {
        let question = format!(
            "The database and the files of {name} ({}) would be replaced by its migration's backup. What was \
             written since is in the safety backup only. Type RESTORE to go on:",
            environment.environment_type
        );
        confirm_by_name(&question, "RESTORE", ("--confirm", word.as_deref()), ui).await?;
    } else if environment.environment_type == EnvironmentType::Production && details.deployment.is_some() {
        let question = format!("Make the containers of {name} (production) anew? It is away for a moment.");
        confirm(&question, act.yes, ui).await?;
    }
    if !sources.is_empty() {
        let addons = sources.into_iter().map(Into::into).collect();
        remote.client.environment_addons_set(id, &AddonsRequest { addons }).await?;
    }
    let query = DeployQuery { force_restore: *force_restore };
    let request = DeployRequest { odoo_image: image.clone(), accept: accept.clone() };
    let key = IdempotencyKey::generate();
    let task = remote.client.environment_deploy(id, query, &request, &key).await?;
    followed(&remote, task, name, (act.watch, act.server.json), ui).await
}

async fn destroy(arguments: &EnvDestroy, ui: &Ui) -> Result<(), Failure> {
    let remote = Remote::open(&arguments.server)?;
    let environment = remote.environment(&arguments.environment).await?;
    let EnvironmentResponse { id, name, environment_type, .. } = &environment;
    let question = format!(
        "The database and the files of {name} ({environment_type}) would be gone for good; its backups stay. \
         Type its name to go on:"
    );
    let given = ("--confirm", arguments.confirm.as_deref());
    let confirm = confirm_by_name(&question, name, given, ui).await?;
    let request = DestroyRequest { confirm };
    let task = remote.client.environment_destroy(*id, &request, &IdempotencyKey::generate()).await?;
    followed(&remote, task, name, (arguments.watch, arguments.server.json), ui).await
}

/// A task about an environment, shown as it was asked for.
async fn followed(
    remote: &Remote,
    task: TaskResponse,
    name: &str,
    (watch, json): (bool, bool),
    ui: &Ui,
) -> Result<(), Failure> {
    let kind = task.task_type;
    if !watch {
        if json {
            return print_json(&task);
        }
        println!("Task {} ({kind} {name}) is {}", task.id, task.status);
        return Ok(());
    }
    ui.say(&format!("Task {} ({kind} {name})", task.id));
    let task = watch::task(remote, task.organization_id, task.id, None, ui).await?;
    if ui.is_json() {
        return ui.done(&task);
    }
    println!("Done: {kind} {name}");
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
