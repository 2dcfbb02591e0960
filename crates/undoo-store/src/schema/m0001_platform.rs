//! The first tables: people, environments, backups, restores, the queue, events, the audit log.
//!
//! JSON is text, since nothing in SQL looks into it: what is read is what was written, to the byte.
//! Lists are read newest first, within an environment, a project or an organisation: so are the indexes.

use sea_orm_migration::{prelude::*, schema::*};

use super::words::{FORGETS, GONE_WITH, KEEPS, Said, index, index_where, table, unique};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let tables = [people(), sign_in(), places(), backups(), queue(), restores(), logs(), kept()];
        for table in tables.into_iter().flatten() {
            manager.create_table(table).await?;
        }
        for index in indexes().into_iter().chain(queue_indexes()) {
            manager.create_index(index).await?;
        }
        Ok(())
    }
}

fn people() -> Vec<TableCreateStatement> {
    vec![
        table(
            "users",
            [
                pk_uuid("id"),
                text("email"),
                text("name"),
                text_null("password_hash"),
                boolean("portal_admin"),
                big_integer_null("disabled_at"),
                big_integer("created_at"),
            ],
        ),
        table("organisations", [pk_uuid("id"), text("name"), big_integer("created_at")]),
        table("projects", [pk_uuid("id"), uuid("organisation_id"), text("name"), big_integer("created_at")])
            .refers("organisation_id", "organisations", GONE_WITH),
        table("organisation_members", [uuid("organisation_id"), uuid("user_id"), text("role")])
            .key(["organisation_id", "user_id"])
            .refers("organisation_id", "organisations", GONE_WITH)
            .refers("user_id", "users", GONE_WITH),
        table(
            "project_members",
            [uuid("organisation_id"), uuid("project_id"), uuid("user_id"), text("role")],
        )
        .key(["project_id", "user_id"])
        .refers("organisation_id", "organisations", GONE_WITH)
        .refers("project_id", "projects", GONE_WITH)
        .refers("user_id", "users", GONE_WITH),
    ]
}

fn sign_in() -> Vec<TableCreateStatement> {
    vec![
        table("sessions", [blob("hash"), uuid("user_id"), big_integer("expires_at")])
            .key(["hash"])
            .refers("user_id", "users", GONE_WITH),
        table(
            "tokens",
            [
                pk_uuid("id"),
                blob("hash"),
                uuid("user_id"),
                text("name"),
                uuid_null("organisation_id"),
                text_null("scopes"),
                big_integer("created_at"),
                big_integer_null("expires_at"),
                big_integer_null("revoked_at"),
                big_integer_null("last_used_at"),
            ],
        )
        .refers("user_id", "users", GONE_WITH)
        .refers("organisation_id", "organisations", GONE_WITH),
        table("links", [blob("hash"), text("purpose"), uuid_null("user_id"), big_integer("expires_at")])
            .key(["hash"])
            .refers("user_id", "users", GONE_WITH),
    ]
}

fn places() -> Vec<TableCreateStatement> {
    vec![
        table(
            "servers",
            [
                pk_uuid("id"),
                uuid("organisation_id"),
                text("name"),
                text_null("ip_address"),
                integer_null("cpu_cores"),
                integer_null("memory_gb"),
                integer_null("disk_gb"),
                text("status"),
                integer("task_limit"),
                big_integer("created_at"),
            ],
        )
        .refers("organisation_id", "organisations", GONE_WITH),
        table(
            "storages",
            [
                pk_uuid("id"),
                uuid("organisation_id"),
                text("name"),
                text("provider"),
                text("shown"),
                blob("sealed"),
                boolean("is_default"),
                big_integer("created_at"),
            ],
        )
        .refers("organisation_id", "organisations", GONE_WITH),
        table(
            "environments",
            [
                pk_uuid("id"),
                uuid("organisation_id"),
                uuid("project_id"),
                text("name"),
                text("environment_type"),
                text("status"),
                uuid_null("server_id"),
                text_null("container"),
                text_null("database_name"),
                text_null("odoo_version"),
                text_null("odoo_image"),
                text_null("postgres_version"),
                text_null("domain"),
                integer_null("cpu_cores"),
                integer_null("ram_mb"),
                integer_null("disk_gb"),
                uuid_null("storage_id"),
                uuid_null("created_by"),
                big_integer("created_at"),
                big_integer_null("deleted_at"),
            ],
        )
        .refers("organisation_id", "organisations", GONE_WITH)
        .refers("project_id", "projects", GONE_WITH)
        .refers("server_id", "servers", KEEPS)
        .refers("storage_id", "storages", FORGETS)
        .refers("created_by", "users", FORGETS),
    ]
}

