//! The endpoints, by subject: one method each. Whatever fails, fails as a [`Problem`](undoo_core::Problem) of the
//! server or of the way there.

use reqwest::header::SET_COOKIE;
use secrecy::SecretString;
use serde_json::{Value, json};
use undoo_core::{
    BackupId, EnvironmentId, Kind, MigrationId, OrganisationId, Problem, ProjectId, RecoveryPlanId,
    RestoreId, Result, ServerId, StorageId, TaskId, TokenId, UserId,
    platform::{OrgRole, ProjectRole},
};

use super::{Client, IdempotencyKey, List, SESSION_COOKIE};
use crate::{
    addons::{AddonsRequest, AddonsResponse},
    audit::AuditEntryResponse,
    backups::{
        BackupDownloadResponse, BackupQuery, BackupResponse, CompatibleEnvironmentsResponse,
        CompatibleServersResponse, CreateBackupRequest, DownloadQuery,
    },
    environments::{
        AdoptRequest, DeployQuery, DeployRequest, DestroyRequest, EnvironmentDetails, EnvironmentPatch,
        EnvironmentQuery, EnvironmentResponse, FoundOdoo, InspectQuery,
    },
    identity::{
        CreateTokenRequest, CreateTokenResponse, CreateUserRequest, CreateUserResponse, InvitationRequest,
        LoginRequest, MeResponse, SetupRequest, TokenResponse, UserPatch, UserResponse,
    },
    migrations::{MigrationQuery, MigrationRequest, MigrationResponse},
    organisations::{
        NameRequest, OrganizationMember, OrganizationResponse, OrganizationRoleRequest, ProjectMember,
        ProjectResponse, ProjectRoleRequest,
    },
    recovery::{RecoveryPlanRequest, RecoveryPlanResponse},
    restores::{
        HeldResponse, RestorePlanResponse, RestorePointResponse, RestoreQuery, RestoreRequestV2,
        RestoreResponseV2, UndoPlanResponse,
    },
    servers::{CreateServerRequest, ServerPatch, ServerResponse, ServerTestRequest, ServerTestResponse},
    storages::{
        CreateStorageRequest, StorageConfig, StoragePatch, StorageResponse, StorageTestQuery,
        StorageTestResponse,
    },
    tasks::{StepLogResponse, TaskQuery, TaskResponse},
};

/// Signing in.
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
impl Client {
    /// Sets a new platform up; the answer is the first admin's session.
    pub async fn setup(&self, request: &SetupRequest) -> Result<(SecretString, UserResponse)> {
        self.signed_in(&["auth", "setup"], request).await
    }

    /// Signs in; the answer is a session.
    pub async fn login(&self, request: &LoginRequest) -> Result<(SecretString, UserResponse)> {
        self.signed_in(&["auth", "login"], request).await
    }

    /// Accepts an invitation; the answer is a session.
    pub async fn invitation_accept(
        &self,
        request: &InvitationRequest,
    ) -> Result<(SecretString, UserResponse)> {
        self.signed_in(&["auth", "invitations", "accept"], request).await
    }

    async fn signed_in(
        &self,
        path: &[&str],
        request: &impl serde::Serialize,
    ) -> Result<(SecretString, UserResponse)> {
        let (user, headers) = self.post(path).json(request)?.answer_with_headers().await?;
        let cookies = headers.get_all(SET_COOKIE).iter().filter_map(|cookie| cookie.to_str().ok());
        let session = cookies.filter_map(session).next().ok_or_else(|| {
            let message = format!("{} did not open a session", self.base());
            Problem::new(
                Kind::Internal,
                "no_session",
                message,
                "see what the proxy before it does to cookies",
            )
        })?;
        Ok((session, user))
    }

    /// Ends the session that is shown.
    pub async fn logout(&self) -> Result<()> {
        self.post(&["auth", "logout"]).done().await
    }

    /// Who one is, and where one belongs.
    pub async fn me(&self) -> Result<MeResponse> {
        self.get(&["auth", "me"]).answer().await
    }

    /// Makes a token; it takes a session.
    pub async fn token_create(&self, request: &CreateTokenRequest) -> Result<CreateTokenResponse> {
        self.post(&["tokens"]).json(request)?.answer().await
    }

    /// The caller's tokens.
    pub fn tokens(&self) -> List<TokenResponse> {
        self.list(&["tokens"], &())
    }

