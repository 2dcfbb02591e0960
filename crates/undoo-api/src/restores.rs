//! Restores: asked for, planned, shown and taken back.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use undoo_core::{
    BackupId, EnvironmentId, Finding, OrganisationId, ProjectId, RestoreId, ServerId, Side, TaskId, UserId,
    platform::{EnvironmentType, RestoreMode, RestorePoint, RestoreStatus},
};
use utoipa::{IntoParams, ToSchema};

use crate::{
    addons::AddonsSourceRequest,
    bounds::{self, yes},
    environments::EnvironmentResponse,
    list::{PageNumber, PageSize},
    tasks::TaskResponse,
};

/// Hours for which a replaced pair is kept when nobody says.
pub const UNDO_WINDOW_HOURS: u32 = 24;

/// Restoring to the environment that the backup was made of, or to another one of its project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreRequest {
    /// The backup.
    pub backup_id: BackupId,
    /// Where it goes. To the environment that it was made of without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_environment_id: Option<EnvironmentId>,
    /// Whether a backup of what the restore replaces is made first.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub create_pre_restore_backup: bool,
    /// Whether the files are restored along with the database.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub include_filestore: bool,
}

/// Restoring with everything that can be chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreRequestV2 {
    /// The backup.
    pub backup_id: BackupId,
    /// Where it goes. To the environment that it was made of without it.
    #[serde(default, deserialize_with = "bounds::object")]
    pub target: RestoreTarget,
    /// Whether a backup of what the restore replaces is made first.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub create_pre_restore_backup: bool,
    /// Whether the restore goes on when that backup cannot be made, as of a live system that is damaged. What
    /// it replaces is then kept until somebody removes it.
    #[serde(default)]
    #[schema(default = false)]
    pub keep_raw_pair_instead: bool,
    /// Whether the files are restored along with the database. `false` leaves the target's files as they are.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub include_filestore: bool,
    /// Whether the database is restored. `false` adds the backup's files to those that are there, and
    /// removes none.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub include_database: bool,
    /// What the restored system is for. Without it: `recover` for the environment that the backup was made
    /// of, else `copy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<RestoreIntent>,
    /// Whether a copy is kept from sending mail, running crons and charging cards. Without it: unless the
    /// target is the environment that the backup was made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neutralize: Option<bool>,
    /// Whether mail that waits and crons that are due are held until somebody releases them. Without it:
    /// where a production is restored in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_outgoing: Option<bool>,
    /// Codes of findings that were read and accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 1000)]
    pub accept: Vec<String>,
    /// What becomes of the live database while the new one is made.
    #[serde(default)]
    #[schema(default = "beside")]
    pub strategy: RestoreStrategy,
    /// For the strategy `stop_first`: the live database's name, to say that it may be dropped for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop_live: Option<String>,
    /// Whether what was live is brought back when Odoo does not answer after the cutover.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub auto_rollback: bool,
    /// Hours for which what the restore replaces is kept, so that it can be undone.
    #[serde(default = "undo_window_hours", deserialize_with = "bounds::number::<_, _, 1, 720>")]
    #[schema(minimum = 1, maximum = 720, default = 24)]
    pub undo_window_hours: u32,
    /// Whether only to answer what the restore would do, and what was found; nothing is touched.
    #[serde(default)]
    #[schema(default = false)]
    pub dry_run: bool,
}

const fn undo_window_hours() -> u32 {
    UNDO_WINDOW_HOURS
}

impl RestoreRequestV2 {
    /// A backup's restore to where it came from, with everything as it is unless somebody says otherwise.
    pub fn new(backup_id: BackupId) -> Self {
        Self {
            backup_id,
            target: RestoreTarget::default(),
            create_pre_restore_backup: yes(),
            keep_raw_pair_instead: false,
            include_filestore: yes(),
            include_database: yes(),
            intent: None,
            neutralize: None,
            hold_outgoing: None,
            accept: Vec::new(),
            strategy: RestoreStrategy::default(),
            drop_live: None,
            auto_rollback: yes(),
            undo_window_hours: UNDO_WINDOW_HOURS,
            dry_run: false,
        }
    }
}

impl From<RestoreRequest> for RestoreRequestV2 {
    fn from(request: RestoreRequest) -> Self {
        let target = match request.target_environment_id {
            Some(environment) => RestoreTarget {
                mode: RestoreMode::Existing,
                environment_id: Some(environment),
                new_environment: None,
            },
            None => RestoreTarget::default(),
        };
        Self {
            target,
            create_pre_restore_backup: request.create_pre_restore_backup,
            include_filestore: request.include_filestore,
            ..Self::new(request.backup_id)
        }
    }
}

