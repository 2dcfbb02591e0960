//! The queue as people see it: what waits, what runs, and calling it off. What a task does is in `work`.

use serde_json::{Value, json};
use undoo_core::{
    BackupId, EnvironmentId, Kind, OrganisationId, Problem, ProjectId, RestoreId, Result, ServerId, TaskId,
    platform::{
        Backup, BackupStatus, Environment, EventKind, Migration, NewEvent, Permission, RestorePoint,
        RestoreStatus, Scope, StepLog, Task, TaskKind, TaskStatus,
    },
};
use undoo_store::{
    Connection, Listed, Page, Tx, backups, environments, restore_points,
    tasks::{self, NewTask, QueueDepth, TaskFilter},
};

use crate::{
    Caller, Control,
    control::{Named, invalid},
    work::Payload,
};

/// What a task is about.
pub(crate) struct About {
    organisation_id: OrganisationId,
    /// The environment that it changes; two tasks never change one.
    environment_id: Option<EnvironmentId>,
    server_id: Option<ServerId>,
    payload: Payload,
}

impl About {
    pub(crate) fn backup(backup: &Backup, environment: &Environment) -> Self {
        Self {
            organisation_id: backup.organisation_id,
            environment_id: Some(environment.id),
            server_id: environment.server_id,
            payload: Payload::Backup { backup_id: backup.id },
        }
    }

    /// A backup where it lies: its environment may do what it likes meanwhile.
    pub(crate) fn backup_alone(backup: &Backup) -> Self {
        Self {
            organisation_id: backup.organisation_id,
            environment_id: None,
            server_id: None,
            payload: Payload::Backup { backup_id: backup.id },
        }
    }

    /// The file of a migration where it lies.
    pub(crate) fn migration(migration: &Migration) -> Self {
        Self {
            organisation_id: migration.organisation_id,
            environment_id: None,
            server_id: None,
            payload: Payload::Migration { migration_id: migration.id },
        }
    }

    /// What a task about this is told by.
    pub(crate) fn payload(&self) -> Value {
        self.payload.to_json()
    }

    /// An environment itself.
    pub(crate) fn environment(environment: &Environment) -> Self {
        Self {
            organisation_id: environment.organisation_id,
            environment_id: Some(environment.id),
            server_id: environment.server_id,
            payload: Payload::Environment { environment_id: environment.id },
        }
    }

    pub(crate) fn restore(point: &RestorePoint, payload: Payload) -> Self {
        Self {
            organisation_id: point.organisation_id,
            environment_id: Some(point.target_environment_id),
            server_id: point.target_server_id,
            payload,
        }
    }
}

/// Higher goes first: who waits for a restore waits for nothing else.
fn priority(kind: TaskKind) -> i32 {
    match kind {
        TaskKind::Restore | TaskKind::Undo => 20,
        TaskKind::Release | TaskKind::Deploy | TaskKind::Start | TaskKind::Stop => 15,
        TaskKind::Backup => 10,
        TaskKind::VerifyBackup | TaskKind::DeleteBackup | TaskKind::Purge | TaskKind::Destroy => 0,
    }
}

impl Control {
    /// Puts a task into the queue, in the transaction of what it is about.
    ///
    /// # Errors
    /// `environment_busy` (`Conflict`) while another task is active on its environment.
    pub(crate) async fn enqueue(
        &self,
        tx: &Tx,
        kind: TaskKind,
        about: About,
        caller: &Caller,
    ) -> Result<Task> {
        self.enqueue_for(tx, kind, about, Some(caller)).await
    }

    /// The same for what nobody asked for.
    pub(crate) async fn enqueue_for(
        &self,
        tx: &Tx,
        kind: TaskKind,
        about: About,
        caller: Option<&Caller>,
    ) -> Result<Task> {
        let task = NewTask {
            organisation_id: about.organisation_id,
            kind,
            priority: priority(kind),
            environment_id: about.environment_id,
            server_id: about.server_id,
            payload: about.payload.to_json(),
            max_attempts: self.settings.task_attempts,
            run_after: None,
            created_by: caller.map(|caller| caller.user.id),
        };
        tasks::enqueue(tx, &task).await
    }

    /// Refuses while a task is active on an environment.
    pub(crate) async fn not_busy(&self, on: &impl Connection, environment: &Environment) -> Result<()> {
        for status in [TaskStatus::Queued, TaskStatus::Running, TaskStatus::Cancelling] {
            let filter = TaskFilter {
                organisation_id: Some(environment.organisation_id),
                environment_id: Some(environment.id),
                status: Some(status),
                ..TaskFilter::default()
            };
            let found = tasks::list(on, filter, Page { page: 1, size: 1 }).await?;
            if let Some(task) = found.items.first() {
                return Err(Problem::new(
                    Kind::Conflict,
                    "environment_busy",
                    format!(
                        "task {} ({}) is {} on environment \"{}\"",
                        task.id, task.kind, task.status, environment.name
                    ),
                    "Wait until it is over, or cancel it.",
                ));
            }
        }
        Ok(())
    }