    /// Ends a token, at once and for good.
    pub async fn token_revoke(&self, id: TokenId) -> Result<TokenResponse> {
        self.delete(&["tokens", &id.to_string()]).answer().await
    }

    /// Invites somebody into an organisation.
    pub async fn user_create(&self, request: &CreateUserRequest) -> Result<CreateUserResponse> {
        self.post(&["users"]).json(request)?.answer().await
    }

    /// Everybody, for portal admins.
    pub fn users(&self) -> List<UserResponse> {
        self.list(&["users"], &())
    }

    /// Somebody.
    pub async fn user(&self, id: UserId) -> Result<UserResponse> {
        self.get(&["users", &id.to_string()]).answer().await
    }

    /// Disables an account, enables it, or says whether it administers the platform.
    pub async fn user_update(&self, id: UserId, patch: &UserPatch) -> Result<UserResponse> {
        self.patch(&["users", &id.to_string()]).json(patch)?.answer().await
    }

    /// Makes a link with which somebody chooses a password; those before it are void.
    pub async fn user_invite(&self, id: UserId) -> Result<CreateUserResponse> {
        self.post(&["users", &id.to_string(), "invitation"]).answer().await
    }
}

/// The session in a header `Set-Cookie`.
fn session(cookie: &str) -> Option<SecretString> {
    let (name, value) = cookie.split(';').next()?.split_once('=')?;
    (name.trim() == SESSION_COOKIE && !value.is_empty()).then(|| value.trim().into())
}

/// Organisations and projects.
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
impl Client {
    /// The caller's organisations.
    pub fn organizations(&self) -> List<OrganizationResponse> {
        self.list(&["organizations"], &())
    }

    /// Makes an organisation.
    pub async fn organization_create(&self, request: &NameRequest) -> Result<OrganizationResponse> {
        self.post(&["organizations"]).json(request)?.answer().await
    }

    /// Who belongs to an organisation.
    pub fn organization_members(&self, id: OrganisationId) -> List<OrganizationMember> {
        self.list(&["organizations", &id.to_string(), "members"], &())
    }

    /// Gives somebody a role in an organisation, or takes it from them.
    pub async fn organization_member_set(
        &self,
        id: OrganisationId,
        user: UserId,
        role: Option<OrgRole>,
    ) -> Result<()> {
        let (id, user) = (id.to_string(), user.to_string());
        let path = ["organizations", &id, "members", &user];
        match role {
            Some(role) => self.put(&path).json(&OrganizationRoleRequest { role })?.done().await,
            None => self.delete(&path).done().await,
        }
    }

    /// An organisation's projects.
    pub fn projects(&self, organisation: OrganisationId) -> List<ProjectResponse> {
        self.list(&["organizations", &organisation.to_string(), "projects"], &())
    }

    /// Makes a project.
    pub async fn project_create(
        &self,
        organisation: OrganisationId,
        request: &NameRequest,
    ) -> Result<ProjectResponse> {
        self.post(&["organizations", &organisation.to_string(), "projects"]).json(request)?.answer().await
    }

    /// A project.
    pub async fn project(&self, id: ProjectId) -> Result<ProjectResponse> {
        self.get(&["projects", &id.to_string()]).answer().await
    }

    /// Who belongs to a project.
    pub fn project_members(&self, id: ProjectId) -> List<ProjectMember> {
        self.list(&["projects", &id.to_string(), "members"], &())
    }

    /// Gives somebody a role in a project, or takes it from them.
    pub async fn project_member_set(
        &self,
        id: ProjectId,
        user: UserId,
        role: Option<ProjectRole>,
    ) -> Result<()> {
        let (id, user) = (id.to_string(), user.to_string());
        let path = ["projects", &id, "members", &user];
        match role {
            Some(role) => self.put(&path).json(&ProjectRoleRequest { role })?.done().await,
            None => self.delete(&path).done().await,
        }
    }

    /// An organisation's audit log, newest first.
    pub fn audit(&self, organisation: OrganisationId) -> List<AuditEntryResponse> {
        self.list(&["organizations", &organisation.to_string(), "audit"], &())
    }
}

/// Servers, environments and storages.
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
impl Client {
    /// An organisation's servers.
    pub fn servers(&self, organisation: OrganisationId) -> List<ServerResponse> {
        self.list(&["servers"], &json!({ "organization_id": organisation }))
    }

    /// Migrations that one may see, newest first.
    pub fn migrations(&self, query: &MigrationQuery) -> List<MigrationResponse> {
        self.list(&["migrations"], query)
    }

