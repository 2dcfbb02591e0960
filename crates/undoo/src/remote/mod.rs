//! The commands that talk to an Undoo server: what they ask it for, and what is shown of the answers.
//!
//! Nothing is decided here: who may do what, the server says. Names that people type become ids here.

mod backup;
mod env;
mod login;
mod migration;
mod page;
mod recover;
mod restore;
mod server;
mod task;
mod watch;

use futures_util::{StreamExt, TryStreamExt};
use secrecy::ExposeSecret;
use undoo_api::{
    Client,
    client::{List, Page, findings},
    environments::{EnvironmentQuery, EnvironmentResponse},
    list::MOST_PAGE_SIZE,
    organisations::{OrganizationResponse, ProjectResponse},
    problem::NOT_SIGNED_IN,
};
use undoo_core::{EnvironmentId, Kind, OrganisationId, Problem, Result};
use undoo_engine::order::Failure;

use crate::{
    cli::remote::{BackupCommand, RemoteCommand, RestoreCommand, ServerArgs},
    ui::Ui,
};

/// Runs a command that only a server has.
///
/// # Errors
/// Those of the server, and of the way there.
pub async fn run(command: RemoteCommand, ui: &Ui) -> Result<(), Failure> {
    told(match command {
        RemoteCommand::Login(arguments) => login::login(&arguments, ui).await,
        RemoteCommand::Logout => login::logout(ui).await,
        RemoteCommand::Env(command) => env::run(command, ui).await,
        RemoteCommand::Server(command) => server::run(command, ui).await,
        RemoteCommand::Migration(command) => migration::run(command, ui).await,
        RemoteCommand::Recover(arguments) => recover::run(&arguments, ui).await,
        RemoteCommand::Task(command) => task::run(command, ui).await,
    })
}

/// What `undoo backup` does on a server.
///
/// # Errors
/// As [`run`].
pub async fn backup(command: BackupCommand, ui: &Ui) -> Result<(), Failure> {
    told(backup::run(command, ui).await)
}

/// What `undoo restore` does on a server.
///
/// # Errors
/// As [`run`].
pub async fn restore(command: RestoreCommand, ui: &Ui) -> Result<(), Failure> {
    told(restore::run(command, ui).await)
}

/// A failure with the findings that the server named, and with the command that helps.
fn told(outcome: Result<(), Failure>) -> Result<(), Failure> {
    outcome.map_err(|mut failure| {
        if failure.findings.is_empty() {
            failure.findings = findings(&failure.problem).to_vec();
        }
        if failure.problem.code == NOT_SIGNED_IN {
            failure.problem.remedy = login::SIGN_IN.into();
        }
        failure
    })
}

/// The server that somebody is signed in to.
struct Remote {
    client: Client,
    /// The organisation that was named.
    organisation: Option<String>,
}

impl Remote {
    /// # Errors
    /// When nobody is signed in.
    fn open(arguments: &ServerArgs) -> Result<Self> {
        let account = login::account()?;
        let client = Client::new(&account.url, account.token.expose_secret().into())?;
        Ok(Self { client, organisation: arguments.org.clone() })
    }

    /// The organisations to look in: the one that was named, else all.
    async fn organisations(&self) -> Result<Vec<OrganizationResponse>> {
        let all = self.client.organizations().all().await?;
        match &self.organisation {
            None => Ok(all),
            Some(wanted) => {
                let one =
                    one(all, Some(wanted), "organisation", "--org", |one| (one.id.to_string(), &one.name))?;
                Ok(vec![one])
            }
        }
    }

    /// The organisation that is meant: there is but one, or it was named.
    async fn organisation(&self) -> Result<OrganizationResponse> {
        let all = self.organisations().await?;
        one(all, None, "organisation", "--org", |one| (one.id.to_string(), &one.name))
    }

    /// A project by its name or id; the only one where none is named.
    async fn project(&self, organisation: OrganisationId, wanted: Option<&str>) -> Result<ProjectResponse> {
        let all = self.client.projects(organisation).all().await?;
        one(all, wanted, "project", "--project", |one| (one.id.to_string(), &one.name))
    }

