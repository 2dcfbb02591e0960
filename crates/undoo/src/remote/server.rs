//! `undoo server`: servers of the platform, added after a person has compared their host key.

use std::io::IsTerminal;

use undoo_api::{
    secret::Secret,
    servers::{
        CreateServerRequest, ServerFacts, ServerPatch, ServerResponse, ServerTestRequest, ServerTestResponse,
        SshLogin,
    },
};
use undoo_core::{Kind, OrganisationId, Problem, Result};
use undoo_engine::order::Failure;
use undoo_storage::SshAccess;

use super::{Remote, one, page};
use crate::{
    cli::{
        remote::ServerArgs,
        server::{OneServer, ServerAdd, ServerAddress, ServerCommand, ServerDrain, ServerRemove, ServerTest},
    },
    commands::{can_confirm, confirm, print_json},
    ui::Ui,
};

pub(super) async fn run(command: ServerCommand, ui: &Ui) -> Result<(), Failure> {
    match command {
        ServerCommand::List(arguments) => list(&arguments).await,
        ServerCommand::Add(arguments) => add(&arguments, ui).await,
        ServerCommand::Test(arguments) => test(&arguments).await,
        ServerCommand::Verify(arguments) => verify(&arguments).await,
        ServerCommand::Drain(arguments) => drain(&arguments).await,
        ServerCommand::Remove(arguments) => remove(&arguments, ui).await,
    }
}

/// A server by its name or id; the only one where none is named.
pub(super) async fn server(
    remote: &Remote,
    organisation: OrganisationId,
    wanted: Option<&str>,
    place: &str,
) -> Result<ServerResponse> {
    let all = remote.client.servers(organisation).all().await?;
    one(all, wanted, "server", place, |one| (one.id.to_string(), &one.name))
}

async fn list(arguments: &ServerArgs) -> Result<(), Failure> {
    let remote = Remote::open(arguments)?;
    let mut rows = Vec::new();
    for organisation in remote.organisations().await? {
        for server in remote.client.servers(organisation.id).all().await? {
            rows.push((organisation.name.clone(), server));
        }
    }
    if arguments.json {
        let servers: Vec<&ServerResponse> = rows.iter().map(|(_, one)| one).collect();
        return print_json(&servers);
    }
    if rows.is_empty() {
        println!("No servers. `undoo server add` adds one.");
        return Ok(());
    }
    let columns = ["SERVER", "ADDRESS", "STATUS", "CORES", "MEMORY", "DISK", "FREE", "ORGANISATION", "ID"];
    let mut table = page::table(&columns);
    for (organisation, server) in rows {
        let status = status(&server);
        table.add_row([
            server.name,
            server.ip_address.unwrap_or_else(|| "this machine".into()),
            status,
            page::text(server.cpu_cores),
            gib(server.memory_gb),
            gib(server.disk_gb),
            gib(server.free_disk_gb),
            organisation,
            server.id.to_string(),
        ]);
    }
    println!("{table}");
    Ok(())
}

async fn add(arguments: &ServerAdd, ui: &Ui) -> Result<(), Failure> {
    let mut login = login(&arguments.at)?;
    let remote = Remote::open(&arguments.server)?;
    let organization_id = remote.organisation().await?.id;
    if login.host_key.is_none() {
        let request = ServerTestRequest { organization_id, ssh: Some(login.clone()) };
        let tested = remote.client.server_test(&request).await?;
        let Some(shown) = tested.host_key.clone() else { return Err(not_reached(tested).into()) };
        login.host_key = Some(compared(&login.host, shown, ui).await?);
    }
    let request = CreateServerRequest {
        organization_id,
        name: arguments.name.clone(),
        ssh: Some(login),
        cpu_cores_limit: arguments.cpu_cores,
        memory_gb_limit: arguments.memory_gb,
        disk_gb_limit: arguments.disk_gb,
        task_limit: arguments.tasks,
    };
    let server = remote.client.server_create(&request).await?;
    told(&server, &arguments.server)
}

/// The host key that a server has shown, once a person says that it is the right one.
async fn compared(host: &str, shown: String, ui: &Ui) -> Result<String, Failure> {
    // Nobody says yes beforehand to a key that they have not seen.
    if ui.is_json() || !std::io::stdin().is_terminal() {
        return Err(Problem::new(
            Kind::Denied,
            "host_key_unknown",
            format!("{host} shows the host key {shown}, and nobody is there to compare it"),
            format!("compare it with the server's own, then give --host-key {shown}"),
        )
        .into());
    }
    println!("{host} shows the host key {shown}");
    println!("On the server, this shows its own: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub");
    confirm("Are they the same?", false, ui).await?;
    Ok(shown)
}