    /// Makes an environment that waits for a backup from elsewhere.
    pub async fn migration_create(
        &self,
        request: &MigrationRequest,
        key: &IdempotencyKey,
    ) -> Result<MigrationResponse> {
        self.post(&["migrations"]).json(request)?.once(key).patiently().answer().await
    }

    /// A migration.
    pub async fn migration(&self, id: MigrationId) -> Result<MigrationResponse> {
        self.get(&["migrations", &id.to_string()]).answer().await
    }

    /// Reads the file of a migration again.
    pub async fn migration_verify(&self, id: MigrationId) -> Result<MigrationResponse> {
        self.post(&["migrations", &id.to_string(), "verify"]).answer().await
    }

    /// Recovery plans of an organisation, newest first.
    pub fn recovery_plans(&self, organisation: OrganisationId) -> List<RecoveryPlanResponse> {
        self.list(&["recovery-plans"], &json!({ "organization_id": organisation }))
    }

    /// Says what would come back where after a loss.
    pub async fn recovery_plan_create(&self, request: &RecoveryPlanRequest) -> Result<RecoveryPlanResponse> {
        self.post(&["recovery-plans"]).json(request)?.answer().await
    }

    /// A recovery plan, and how far it is.
    pub async fn recovery_plan(&self, id: RecoveryPlanId) -> Result<RecoveryPlanResponse> {
        self.get(&["recovery-plans", &id.to_string()]).answer().await
    }

    /// Carries a recovery plan out.
    pub async fn recovery_plan_start(&self, id: RecoveryPlanId) -> Result<RecoveryPlanResponse> {
        self.post(&["recovery-plans", &id.to_string(), "start"]).patiently().answer().await
    }

    /// A server.
    pub async fn server(&self, id: ServerId) -> Result<ServerResponse> {
        self.get(&["servers", &id.to_string()]).answer().await
    }

    /// Adds a server, once it was reached.
    pub async fn server_create(&self, request: &CreateServerRequest) -> Result<ServerResponse> {
        self.post(&["servers"]).json(request)?.patiently().answer().await
    }

    /// Reaches a server, and keeps nothing of how.
    pub async fn server_test(&self, request: &ServerTestRequest) -> Result<ServerTestResponse> {
        self.post(&["servers", "test"]).json(request)?.patiently().answer().await
    }

    /// Changes a server.
    pub async fn server_update(&self, id: ServerId, patch: &ServerPatch) -> Result<ServerResponse> {
        self.patch(&["servers", &id.to_string()]).json(patch)?.patiently().answer().await
    }

    /// Looks at a server now.
    pub async fn server_verify(&self, id: ServerId) -> Result<ServerResponse> {
        self.post(&["servers", &id.to_string(), "verify"]).patiently().answer().await
    }

    /// Forgets a server that nothing is on.
    pub async fn server_delete(&self, id: ServerId) -> Result<()> {
        self.delete(&["servers", &id.to_string()]).done().await
    }

    /// The Odoos that run on a server, adopted or not.
    pub async fn containers(&self, server: ServerId) -> Result<Vec<FoundOdoo>> {
        self.get(&["servers", &server.to_string(), "containers"]).patiently().answer().await
    }

    /// Looks at one Odoo of a server.
    pub async fn container(
        &self,
        server: ServerId,
        container: &str,
        database: Option<String>,
    ) -> Result<FoundOdoo> {
        let call = self.get(&["servers", &server.to_string(), "containers", container]);
        call.query(&InspectQuery { database })?.patiently().answer().await
    }

    /// Environments that the caller may see.
    pub fn environments(&self, query: &EnvironmentQuery) -> List<EnvironmentResponse> {
        self.list(&["environments"], query)
    }

    /// Adopts an Odoo that runs already.
    pub async fn environment_adopt(&self, request: &AdoptRequest) -> Result<EnvironmentResponse> {
        self.post(&["environments"]).json(request)?.patiently().answer().await
    }

    /// An environment.
    pub async fn environment(&self, id: EnvironmentId) -> Result<EnvironmentDetails> {
        self.get(&["environments", &id.to_string()]).answer().await
    }

    /// Changes what is known of an environment.
    pub async fn environment_update(
        &self,
        id: EnvironmentId,
        patch: &EnvironmentPatch,
    ) -> Result<EnvironmentResponse> {
        self.patch(&["environments", &id.to_string()]).json(patch)?.answer().await
    }

