//! Servers: how they are added, shown, tried and changed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use undoo_core::{
    Kind, OrganisationId, ServerId,
    platform::{Server, ServerStatus},
};
use utoipa::ToSchema;

use crate::{bounds, secret::Secret};

/// A server with a Docker Engine, without what is secret of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerResponse {
    /// Its id.
    pub id: ServerId,
    /// Whose it is.
    pub organization_id: OrganisationId,
    /// Its name.
    pub name: String,
    /// Where it is; `null` for the machine that the worker runs on.
    pub ip_address: Option<String>,
    /// The port of its SSH server; `null` for 22.
    #[serde(default)]
    pub ssh_port: Option<i32>,
    /// Who logs in there.
    #[serde(default)]
    pub ssh_user: Option<String>,
    /// The host key that a person has confirmed.
    #[serde(default)]
    pub host_key: Option<String>,
    /// Its cores.
    pub cpu_cores: Option<i32>,
    /// Its memory, in GiB.
    pub memory_gb: Option<i32>,
    /// Its disk, in GiB.
    pub disk_gb: Option<i32>,
    /// What of its disk was free when it was last looked at, in GiB.
    #[serde(default)]
    pub free_disk_gb: Option<i32>,
    /// Cores that environments may have of it; `null` for all.
    #[serde(default)]
    pub cpu_cores_limit: Option<i32>,
    /// Memory that environments may have of it, in GiB; `null` for all.
    #[serde(default)]
    pub memory_gb_limit: Option<i32>,
    /// Disk that environments may have of it, in GiB; `null` for all.
    #[serde(default)]
    pub disk_gb_limit: Option<i32>,
    /// Version of its Docker Engine.
    #[serde(default)]
    pub docker_version: Option<String>,
    /// How it was when it was last looked at.
    pub status: ServerStatus,
    /// When it was last looked at.
    #[serde(default)]
    pub checked_at: Option<Timestamp>,
    /// Since when it does not answer; `null` while it does.
    #[serde(default)]
    pub unreachable_since: Option<Timestamp>,
    /// Why it did not answer when it was last looked at, and what can be done about it.
    #[serde(default)]
    pub last_problem: Option<String>,
    /// Whether nothing new is put on it. What is on it can be backed up, restored and moved.
    #[serde(default)]
    pub draining: bool,
    /// Restores and backups that may run on it side by side.
    pub task_limit: i32,
    /// When it was added.
    pub create_date: Timestamp,
}

impl From<Server> for ServerResponse {
    fn from(server: Server) -> Self {
        Self {
            id: server.id,
            organization_id: server.organisation_id,
            name: server.name,
            ip_address: server.ip_address,
            ssh_port: server.ssh_port,
            ssh_user: server.ssh_user,
            host_key: server.host_key,
            cpu_cores: server.has.cpu_cores,
            memory_gb: server.has.memory_gb,
            disk_gb: server.has.disk_gb,
            free_disk_gb: server.free_disk_gb,
            cpu_cores_limit: server.limit.cpu_cores,
            memory_gb_limit: server.limit.memory_gb,
            disk_gb_limit: server.limit.disk_gb,
            docker_version: server.docker_version,
            status: server.status,
            checked_at: server.checked_at,
            unreachable_since: server.unreachable_since,
            last_problem: server.last_problem,
            draining: server.draining,
            task_limit: server.task_limit,
            create_date: server.created_at,
        }
    }
}

/// How a server is reached by SSH. It takes a password or a private key.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SshLogin {
    /// Its name or address.
    #[serde(deserialize_with = "bounds::visible::<_, 253>")]
    #[schema(pattern = "^[!-~]{1,253}$", example = "192.168.1.100")]
    pub host: String,
    /// The port of its SSH server; 22 without one.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_number::<_, _, 1, 65535>"
    )]
    #[schema(minimum = 1, maximum = 65535)]
    pub port: Option<u16>,
    /// Who logs in there. That user may use Docker.
    #[serde(deserialize_with = "bounds::text::<_, 255>")]
    #[schema(min_length = 1, max_length = 255, example = "root")]
    pub user: String,
    /// The password to log in with, tried after the key if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The private key to log in with, in OpenSSH's format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<Secret>,
    /// What the private key is encrypted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<Secret>,
    /// The server's host key, once a person has confirmed it: its fingerprint, as the test of the server
    /// shows it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_text::<_, 1024>"
    )]
    #[schema(min_length = 1, max_length = 1024)]
    pub host_key: Option<String>,
}