/// Where a restore goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreTarget {
    /// What sort of place it is.
    #[serde(default = "original")]
    #[schema(default = "original")]
    pub mode: RestoreMode,
    /// The environment; required for `existing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<EnvironmentId>,
    /// The environment that is to be made; required for `new` and `cross_server`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "bounds::some_object")]
    pub new_environment: Option<NewEnvironment>,
}

const fn original() -> RestoreMode {
    RestoreMode::Original
}

impl Default for RestoreTarget {
    fn default() -> Self {
        Self { mode: original(), environment_id: None, new_environment: None }
    }
}

/// An environment that a restore is to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewEnvironment {
    /// Its name, unique in the project.
    #[serde(deserialize_with = "bounds::name")]
    #[schema(value_type = bounds::Name, example = "Restored Environment")]
    pub name: String,
    /// What it is for.
    pub environment_type: EnvironmentType,
    /// The server that it is to be on; required for `cross_server`. That of the backup's environment without
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_id: Option<ServerId>,
    /// Where its users are to find it: Traefik's rule. Traefik passes it over without it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_text::<_, 253>"
    )]
    #[schema(min_length = 1, max_length = 253, example = "clone.example.com")]
    pub domain: Option<String>,
    /// Odoo's image. The backup's without it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_visible::<_, 255>"
    )]
    #[schema(min_length = 1, max_length = 255, pattern = "^[!-~]+$", example = "odoo:19.0")]
    pub odoo_image: Option<String>,
    /// PostgreSQL's image. The backup's without it, or one of its major version.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_visible::<_, 255>"
    )]
    #[schema(min_length = 1, max_length = 255, pattern = "^[!-~]+$", example = "postgres:17-alpine")]
    pub postgres_image: Option<String>,
    /// A port of the server at which it is to be found as well, for a server without Traefik.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_number::<_, _, 1, 65_535>"
    )]
    #[schema(minimum = 1, maximum = 65_535)]
    pub http_port: Option<u16>,
    /// Options of `odoo.conf` besides those that every environment has. They are not shown again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(example = json!({ "workers": "2" }))]
    pub odoo_conf: BTreeMap<String, String>,
    /// Git repositories that its custom modules come from, before those of the backup. Of two modules with one name,
    /// that of the first counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "bounds::list::<_, _, 32>")]
    #[schema(max_items = 32)]
    pub addons: Vec<AddonsSourceRequest>,
}

impl NewEnvironment {
    /// An environment on the server of the backup's environment, with everything as the backup has it.
    pub fn new(name: impl Into<String>, environment_type: EnvironmentType) -> Self {
        Self {
            name: name.into(),
            environment_type,
            server_id: None,
            domain: None,
            odoo_image: None,
            postgres_image: None,
            http_port: None,
            odoo_conf: BTreeMap::new(),
            addons: Vec::new(),
        }
    }
}

/// What a restored system is for; decides what is changed in it before anyone sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestoreIntent {
    /// The same instance at an earlier time: identity stays, outgoing mail is held.
    Recover,
    /// A second instance: new identity, neutralized.
    Copy,
    /// The same instance in another place; the source does not run any more.
    Move,
}

/// Whether the live database waits for the proof, or makes room first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestoreStrategy {
    /// Load beside the live database, prove it, and swap.
    #[default]
    Beside,
    /// Stop Odoo, drop the live database, then load. For a disk that cannot hold both. Cannot be undone.
    StopFirst,
}

/// A restore.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RestorePointResponse {
    /// Its id.
    pub id: RestoreId,
    /// Whose it is.
    pub organization_id: OrganisationId,
    /// The project of the target.
    pub project_id: ProjectId,
    /// What is restored.
    pub backup_id: BackupId,
    /// What that is a backup of.
    pub source_environment_id: EnvironmentId,
    /// What it is restored to.
    pub target_environment_id: EnvironmentId,
    /// The server of that.
    pub target_vm_id: Option<ServerId>,
    /// Where it goes.
    pub mode: RestoreMode,
    /// Where it stands.
    pub status: RestoreStatus,
    /// The step that it is in: finer than the status.
    #[schema(example = "post_data")]
    pub phase: Option<String>,
    /// How far it is, from 0 to 100.
    #[schema(minimum = 0, maximum = 100)]
    pub progress: i32,
    /// The newest task about it: the restore's, later an undo's.
    pub task_id: Option<TaskId>,
    /// The safety backup, once there is one.
    pub pre_restore_backup_id: Option<BackupId>,
    /// Whether it makes its environment.
    pub is_new_environment: bool,
    /// Whether it goes to another server.
    pub is_cross_server: bool,
    /// When work on it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// Seconds from the one to the other.
    pub duration_seconds: Option<i64>,
    /// What went wrong: thing, cause and next step.
    pub error_message: Option<String>,
    /// The step that it went wrong in.
    pub error_step: Option<String>,
    /// Findings that stood in the way, or were accepted.
    pub findings: Vec<Finding>,
    /// Until when it can be undone; `null` where it cannot.
    pub undo_until: Option<Timestamp>,
    /// What was asked for besides.
    #[schema(value_type = Object)]
    pub options: Value,
    /// When it was asked for.
    pub create_date: Timestamp,
    /// Who asked for it.
    pub created_by: Option<UserId>,
}