    /// Names the git repositories that the modules of an environment are fetched from that waits to be deployed.
    ///
    /// # Errors
    /// As [`Client::environment`]; `addons_settled` where it is there already.
    pub async fn environment_addons_set(
        &self,
        id: EnvironmentId,
        addons: &AddonsRequest,
    ) -> Result<Vec<AddonsResponse>> {
        self.put(&["environments", &id.to_string(), "addons"]).json(addons)?.answer().await
    }

    /// Forgets an environment; its Odoo stays where it is.
    pub async fn environment_delete(&self, id: EnvironmentId) -> Result<()> {
        self.delete(&["environments", &id.to_string()]).done().await
    }

    /// Makes an environment that waits for its migration, or the containers of another one anew.
    pub async fn environment_deploy(
        &self,
        id: EnvironmentId,
        query: DeployQuery,
        request: &DeployRequest,
        key: &IdempotencyKey,
    ) -> Result<TaskResponse> {
        let call = self.post(&["environments", &id.to_string(), "deploy"]).query(&query)?;
        call.json(request)?.once(key).answer().await
    }

    /// Starts an environment.
    pub async fn environment_start(&self, id: EnvironmentId, key: &IdempotencyKey) -> Result<TaskResponse> {
        self.post(&["environments", &id.to_string(), "start"]).once(key).answer().await
    }

    /// Stops an environment.
    pub async fn environment_stop(&self, id: EnvironmentId, key: &IdempotencyKey) -> Result<TaskResponse> {
        self.post(&["environments", &id.to_string(), "stop"]).once(key).answer().await
    }

    /// Removes an environment from its server, with everything that is in it.
    pub async fn environment_destroy(
        &self,
        id: EnvironmentId,
        request: &DestroyRequest,
        key: &IdempotencyKey,
    ) -> Result<TaskResponse> {
        self.post(&["environments", &id.to_string(), "destroy"]).json(request)?.once(key).answer().await
    }

    /// An organisation's storages.
    pub fn storages(&self, organisation: OrganisationId) -> List<StorageResponse> {
        self.list(&["storages"], &json!({ "organization_id": organisation }))
    }

    /// Adds a storage.
    pub async fn storage_create(&self, request: &CreateStorageRequest) -> Result<StorageResponse> {
        self.post(&["storages"]).json(request)?.answer().await
    }

    /// Changes a storage.
    pub async fn storage_update(&self, id: StorageId, patch: &StoragePatch) -> Result<StorageResponse> {
        self.patch(&["storages", &id.to_string()]).json(patch)?.answer().await
    }

    /// Forgets a storage that no backup lies in.
    pub async fn storage_delete(&self, id: StorageId) -> Result<()> {
        self.delete(&["storages", &id.to_string()]).done().await
    }

    /// Tries everything that backups will ask of a storage.
    pub async fn storage_test(
        &self,
        organisation: Option<OrganisationId>,
        config: &StorageConfig,
    ) -> Result<StorageTestResponse> {
        let query = StorageTestQuery { organization_id: organisation };
        let call = self.post(&["backups", "storage", "test"]).query(&query)?;
        call.json(config)?.patiently().answer().await
    }
}

/// Backups.
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
impl Client {
    /// An environment's backups, newest first.
    pub fn backups_of(&self, environment: EnvironmentId, query: &BackupQuery) -> List<BackupResponse> {
        self.list(&["environments", &environment.to_string(), "backups"], query)
    }

    /// An organisation's backups, newest first.
    pub fn backups(&self, organisation: OrganisationId) -> List<BackupResponse> {
        self.list(&["backups"], &json!({ "organization_id": organisation }))
    }

    /// Has a backup made.
    pub async fn backup_create(
        &self,
        environment: EnvironmentId,
        request: &CreateBackupRequest,
        key: &IdempotencyKey,
    ) -> Result<BackupResponse> {
        let call = self.post(&["environments", &environment.to_string(), "backups"]);
        call.json(request)?.once(key).answer().await
    }

    /// A backup.
    pub async fn backup(&self, id: BackupId) -> Result<BackupResponse> {
        self.get(&["backups", &id.to_string()]).answer().await
    }

    /// Has a backup removed from its storage.
    pub async fn backup_delete(&self, id: BackupId) -> Result<BackupResponse> {
        self.delete(&["backups", &id.to_string()]).answer().await
    }