/// What they say about their task refers to nothing: tasks are removed one day, what they made is not.
fn backups() -> Vec<TableCreateStatement> {
    vec![
        table(
            "backups",
            [
                pk_uuid("id"),
                uuid("organisation_id"),
                uuid("project_id"),
                uuid("environment_id"),
                uuid_null("storage_id"),
                text_null("key"),
                text("status"),
                text("backup_type"),
                text_null("description"),
                boolean("include_filestore"),
                big_integer_null("size_bytes"),
                big_integer_null("database_size_bytes"),
                big_integer_null("filestore_size_bytes"),
                boolean("is_verified"),
                text_null("environment_snapshot"),
                text_null("error_message"),
                uuid_null("task_id"),
                uuid_null("created_by"),
                big_integer("created_at"),
                big_integer_null("completed_at"),
            ],
        )
        .refers("organisation_id", "organisations", GONE_WITH)
        .refers("project_id", "projects", GONE_WITH)
        .refers("environment_id", "environments", GONE_WITH)
        .refers("storage_id", "storages", FORGETS)
        .refers("created_by", "users", FORGETS),
    ]
}

fn restores() -> Vec<TableCreateStatement> {
    vec![
        table(
            "restore_points",
            [
                pk_uuid("id"),
                uuid("organisation_id"),
                uuid("project_id"),
                uuid("backup_id"),
                uuid("source_environment_id"),
                uuid("target_environment_id"),
                uuid_null("target_server_id"),
                text("mode"),
                text("options"),
                text("status"),
                text_null("phase"),
                integer("progress"),
                uuid_null("task_id"),
                uuid_null("pre_restore_backup_id"),
                big_integer_null("started_at"),
                big_integer_null("completed_at"),
                text_null("error_message"),
                text_null("error_step"),
                text("findings"),
                text_null("held"),
                text_null("report"),
                big_integer_null("undo_until"),
                big_integer("created_at"),
                uuid_null("created_by"),
            ],
        )
        .refers("organisation_id", "organisations", GONE_WITH)
        .refers("project_id", "projects", GONE_WITH)
        .refers("backup_id", "backups", GONE_WITH)
        .refers("source_environment_id", "environments", GONE_WITH)
        .refers("target_environment_id", "environments", GONE_WITH)
        .refers("target_server_id", "servers", FORGETS)
        .refers("pre_restore_backup_id", "backups", FORGETS)
        .refers("created_by", "users", FORGETS),
    ]
}

fn queue() -> Vec<TableCreateStatement> {
    vec![
        table(
            "tasks",
            [
                pk_uuid("id"),
                uuid("organisation_id"),
                text("kind"),
                text("status"),
                integer("priority"),
                uuid_null("environment_id"),
                uuid_null("server_id"),
                text("payload"),
                integer("attempts"),
                integer("max_attempts"),
                big_integer("epoch"),
                text_null("worker"),
                big_integer_null("lease_until"),
                big_integer("run_after"),
                text_null("progress"),
                text_null("result"),
                text_null("error"),
                uuid_null("created_by"),
                big_integer("created_at"),
                big_integer_null("started_at"),
                big_integer_null("finished_at"),
            ],
        )
        .refers("organisation_id", "organisations", GONE_WITH)
        .refers("environment_id", "environments", GONE_WITH)
        .refers("server_id", "servers", KEEPS)
        .refers("created_by", "users", FORGETS),
        table(
            "steps",
            [
                uuid("task_id"),
                integer("sequence"),
                text("step"),
                text("event"),
                text("data"),
                big_integer("epoch"),
                big_integer("at"),
            ],
        )
        .key(["task_id", "sequence"])
        .refers("task_id", "tasks", GONE_WITH),
    ]
}