async fn test(arguments: &ServerTest) -> Result<(), Failure> {
    let login = login(&arguments.at)?;
    let remote = Remote::open(&arguments.server)?;
    let organization_id = remote.organisation().await?.id;
    let request = ServerTestRequest { organization_id, ssh: Some(login) };
    let tested = remote.client.server_test(&request).await?;
    if arguments.server.json {
        print_json(&tested)?;
    }
    match &tested.facts {
        Some(facts) if !arguments.server.json => println!("{}", has(facts)),
        Some(_) => {}
        None => return Err(not_reached(tested).into()),
    }
    Ok(())
}

async fn verify(arguments: &OneServer) -> Result<(), Failure> {
    let (remote, server) = named(arguments).await?;
    let server = remote.client.server_verify(server.id).await?;
    told(&server, &arguments.server)
}

async fn drain(arguments: &ServerDrain) -> Result<(), Failure> {
    let (remote, server) = named(&arguments.one).await?;
    let patch = ServerPatch { draining: Some(!arguments.end), ..ServerPatch::default() };
    let server = remote.client.server_update(server.id, &patch).await?;
    told(&server, &arguments.one.server)
}

async fn remove(arguments: &ServerRemove, ui: &Ui) -> Result<(), Failure> {
    can_confirm(arguments.yes, ui)?;
    let (remote, server) = named(&arguments.one).await?;
    confirm(&format!("Forget the server {}?", server.name), arguments.yes, ui).await?;
    remote.client.server_delete(server.id).await?;
    if !arguments.one.server.json {
        println!("Forgot {}; nothing on it was touched", server.name);
    }
    Ok(())
}

async fn named(arguments: &OneServer) -> Result<(Remote, ServerResponse)> {
    let remote = Remote::open(&arguments.server)?;
    let organisation = remote.organisation().await?.id;
    let server = server(&remote, organisation, Some(&arguments.name), "this command").await?;
    Ok((remote, server))
}

/// An address with what this process's environment has to log in with there.
fn login(at: &ServerAddress) -> Result<SshLogin> {
    let access = SshAccess::with_environment(&at.address, at.host_key.as_deref())?;
    Ok(SshLogin {
        host: access.host,
        port: access.port,
        user: access.user,
        password: access.password.map(Secret::from),
        private_key: access.private_key.map(Secret::from),
        passphrase: access.passphrase.map(Secret::from),
        host_key: access.host_key,
    })
}

/// Why a server cannot be added, as the platform has found out.
fn not_reached(tested: ServerTestResponse) -> Problem {
    let code = tested.code.unwrap_or_default();
    let (message, remedy) = (tested.message.unwrap_or_default(), tested.remedy.unwrap_or_default());
    Problem::from_wire(tested.kind.unwrap_or(Kind::Unavailable), &code, message, remedy)
}

fn told(server: &ServerResponse, arguments: &ServerArgs) -> Result<(), Failure> {
    if arguments.json {
        return print_json(server);
    }
    println!("{}", described(server));
    Ok(())
}

fn described(server: &ServerResponse) -> comfy_table::Table {
    let (status, one) = (status(server), server.clone());
    page::properties([
        ("Name", one.name),
        ("Id", one.id.to_string()),
        ("Address", one.ip_address.unwrap_or_else(|| "this machine".into())),
        ("User", page::text(one.ssh_user)),
        ("Host key", page::text(one.host_key)),
        ("Status", status),
        ("Looked at", page::time_of(one.checked_at)),
        ("Problem", page::text(one.last_problem)),
        ("Docker", page::text(one.docker_version)),
        ("Cores", page::text(one.cpu_cores)),
        ("Memory", gib(one.memory_gb)),
        ("Disk", gib(one.disk_gb)),
        ("Free disk", gib(one.free_disk_gb)),
        ("Tasks side by side", one.task_limit.to_string()),
    ])
}

fn status(server: &ServerResponse) -> String {
    let draining = if server.draining { ", draining" } else { "" };
    format!("{}{draining}", server.status)
}

fn has(facts: &ServerFacts) -> comfy_table::Table {
    let ports: Vec<String> = facts.ports_taken.iter().map(u16::to_string).collect();
    page::properties([
        ("Docker", facts.docker_version.clone()),
        ("Cores", facts.cpu_cores.to_string()),
        ("Memory", gib(Some(facts.memory_gb))),
        ("Disk", gib(facts.disk_gb)),
        ("Free disk", gib(facts.free_disk_gb)),
        ("Ports taken", ports.join(", ")),
    ])
}

fn gib(amount: Option<i32>) -> String {
    page::text(amount.map(|amount| format!("{amount} GiB")))
}
