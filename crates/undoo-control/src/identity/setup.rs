//! The first start: a one-time token, and with it the first user and what they need to begin.

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use undoo_core::{
    Kind, OrganisationId, Problem, ProjectId, Result, ServerId, UserId,
    platform::{Capacity, OrgRole, Organisation, Project, Server, ServerStatus, User},
};
use undoo_storage::Access;
use undoo_store::{
    Tx,
    access::{self, Link},
    people, servers,
};

use super::{address, hash_password};
use crate::{
    Control, NewStorage,
    control::name_of,
    secrets::{Opaque, check_password},
};

/// What a one-time link of the first start is for.
const SETUP: &str = "setup";

/// The first user and organisation.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Their address.
    pub email: String,
    /// Their name.
    pub name: String,
    /// Their password.
    pub password: SecretString,
    /// What the organisation is called.
    pub organisation_name: String,
}

impl Control {
    /// A one-time token to set the platform up with, while it has no user; `None` afterwards.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn first_start(&self) -> Result<Option<SecretString>> {
        if people::users_exist(&self.store).await? {
            return Ok(None);
        }
        let link = Opaque::generate()?;
        let until = self.after_hours(self.settings.link_hours);
        let tx = self.store.begin().await?;
        let setup = Link { purpose: SETUP.to_owned(), user_id: None, joins: None, expires_at: until };
        access::link_insert(&tx, link.hash, &setup).await?;
        tx.commit().await?;
        Ok(Some(link.token))
    }

    /// Makes the first user, an administrator of the platform, with an organisation, a project, this machine
    /// as a server and its local storage. The answer is a session.
    ///
    /// # Errors
    /// `link_invalid` (`Denied`) for a token that is wrong, over or used; `already_set_up` (`Conflict`).
    pub async fn setup(&self, token: &SecretString, setup: Setup) -> Result<(SecretString, User)> {
        let (secret, now) = (Opaque::hash(token.expose_secret()), self.now());
        // Before any work is done for whoever sends this.
        if access::link(&self.store, secret, SETUP, now).await?.is_none() {
            return Err(link_invalid());
        }
        check_password(&setup.password)?;
        let (email, name) = (address(&setup.email)?, name_of(&setup.name)?);
        let organisation_name = name_of(&setup.organisation_name)?;
        let hash = hash_password(setup.password).await?;
        let user = User {
            id: UserId::generate(),
            email,
            name,
            portal_admin: true,
            disabled_at: None,
            created_at: now,
        };
        let organisation =
            Organisation { id: OrganisationId::generate(), name: organisation_name, created_at: now };
        let tx = self.store.begin().await?;
        let taken = access::link_take(&tx, secret, SETUP, now).await?;
        if taken.is_none() {
            return Err(link_invalid());
        }
        if people::users_exist(&tx).await? {
            let message = "the platform has been set up already";
            return Err(Problem::new(Kind::Conflict, "already_set_up", message, "Sign in instead."));
        }
        people::user_insert(&tx, &user, Some(&hash)).await?;
        self.organisation_begin(&tx, &organisation, now).await?;
        people::org_role_set(&tx, organisation.id, user.id, Some(OrgRole::Owner)).await?;
        servers::insert(&tx, &this_machine(organisation.id, self.settings.server_task_limit, now)).await?;
        let data = json!({ "email": user.email, "organisation": organisation.name });
        self.note(&tx, None, organisation.id, "platform.set_up", user.id, data).await?;
        tx.commit().await?;
        Ok((self.session_open(&user).await?, user))
    }

    /// What every organisation begins with: a project, and the local storage as its default.
    pub(crate) async fn organisation_begin(
        &self,
        tx: &Tx,
        organisation: &Organisation,
        now: Timestamp,
    ) -> Result<()> {
        people::organisation_insert(tx, organisation).await?;
        let project = Project {
            id: ProjectId::generate(),
            organisation_id: organisation.id,
            name: "Default".to_owned(),
            created_at: now,
        };
        people::project_insert(tx, &project).await?;
        let local = Access::Local { path: self.settings.local_storage.clone() };
        let storage = NewStorage {
            organisation_id: organisation.id,
            name: "Local storage".to_owned(),
            config: local.into(),
            is_default: true,
        };
        let record = self.storage_record(&storage)?;
        undoo_store::storages::insert(tx, &record).await
    }
}

fn this_machine(organisation_id: OrganisationId, task_limit: i32, created_at: Timestamp) -> Server {
    Server {
        id: ServerId::generate(),
        organisation_id,
        name: "This machine".to_owned(),
        ip_address: None,
        ssh_port: None,
        ssh_user: None,
        host_key: None,
        sealed: None,
        // What it has besides is seen when it is first looked at.
        has: Capacity {
            cpu_cores: std::thread::available_parallelism()
                .ok()
                .and_then(|cores| i32::try_from(cores.get()).ok()),
            ..Capacity::default()
        },
        limit: Capacity::default(),
        free_disk_gb: None,
        docker_version: None,
        status: ServerStatus::Online,
        checked_at: None,
        unreachable_since: None,
        last_problem: None,
        draining: false,
        task_limit,
        created_at,
    }
}

pub(super) fn link_invalid() -> Problem {
    Problem::new(
        Kind::Denied,
        "link_invalid",
        "the one-time link is wrong, was used, or holds no longer",
        "Ask for a new one; before the first user there is, `undoo serve` prints one at every start.",
    )
}