    /// An environment by its id, as PROJECT/NAME, or by its name where that is the only one.
    async fn environment(&self, wanted: &str) -> Result<EnvironmentResponse> {
        if let Ok(id) = wanted.parse::<EnvironmentId>() {
            return Ok(self.client.environment(id).await?.environment);
        }
        let mut found = Vec::new();
        for organisation in self.organisations().await? {
            let projects = self.client.projects(organisation.id).all().await?;
            let query = EnvironmentQuery { organization_id: Some(organisation.id), ..Default::default() };
            for environment in self.client.environments(&query).all().await? {
                let project = projects.iter().find(|project| project.id == environment.project_id);
                let project = project.map_or("", |project| project.name.as_str());
                let full = format!("{project}/{}", environment.name);
                if wanted == full || wanted == environment.name {
                    found.push((full, environment));
                }
            }
        }
        if found.len() > 1 {
            let names: Vec<&str> = found.iter().map(|(full, _)| full.as_str()).collect();
            let message = format!("\"{wanted}\" could be any of these: {}", names.join(", "));
            let remedy = "give PROJECT/NAME with --org, or the id that `undoo env list` shows";
            return Err(Problem::new(Kind::Invalid, "ambiguous", message, remedy));
        }
        let missing = || {
            let message = format!("there is no environment \"{wanted}\" that you may see");
            Problem::new(Kind::Missing, "not_found", message, "`undoo env list` shows those that there are")
        };
        found.pop().map(|(_, environment)| environment).ok_or_else(missing)
    }
}

/// The one that is meant: by its name or id, or because there is no other.
fn one<T>(
    all: Vec<T>,
    wanted: Option<&str>,
    what: &str,
    flag: &str,
    name: impl Fn(&T) -> (String, &String),
) -> Result<T> {
    let names: Vec<String> = all.iter().map(|one| name(one).1.clone()).collect();
    let mut meant: Vec<T> = match wanted {
        Some(wanted) => {
            all.into_iter().filter(|one| name(one).0 == wanted || name(one).1 == wanted).collect()
        }
        None => all,
    };
    let there_are = || format!("those that you may see: {}", names.join(", "));
    match (meant.pop(), meant.is_empty(), wanted) {
        (Some(one), true, _) => Ok(one),
        (Some(_), false, Some(wanted)) => Err(Problem::new(
            Kind::Invalid,
            "ambiguous",
            format!("there are several of the name \"{wanted}\""),
            format!("give the id of the {what} to {flag}"),
        )),
        (Some(_), false, None) => Err(Problem::new(
            Kind::Invalid,
            "ambiguous",
            format!("which {what} is meant was not said"),
            format!("say it with {flag}; {}", there_are()),
        )),
        (None, _, Some(wanted)) => Err(Problem::new(
            Kind::Missing,
            "not_found",
            format!("there is no {what} \"{wanted}\" that you may see"),
            there_are(),
        )),
        (None, _, None) => Err(Problem::new(
            Kind::Missing,
            "not_found",
            format!("there is no {what} that you may see"),
            "ask an admin to let you into one",
        )),
    }
}

/// As many items of a list as were asked for, and how many there are.
async fn first<T: serde::de::DeserializeOwned>(list: List<T>, limit: usize) -> Result<Page<T>> {
    let size = u64::try_from(limit).unwrap_or(MOST_PAGE_SIZE).clamp(1, MOST_PAGE_SIZE);
    let mut page = list.page(1, size).await?;
    if page.total > size && limit > page.items.len() {
        page.items = list.stream().take(limit).try_collect().await?;
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(all: &[&str], wanted: Option<&str>) -> Result<String, &'static str> {
        let all: Vec<String> = all.iter().map(|&name| name.to_owned()).collect();
        one(all, wanted, "project", "--project", |name| (format!("id-{name}"), name))
            .map_err(|problem| problem.code)
    }

    #[test]
    fn the_only_one_needs_no_name_and_several_do() {
        assert_eq!(meant(&["a"], None).as_deref(), Ok("a"));
        assert_eq!(meant(&["a", "b"], None), Err("ambiguous"));
        assert_eq!(meant(&["a", "b"], Some("b")).as_deref(), Ok("b"));
        assert_eq!(meant(&["a", "b"], Some("id-a")).as_deref(), Ok("a"));
        assert_eq!(meant(&["a", "a"], Some("a")), Err("ambiguous"));
        assert_eq!(meant(&["a"], Some("c")), Err("not_found"));
        assert_eq!(meant(&[], None), Err("not_found"));
    }
}