    /// How much there is to do on the whole platform, for its figures.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn queue_depth(&self) -> Result<QueueDepth> {
        tasks::queue_depth(&self.store).await
    }

    /// A task.
    ///
    /// # Errors
    /// As [`Control::allow`], for `project.environments.view` on what it is about.
    pub async fn task_get(&self, caller: &Caller, id: TaskId) -> Result<Task> {
        self.task_for(&self.store, caller, id, None).await
    }

    /// What happened to a task's steps, oldest first.
    ///
    /// # Errors
    /// As [`Control::task_get`].
    pub async fn task_log(&self, caller: &Caller, id: TaskId) -> Result<Vec<StepLog>> {
        self.task_get(caller, id).await?;
        tasks::log(&self.store, id).await
    }

    async fn task_for(
        &self,
        on: &impl Connection,
        caller: &Caller,
        id: TaskId,
        permission: Option<Permission>,
    ) -> Result<Task> {
        let named = Named("task", id);
        let task = tasks::get(on, id).await?.ok_or_else(|| named.missing())?;
        let organisation = task.organisation_id;
        let scope = match self.environment_of(on, &task).await? {
            Some(environment) if permission == Some(Permission::BackupsRestore) => {
                Scope::Environment(organisation, environment.project_id, environment.environment_type)
            }
            Some(environment) => Scope::Project(organisation, environment.project_id),
            None => Scope::Organisation(organisation),
        };
        self.allow(caller, permission.unwrap_or(Permission::EnvironmentsView), scope, &named)?;
        Ok(task)
    }

    /// The environment that a task is about, whether it changes it or not.
    async fn environment_of(&self, on: &impl Connection, task: &Task) -> Result<Option<Environment>> {
        let environment = match (task.environment_id, Payload::of(task)) {
            (Some(environment), _) => Some(environment),
            (None, Ok(Payload::Backup { backup_id })) => {
                backups::get(on, backup_id).await?.map(|backup| backup.environment_id)
            }
            _ => None,
        };
        match environment {
            Some(environment) => environments::get(on, environment).await,
            None => Ok(None),
        }
    }

    /// Tasks of an organisation that the caller may see, newest first.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.view`.
    pub async fn task_list(
        &self,
        caller: &Caller,
        organisation: OrganisationId,
        project: Option<ProjectId>,
        environment: Option<EnvironmentId>,
        status: Option<TaskStatus>,
        page: Page,
    ) -> Result<Listed<Task>> {
        let permission = Permission::EnvironmentsView;
        let projects = self.projects_seen(caller, organisation, project, permission).await?;
        let filter = TaskFilter {
            organisation_id: Some(organisation),
            projects: projects.as_deref(),
            environment_id: environment,
            status,
        };
        tasks::list(&self.store, filter, page).await
    }

    /// Calls a task off. One that waits is cancelled at once; one that runs takes back what it did.
    ///
    /// # Errors
    /// As [`Control::allow`], for the permission that asking for it took; `not_cancellable` (`Invalid`) for one
    /// that is over.
    pub async fn task_cancel(&self, caller: &Caller, id: TaskId) -> Result<Task> {
        let tx = self.store.begin().await?;
        let named = Named("task", id);
        let task = tasks::get(&tx, id).await?.ok_or_else(|| named.missing())?;
        let permission = match task.kind {
            TaskKind::Restore | TaskKind::Undo | TaskKind::Release | TaskKind::Purge => {
                Permission::BackupsRestore
            }
            TaskKind::Backup | TaskKind::VerifyBackup => Permission::BackupsCreate,
            TaskKind::DeleteBackup => Permission::BackupsDelete,
            TaskKind::Deploy | TaskKind::Start | TaskKind::Stop => Permission::EnvironmentsUpdate,
            TaskKind::Destroy => Permission::EnvironmentsDelete,
        };
        let task = self.task_for(&tx, caller, id, Some(permission)).await?;
        self.cancel(&tx, caller, &task).await?;
        tx.commit().await?;
        self.task_settled(id).await?.ok_or_else(|| named.missing())
    }

    /// Calls a task off in a transaction, with what it is about where it never began.
    pub(crate) async fn cancel(&self, tx: &Tx, caller: &Caller, task: &Task) -> Result<()> {
        let not_cancellable = |status: TaskStatus| {
            let message = format!("task {} is {status} and cannot be cancelled", task.id);
            invalid("not_cancellable", message, "What was done can be undone, where there is a way back.")
        };
        if task.status.is_final() {
            return Err(not_cancellable(task.status));
        }
        match tasks::cancel(tx, task.id).await? {
            TaskStatus::Cancelling => {}
            TaskStatus::Cancelled => self.never_began(tx, task).await?,
            status => return Err(not_cancellable(status)),
        }
        self.note(
            tx,
            Some(caller),
            task.organisation_id,
            "task.cancelled",
            task.id,
            json!({ "kind": task.kind }),
        )
        .await
    }

    /// What a task was about, when the task was cancelled before any worker took it.
    async fn never_began(&self, tx: &Tx, task: &Task) -> Result<()> {
        match (task.kind, Payload::of(task)?) {
            (TaskKind::Restore, Payload::Restore { restore_id }) => {
                self.restore_never_began(tx, restore_id, false).await
            }
            (TaskKind::Restore, Payload::NewEnvironment { restore_id }) => {
                self.restore_never_began(tx, restore_id, true).await
            }
            (TaskKind::VerifyBackup, Payload::Migration { migration_id }) => {
                self.migration_unread(tx, migration_id, "reading it was called off").await
            }
            (TaskKind::Backup, Payload::Backup { backup_id }) => {
                self.backup_ends(tx, backup_id, BackupStatus::Cancelled, EventKind::BackupCancelled).await
            }
            (TaskKind::DeleteBackup, Payload::Backup { backup_id }) => self.stays(tx, backup_id).await,
            _ => Ok(()),
        }
    }

    async fn restore_never_began(&self, tx: &Tx, id: RestoreId, makes: bool) -> Result<()> {
        let point = restore_points::get(tx, id).await?;
        let Some(mut point) = point.filter(|point| !point.status.is_final()) else { return Ok(()) };
        let before = point.status;
        point.status = RestoreStatus::Cancelled;
        point.completed_at = Some(self.now());
        restore_points::update(tx, &point, before).await?;
        if makes {
            let why = "its restore was called off before it began";
            self.environment_unmade(tx, point.target_environment_id, why).await?;
        }
        self.migration_settled(tx, &point).await?;
        // One that was handed back may have left its safety backup half-made; its worker has taken that back.
        if let Some(safety) = point.pre_restore_backup_id {
            self.backup_ends(tx, safety, BackupStatus::Cancelled, EventKind::BackupCancelled).await?;
        }
        self.tell(tx, restore_event(&point, EventKind::RestoreCancelled, json!({}))).await
    }

    async fn backup_ends(&self, tx: &Tx, id: BackupId, status: BackupStatus, kind: EventKind) -> Result<()> {
        let Some(mut backup) = backups::get(tx, id).await? else { return Ok(()) };
        let before = backup.status;
        if !before.may_become(status) {
            return Ok(());
        }
        backup.status = status;
        backups::update(tx, &backup, before).await?;
        self.tell(tx, backup_event(&backup, kind, json!({}))).await
    }

    /// A backup that is not removed after all is again what it was.
    pub(crate) async fn stays(&self, tx: &Tx, id: BackupId) -> Result<()> {
        let backup = backups::get(tx, id).await?;
        let Some(mut backup) = backup.filter(|backup| backup.status == BackupStatus::Deleting) else {
            return Ok(());
        };
        backup.status =
            if backup.completed_at.is_some() { BackupStatus::Completed } else { BackupStatus::Failed };
        backups::update(tx, &backup, BackupStatus::Deleting).await
    }

    /// A task, once it is over or the wait for that is.
    pub(crate) async fn task_settled(&self, id: TaskId) -> Result<Option<Task>> {
        let deadline = tokio::time::Instant::now() + self.settings.cancel_wait;
        loop {
            let task = tasks::get(&self.store, id).await?;
            let over = task.as_ref().is_none_or(|task| task.status.is_final());
            if over || tokio::time::Instant::now() >= deadline {
                return Ok(task);
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

/// An event about a restore, with what every one of them says.
pub(crate) fn restore_event(point: &RestorePoint, kind: EventKind, more: Value) -> NewEvent {
    let mut data = json!({
        "restore_id": point.id,
        "backup_id": point.backup_id,
        "environment_id": point.target_environment_id,
        "status": point.status,
        "progress": point.progress,
        "phase": point.phase,
    });
    extend(&mut data, more);
    NewEvent {
        organisation_id: point.organisation_id,
        project_id: Some(point.project_id),
        environment_id: Some(point.target_environment_id),
        kind,
        data,
    }
}

/// An event about a backup, with what every one of them says.
pub(crate) fn backup_event(backup: &Backup, kind: EventKind, more: Value) -> NewEvent {
    let mut data = json!({
        "backup_id": backup.id,
        "environment_id": backup.environment_id,
        "backup_type": backup.backup_type,
        "status": backup.status,
    });
    extend(&mut data, more);
    NewEvent {
        organisation_id: backup.organisation_id,
        project_id: Some(backup.project_id),
        environment_id: Some(backup.environment_id),
        kind,
        data,
    }
}

fn extend(data: &mut Value, more: Value) {
    if let (Value::Object(data), Value::Object(more)) = (data, more) {
        data.extend(more);
    }
}