/// Adding a server. It is reached first, and added only if it answers.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateServerRequest {
    /// Whose it will be.
    pub organization_id: OrganisationId,
    /// Its name, unique in the organisation.
    #[serde(deserialize_with = "bounds::name")]
    #[schema(value_type = bounds::Name, example = "Frankfurt 1")]
    pub name: String,
    /// How it is reached; the machine that the workers run on without it, which takes a portal admin.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "bounds::some_object")]
    pub ssh: Option<SshLogin>,
    /// Cores that environments may have of it; all that there is without it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_number::<_, _, 1, 2_147_483_647>"
    )]
    #[schema(minimum = 1, maximum = 2_147_483_647)]
    pub cpu_cores_limit: Option<i32>,
    /// Memory that environments may have of it, in GiB; all that there is without it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_number::<_, _, 1, 2_147_483_647>"
    )]
    #[schema(minimum = 1, maximum = 2_147_483_647)]
    pub memory_gb_limit: Option<i32>,
    /// Disk that environments may have of it, in GiB; all that there is without it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_number::<_, _, 1, 2_147_483_647>"
    )]
    #[schema(minimum = 1, maximum = 2_147_483_647)]
    pub disk_gb_limit: Option<i32>,
    /// Restores and backups that may run on it side by side; with 0 they wait.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_number::<_, _, 0, 1000>"
    )]
    #[schema(minimum = 0, maximum = 1000)]
    pub task_limit: Option<i32>,
}

/// Reaching a server, without keeping anything of it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerTestRequest {
    /// For whom.
    pub organization_id: OrganisationId,
    /// How it is reached; the machine that the workers run on without it, which takes a portal admin.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "bounds::some_object")]
    pub ssh: Option<SshLogin>,
}

/// Changes to how a server is reached. What is left out stays as it is; for another host, port or user, what to
/// log in with has to be given again.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SshPatch {
    /// Its name or address.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_visible::<_, 253>"
    )]
    #[schema(pattern = "^[!-~]{1,253}$")]
    pub host: Option<String>,
    /// The port of its SSH server.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_number::<_, _, 1, 65535>"
    )]
    #[schema(minimum = 1, maximum = 65535)]
    pub port: Option<u16>,
    /// Who logs in there.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_text::<_, 255>"
    )]
    #[schema(min_length = 1, max_length = 255)]
    pub user: Option<String>,
    /// The password to log in with. With it or a key, all that was there to log in with is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The private key to log in with, in OpenSSH's format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<Secret>,
    /// What the private key is encrypted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<Secret>,
    /// The server's host key, once a person has confirmed it: its fingerprint, as the test of the server
    /// shows it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_text::<_, 1024>"
    )]
    #[schema(min_length = 1, max_length = 1024)]
    pub host_key: Option<String>,
}

/// Changes to a server. What is left out stays as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerPatch {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "bounds::some_name")]
    #[schema(value_type = Option<bounds::Name>)]
    pub name: Option<String>,
    /// How it is reached.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "bounds::some_object")]
    pub ssh: Option<SshPatch>,
    /// Cores that environments may have of it; `null` for all that there is.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::present_number::<_, _, 1, 2_147_483_647>"
    )]
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 2_147_483_647)]
    pub cpu_cores_limit: Option<Option<i32>>,
    /// Memory that environments may have of it, in GiB; `null` for all that there is.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::present_number::<_, _, 1, 2_147_483_647>"
    )]
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 2_147_483_647)]
    pub memory_gb_limit: Option<Option<i32>>,
    /// Disk that environments may have of it, in GiB; `null` for all that there is.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::present_number::<_, _, 1, 2_147_483_647>"
    )]
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 2_147_483_647)]
    pub disk_gb_limit: Option<Option<i32>>,
    /// Restores and backups that may run on it side by side; with 0 they wait.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounds::some_number::<_, _, 0, 1000>"
    )]
    #[schema(minimum = 0, maximum = 1000)]
    pub task_limit: Option<i32>,
    /// Whether nothing new is to be put on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining: Option<bool>,
}

/// What a server has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerFacts {
    /// Version of its Docker Engine.
    pub docker_version: String,
    /// Its cores.
    pub cpu_cores: i32,
    /// Its memory, in GiB.
    pub memory_gb: i32,
    /// The disk that its engine keeps everything on, in GiB.
    pub disk_gb: Option<i32>,
    /// What of it is free, in GiB.
    pub free_disk_gb: Option<i32>,
    /// Ports of it that containers have taken.
    pub ports_taken: Vec<u16>,
}

/// What the test of a server came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerTestResponse {
    /// Whether it can be added like that.
    pub ok: bool,
    /// What it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<ServerFacts>,
    /// Of one that cannot: what sort of problem it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Of one that cannot: the stable code of the cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "host_key_unknown")]
    pub code: Option<String>,
    /// Of one that cannot: what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Of one that cannot: what to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The host key that the server showed, where that is what has to be confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_key: Option<String>,
}