/// What happened outlives what it happened to: these refer to nothing but the organisation.
fn logs() -> Vec<TableCreateStatement> {
    vec![
        table(
            "events",
            [
                uuid("organisation_id"),
                big_integer("sequence"),
                uuid_null("project_id"),
                uuid_null("environment_id"),
                text("kind"),
                text("data"),
                big_integer("at"),
            ],
        )
        .key(["organisation_id", "sequence"])
        .refers("organisation_id", "organisations", GONE_WITH),
        table("event_sequences", [uuid("organisation_id"), big_integer("last")])
            .key(["organisation_id"])
            .refers("organisation_id", "organisations", GONE_WITH),
        table(
            "audit_entries",
            [
                uuid("organisation_id"),
                big_integer("sequence"),
                uuid_null("actor"),
                text("action"),
                text("object"),
                text("data"),
                big_integer("at"),
                blob("hash"),
            ],
        )
        .key(["organisation_id", "sequence"])
        .refers("organisation_id", "organisations", GONE_WITH),
        table("audit_heads", [uuid("organisation_id"), big_integer("sequence"), blob("hash")])
            .key(["organisation_id"])
            .refers("organisation_id", "organisations", GONE_WITH),
    ]
}

fn kept() -> Vec<TableCreateStatement> {
    vec![
        table(
            "requests",
            [uuid("user_id"), text("key"), blob("request_hash"), uuid_null("object"), big_integer("at")],
        )
        .key(["user_id", "key"])
        .refers("user_id", "users", GONE_WITH),
        table("settings", [text("name"), blob("value")]).key(["name"]),
    ]
}

fn indexes() -> Vec<IndexCreateStatement> {
    vec![
        unique(index("users_email", "users", ["email"])),
        unique(index("organisations_name", "organisations", ["name"])),
        unique(index("projects_name", "projects", ["organisation_id", "name"])),
        index("organisation_members_user", "organisation_members", ["user_id"]),
        index("project_members_user", "project_members", ["user_id"]),
        index("project_members_organisation", "project_members", ["organisation_id", "user_id"]),
        index("sessions_user", "sessions", ["user_id"]),
        index("sessions_end", "sessions", ["expires_at"]),
        unique(index("tokens_hash", "tokens", ["hash"])),
        index("tokens_user", "tokens", ["user_id", "-created_at", "-id"]),
        unique(index("servers_name", "servers", ["organisation_id", "name"])),
        unique(index("storages_name", "storages", ["organisation_id", "name"])),
        unique(index_where("storages_default", "storages", ["organisation_id"], "is_default")),
        unique(index_where(
            "environments_name",
            "environments",
            ["project_id", "name"],
            "deleted_at IS NULL",
        )),
        unique(index_where(
            "environments_container",
            "environments",
            ["server_id", "container", "database_name"],
            "deleted_at IS NULL",
        )),
        index_where(
            "environments_organisation",
            "environments",
            ["organisation_id", "-created_at", "-id"],
            "deleted_at IS NULL",
        ),
        index_where(
            "environments_project",
            "environments",
            ["project_id", "organisation_id", "-created_at", "-id"],
            "deleted_at IS NULL",
        ),
        index("backups_environment", "backups", ["environment_id", "-created_at", "-id"]),
        index("backups_project", "backups", ["project_id", "organisation_id", "-created_at", "-id"]),
        index("backups_organisation", "backups", ["organisation_id", "-created_at", "-id"]),
        index_where("backups_storage", "backups", ["storage_id"], "storage_id IS NOT NULL"),
        index("restore_points_target", "restore_points", ["target_environment_id", "-created_at", "-id"]),
        index("restore_points_backup", "restore_points", ["backup_id"]),
        index_where("restore_points_undo", "restore_points", ["undo_until"], "undo_until IS NOT NULL"),
        index_where("restore_points_stuck", "restore_points", ["created_at"], "status = 'stuck'"),
        index("events_at", "events", ["at"]),
        index("requests_at", "requests", ["at"]),
    ]
}

/// The claim reads the first three, in this order; the fourth is the promise that one task at a time is active
/// on an environment.
fn queue_indexes() -> Vec<IndexCreateStatement> {
    let held = "status IN ('running', 'cancelling')";
    let active = "status IN ('queued', 'running', 'cancelling')";
    vec![
        index_where("tasks_leased", "tasks", ["lease_until"], held),
        index_where("tasks_on_server", "tasks", ["server_id"], held),
        index_where("tasks_queued", "tasks", ["-priority", "created_at", "id"], "status = 'queued'"),
        unique(index_where("tasks_active_environment", "tasks", ["environment_id"], active)),
        index_where("tasks_stuck", "tasks", ["created_at"], "status = 'stuck'"),
        index("tasks_environment", "tasks", ["environment_id", "-created_at", "-id"]),
        index("tasks_organisation", "tasks", ["organisation_id", "-created_at", "-id"]),
    ]
}