impl From<RestorePoint> for RestorePointResponse {
    fn from(point: RestorePoint) -> Self {
        Self {
            duration_seconds: point.duration_seconds(),
            id: point.id,
            organization_id: point.organisation_id,
            project_id: point.project_id,
            backup_id: point.backup_id,
            source_environment_id: point.source_environment_id,
            target_environment_id: point.target_environment_id,
            target_vm_id: point.target_server_id,
            mode: point.mode,
            status: point.status,
            phase: point.phase,
            progress: point.progress,
            task_id: point.task_id,
            pre_restore_backup_id: point.pre_restore_backup_id,
            is_new_environment: point.mode.makes_environment(),
            is_cross_server: point.mode == RestoreMode::CrossServer,
            started_at: point.started_at,
            completed_at: point.completed_at,
            error_message: point.error_message,
            error_step: point.error_step,
            findings: shaped(point.findings),
            undo_until: point.undo_until,
            options: point.options,
            create_date: point.created_at,
            created_by: point.created_by,
        }
    }
}

/// What an entity keeps as JSON, in its shape; nothing where it has another one.
fn shaped<T: DeserializeOwned + Default>(value: Value) -> T {
    serde_json::from_value(value).unwrap_or_default()
}

/// A restore that was begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RestoreResponseV2 {
    /// The restore.
    pub restore_point: RestorePointResponse,
    /// Its task.
    pub task: TaskResponse,
    /// What it is restored to.
    pub target_environment: EnvironmentResponse,
}

/// What a restore would do: the answer to `dry_run`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RestorePlanResponse {
    /// What would be restored.
    pub backup_id: BackupId,
    /// What it would be restored to; `null` for an environment that is still to be made.
    pub target_environment_id: Option<EnvironmentId>,
    /// Everything found, about the backup and about the target.
    pub findings: Vec<Finding>,
    /// Whether no finding stands in the way, given the codes that were accepted.
    pub can_start: bool,
    /// How long it took the last times; `null` where nobody knows.
    pub estimate: Option<Estimate>,
    /// What the backup is, and what the target's PostgreSQL is. `null` where the environment is still to be
    /// made: its restore looks at the backup before anything is loaded, and says then what is in its way.
    #[schema(value_type = Option<Object>)]
    pub plan: Option<Value>,
}

/// How long the newest completed restores to the same environment took, 20 at most: whatever they restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Estimate {
    /// Seconds: half of them took no longer.
    pub median_seconds: i64,
    /// Seconds that the quickest took.
    pub least_seconds: i64,
    /// Seconds that the slowest took.
    pub most_seconds: i64,
    /// How many there were.
    pub runs: u32,
}

impl Estimate {
    /// From what they took, shortest first; nothing where there were none.
    pub fn of(took: &[i64]) -> Option<Self> {
        let (least_seconds, most_seconds) = (*took.first()?, *took.last()?);
        let median_seconds = *took.get((took.len() - 1) / 2)?;
        Some(Self { median_seconds, least_seconds, most_seconds, runs: took.len().try_into().ok()? })
    }
}

/// Which restores to an environment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RestoreQuery {
    /// Those that stand there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub status: Option<RestoreStatus>,
    /// The number of the page, from 1.
    #[serde(default)]
    #[param(value_type = u64, minimum = 1, maximum = 1_000_000_000, default = 1)]
    pub page: PageNumber,
    /// How many items a page has.
    #[serde(default)]
    #[param(value_type = u64, minimum = 1, maximum = 100, default = 20)]
    pub page_size: PageSize,
}

/// What an undo would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UndoPlanResponse {
    /// The restore.
    pub restore_id: RestoreId,
    /// What would be live afterwards.
    pub to: Side,
    /// What was written since the cutover, most first: it would go out of sight, and be kept for a window of
    /// its own.
    pub written: Vec<WrittenSince>,
}

/// Rows of one table that were written since a cutover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WrittenSince {
    /// The table.
    pub table: String,
    /// Rows that were made.
    pub created: i64,
    /// Older rows that were changed.
    pub changed: i64,
}

/// What a restored system holds back until somebody releases it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldResponse {
    /// Mails that waited to be sent when the backup was made.
    pub mails: Vec<Held>,
    /// Crons that were due.
    pub crons: Vec<Held>,
}

impl From<Value> for HeldResponse {
    fn from(held: Value) -> Self {
        shaped(held)
    }
}

/// A mail or a cron that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Held {
    /// Its row.
    pub id: i64,
    /// The mail's recipients, or the cron's name.
    pub what: String,
}