    /// Has a backup read from end to end.
    pub async fn backup_verify(&self, id: BackupId, key: &IdempotencyKey) -> Result<BackupResponse> {
        self.post(&["backups", &id.to_string(), "verify"]).once(key).answer().await
    }

    /// Where a backup can be fetched without signing in.
    pub async fn backup_download(
        &self,
        id: BackupId,
        query: &DownloadQuery,
    ) -> Result<BackupDownloadResponse> {
        self.get(&["backups", &id.to_string(), "download"]).query(query)?.answer().await
    }

    /// Environments that a backup can be restored to.
    pub async fn compatible_environments(&self, id: BackupId) -> Result<CompatibleEnvironmentsResponse> {
        self.get(&["backups", &id.to_string(), "compatible-environments"]).answer().await
    }

    /// Servers that a backup can be restored to.
    pub async fn compatible_servers(&self, id: BackupId) -> Result<CompatibleServersResponse> {
        self.get(&["backups", &id.to_string(), "compatible-servers"]).answer().await
    }
}

/// Restores.
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
impl Client {
    /// Begins a restore.
    pub async fn restore_start(
        &self,
        request: &RestoreRequestV2,
        key: &IdempotencyKey,
    ) -> Result<RestoreResponseV2> {
        let request = RestoreRequestV2 { dry_run: false, ..request.clone() };
        self.post(&["backups", "restore", "v2"]).json(&request)?.once(key).answer().await
    }

    /// What a restore would do; touches nothing.
    pub async fn restore_plan(&self, request: &RestoreRequestV2) -> Result<RestorePlanResponse> {
        let request = RestoreRequestV2 { dry_run: true, ..request.clone() };
        self.post(&["backups", "restore", "v2"]).json(&request)?.patiently().answer().await
    }

    /// A restore.
    pub async fn restore(&self, id: RestoreId) -> Result<RestorePointResponse> {
        self.get(&["restore", &id.to_string()]).answer().await
    }

    /// Restores to an environment, newest first.
    pub fn restores(&self, environment: EnvironmentId, query: &RestoreQuery) -> List<RestorePointResponse> {
        self.list(&["environments", &environment.to_string(), "restore-points"], query)
    }

    /// Calls a restore off.
    pub async fn restore_cancel(&self, id: RestoreId) -> Result<RestorePointResponse> {
        self.post(&["restore", &id.to_string(), "cancel"]).answer().await
    }

    /// What undoing a restore would do: which pair would be live, and what was written since.
    pub async fn restore_undo_plan(&self, id: RestoreId) -> Result<UndoPlanResponse> {
        self.get(&["restore", &id.to_string(), "undo"]).patiently().answer().await
    }

    /// Takes a restore back, or takes that back.
    pub async fn restore_undo(&self, id: RestoreId, key: &IdempotencyKey) -> Result<RestorePointResponse> {
        self.post(&["restore", &id.to_string(), "undo"]).once(key).answer().await
    }

    /// What a restored system holds back.
    pub async fn restore_held(&self, id: RestoreId) -> Result<HeldResponse> {
        self.get(&["restore", &id.to_string(), "held"]).answer().await
    }

    /// Lets go what a restored system holds back.
    pub async fn restore_release(&self, id: RestoreId, key: &IdempotencyKey) -> Result<RestorePointResponse> {
        self.post(&["restore", &id.to_string(), "release"]).once(key).answer().await
    }

    /// A restore's signed report.
    pub async fn restore_report(&self, id: RestoreId) -> Result<Value> {
        self.get(&["restore", &id.to_string(), "report"]).answer().await
    }
}

/// Tasks.
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
impl Client {
    /// Tasks that the caller may see, newest first.
    pub fn tasks(&self, query: &TaskQuery) -> List<TaskResponse> {
        self.list(&["tasks"], query)
    }

    /// A task.
    pub async fn task(&self, id: TaskId) -> Result<TaskResponse> {
        self.get(&["tasks", &id.to_string()]).answer().await
    }

    /// What its steps did.
    pub async fn task_log(&self, id: TaskId) -> Result<Vec<StepLogResponse>> {
        self.get(&["tasks", &id.to_string(), "log"]).answer().await
    }

    /// Calls a task off.
    pub async fn task_cancel(&self, id: TaskId) -> Result<TaskResponse> {
        self.post(&["tasks", &id.to_string(), "cancel"]).answer().await
    }
}
