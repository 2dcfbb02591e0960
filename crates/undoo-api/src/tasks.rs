//! Tasks: work in the queue.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use undoo_core::{
    EnvironmentId, OrganisationId, ServerId, TaskId, UserId,
    platform::{StepEvent, StepLog, Task, TaskKind, TaskStatus},
};
use utoipa::{IntoParams, ToSchema};

use crate::list::{PageNumber, PageSize};

/// A piece of work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskResponse {
    /// Its id.
    pub id: TaskId,
    /// Whose it is.
    pub organization_id: OrganisationId,
    /// What is to be done.
    pub task_type: TaskKind,
    /// Where it stands.
    pub status: TaskStatus,
    /// Its id again, for those who look for it under this name.
    pub arq_job_id: String,
    /// Higher goes first.
    pub priority: i32,
    /// The environment that it changes.
    pub environment_id: Option<EnvironmentId>,
    /// The server that it works on.
    pub server_id: Option<ServerId>,
    /// How often a worker has taken it.
    pub attempts: i32,
    /// How often one may.
    pub max_attempts: i32,
    /// How far it is.
    #[schema(value_type = Option<Object>)]
    pub progress: Option<Value>,
    /// What came of it.
    #[schema(value_type = Option<Object>)]
    pub result: Option<Value>,
    /// What went wrong: thing, cause and next step.
    pub error_message: Option<String>,
    /// When it was asked for.
    pub create_date: Timestamp,
    /// Who asked for it.
    pub created_by: Option<UserId>,
    /// When a worker first took it.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub completed_at: Option<Timestamp>,
}

impl From<Task> for TaskResponse {
    fn from(task: Task) -> Self {
        Self {
            id: task.id,
            organization_id: task.organisation_id,
            task_type: task.kind,
            status: task.status,
            arq_job_id: task.id.to_string(),
            priority: task.priority,
            environment_id: task.environment_id,
            server_id: task.server_id,
            attempts: task.attempts,
            max_attempts: task.max_attempts,
            progress: task.progress,
            result: task.result,
            error_message: task.error,
            create_date: task.created_at,
            created_by: task.created_by,
            started_at: task.started_at,
            completed_at: task.finished_at,
        }
    }
}

/// Which of the tasks that the caller may see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TaskQuery {
    /// The organisation. It can be left out by who belongs to one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<OrganisationId>,
    /// Those about one environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<EnvironmentId>,
    /// Those that stand there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub status: Option<TaskStatus>,
    /// The number of the page, from 1.
    #[serde(default)]
    #[param(value_type = u64, minimum = 1, maximum = 1_000_000_000, default = 1)]
    pub page: PageNumber,
    /// How many items a page has.
    #[serde(default)]
    #[param(value_type = u64, minimum = 1, maximum = 100, default = 20)]
    pub page_size: PageSize,
}

/// A line of a task's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepLogResponse {
    /// Its place in the log, from 1.
    pub sequence: i32,
    /// The step.
    pub step: String,
    /// What happened.
    pub event: StepEvent,
    /// What the step answered, or why it failed.
    pub data: Value,
    /// When.
    pub create_date: Timestamp,
}

impl From<StepLog> for StepLogResponse {
    fn from(line: StepLog) -> Self {
        let StepLog { sequence, step, event, data, at, .. } = line;
        Self { sequence, step, event, data, create_date: at }
    }
}
