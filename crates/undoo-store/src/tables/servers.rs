//! The table of servers.

use undoo_core::{
    Problem, Result,
    platform::{Capacity, Server},
};

use crate::row::{maybe_time, micros, storable, time, word};

pub(crate) mod server {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "servers")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub organisation_id: Uuid,
        pub name: String,
        pub ip_address: Option<String>,
        pub ssh_port: Option<i32>,
        pub ssh_user: Option<String>,
        pub host_key: Option<String>,
        pub sealed: Option<Vec<u8>>,
        pub cpu_cores: Option<i32>,
        pub memory_gb: Option<i32>,
        pub disk_gb: Option<i32>,
        pub cpu_cores_limit: Option<i32>,
        pub memory_gb_limit: Option<i32>,
        pub disk_gb_limit: Option<i32>,
        pub free_disk_gb: Option<i32>,
        pub docker_version: Option<String>,
        pub status: String,
        pub checked_at: Option<i64>,
        pub unreachable_since: Option<i64>,
        pub last_problem: Option<String>,
        pub draining: bool,
        pub task_limit: i32,
        pub created_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

impl From<&Server> for server::Model {
    fn from(of: &Server) -> Self {
        Self {
            id: of.id.uuid(),
            organisation_id: of.organisation_id.uuid(),
            name: of.name.clone(),
            ip_address: of.ip_address.clone(),
            ssh_port: of.ssh_port,
            ssh_user: of.ssh_user.clone(),
            host_key: of.host_key.clone(),
            sealed: of.sealed.clone(),
            cpu_cores: of.has.cpu_cores,
            memory_gb: of.has.memory_gb,
            disk_gb: of.has.disk_gb,
            cpu_cores_limit: of.limit.cpu_cores,
            memory_gb_limit: of.limit.memory_gb,
            disk_gb_limit: of.limit.disk_gb,
            free_disk_gb: of.free_disk_gb,
            docker_version: of.docker_version.clone(),
            status: of.status.to_string(),
            checked_at: of.checked_at.map(micros),
            unreachable_since: of.unreachable_since.map(micros),
            last_problem: of.last_problem.as_deref().map(storable),
            draining: of.draining,
            task_limit: of.task_limit,
            created_at: micros(of.created_at),
        }
    }
}

impl TryFrom<server::Model> for Server {
    type Error = Problem;

    fn try_from(row: server::Model) -> Result<Self> {
        Ok(Self {
            id: row.id.into(),
            organisation_id: row.organisation_id.into(),
            name: row.name,
            ip_address: row.ip_address,
            ssh_port: row.ssh_port,
            ssh_user: row.ssh_user,
            host_key: row.host_key,
            sealed: row.sealed,
            has: Capacity { cpu_cores: row.cpu_cores, memory_gb: row.memory_gb, disk_gb: row.disk_gb },
            limit: Capacity {
                cpu_cores: row.cpu_cores_limit,
                memory_gb: row.memory_gb_limit,
                disk_gb: row.disk_gb_limit,
            },
            free_disk_gb: row.free_disk_gb,
            docker_version: row.docker_version,
            status: word("status", &row.status)?,
            checked_at: maybe_time("checked_at", row.checked_at)?,
            unreachable_since: maybe_time("unreachable_since", row.unreachable_since)?,
            last_problem: row.last_problem,
            draining: row.draining,
            task_limit: row.task_limit,
            created_at: time("created_at", row.created_at)?,
        })
    }
}
