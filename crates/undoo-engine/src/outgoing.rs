//! What a restored database must not send: held mail and crons, neutralized copies, new identities.
//!
//! All of it happens in the staged database, before any Odoo has seen it. A recovered production would
//! otherwise send again whatever waited when the dump was made; a copy would mail real customers under
//! production's identity.

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use undoo_core::Result;

use crate::pg;

/// Crons that come due within this many minutes are held too: the cutover is still ahead of them.
const HELD_AHEAD_MINUTES: i32 = 15;

/// A mail or cron that is held until a person releases it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Row id.
    pub id: i64,
    /// The mail's recipients or the cron's name.
    pub what: String,
}

/// Everything that is held in a database.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldOutgoing {
    /// Rows of `mail_mail` that were `outgoing`.
    pub mails: Vec<Held>,
    /// Rows of `ir_cron` that were due.
    pub crons: Vec<Held>,
}

impl HeldOutgoing {
    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.mails.is_empty() && self.crons.is_empty()
    }
}

/// Holds queued mail and due crons: mail is cancelled with a reason, crons are deactivated.
///
/// # Errors
/// When the database refuses.
pub async fn hold(client: &Client) -> Result<HeldOutgoing> {
    let doing = pg::failed("holding outgoing mail and crons");
    let mut held = HeldOutgoing::default();
    if has_column(client, "mail_mail", "state").await? {
        let rows = client
            .query(
                "UPDATE public.mail_mail SET state = 'cancel', failure_reason = 'held by undoo' \
                 WHERE state = 'outgoing' RETURNING id::bigint, coalesce(email_to, '')::text",
                &[],
            )
            .await
            .map_err(&doing)?;
        held.mails = rows.iter().map(|row| Held { id: row.get(0), what: row.get(1) }).collect();
    }
    if has_column(client, "ir_cron", "nextcall").await? {
        let sql = format!(
            "UPDATE public.ir_cron SET active = false WHERE active \
             AND nextcall <= (now() AT TIME ZONE 'UTC') + interval '{HELD_AHEAD_MINUTES} minutes' \
             RETURNING id::bigint, coalesce({}, id::text)::text",
            cron_name(client).await?
        );
        let rows = client.query(&sql, &[]).await.map_err(&doing)?;
        held.crons = rows.iter().map(|row| Held { id: row.get(0), what: row.get(1) }).collect();
    }
    Ok(held)
}

async fn cron_name(client: &Client) -> Result<&'static str> {
    Ok(if has_column(client, "ir_cron", "cron_name").await? { "cron_name" } else { "NULL" })
}

/// Lets go what [`hold`] held; rows that someone changed since are left as they are.
///
/// # Errors
/// When the database refuses; nothing is released then.
pub async fn release(client: &mut Client, held: &HeldOutgoing) -> Result<(u64, u64)> {
    let doing = pg::failed("releasing outgoing mail and crons");
    let ids = |rows: &[Held]| rows.iter().map(|row| row.id).collect::<Vec<i64>>();
    let transaction = client.transaction().await.map_err(&doing)?;
    let mut released = (0, 0);
    if !held.mails.is_empty() {
        released.0 = transaction
            .execute(
                "UPDATE public.mail_mail SET state = 'outgoing', failure_reason = NULL \
                 WHERE id::bigint = ANY($1) AND state = 'cancel' AND failure_reason = 'held by undoo'",
                &[&ids(&held.mails)],
            )
            .await
            .map_err(&doing)?;
    }
    if !held.crons.is_empty() {
        released.1 = transaction
            .execute(
                "UPDATE public.ir_cron SET active = true WHERE id::bigint = ANY($1) AND NOT active",
                &[&ids(&held.crons)],
            )
            .await
            .map_err(&doing)?;
    }
    transaction.commit().await.map_err(&doing)?;
    Ok(released)
}

/// Does in SQL what Odoo's own `neutralize` does from version 16 on, for those that have none: mail
/// servers off and a dummy one in their place, crons off but the vacuum, carriers and payments to test.
///
/// # Errors
/// When the database refuses.
pub async fn neutralize_legacy(client: &Client) -> Result<()> {
    let doing = pg::failed("neutralizing the copy");
    let mut sql = String::from("BEGIN;");
    if has_column(client, "ir_mail_server", "active").await? {
        // Required since Odoo 15.
        let required = has_column(client, "ir_mail_server", "smtp_authentication").await?;
        let (column, value) = if required { (", smtp_authentication", ", 'login'") } else { ("", "") };
        sql += &format!(
            "UPDATE public.ir_mail_server SET active = false; INSERT INTO public.ir_mail_server \
             (name, smtp_host, smtp_port, smtp_encryption, active, sequence{column}) \
             VALUES ('neutralization - disable emails', 'invalid', 25, 'none', true, 0{value});"
        );
    }
    if has_column(client, "fetchmail_server", "active").await? {
        sql += "UPDATE public.fetchmail_server SET active = false;";
    }
    if has_column(client, "ir_cron", "active").await? {
        sql += "UPDATE public.ir_cron SET active = false WHERE id NOT IN (SELECT res_id FROM \
                public.ir_model_data WHERE model = 'ir.cron' AND module = 'base' AND name = 'autovacuum_job');";
    }
    for (table, column, value) in [
        ("payment_acquirer", "state", "'disabled'"),
        ("payment_provider", "state", "'disabled'"),
        ("delivery_carrier", "prod_environment", "false"),
        ("iap_account", "account_token", "'+disabled'"),
    ] {
        if has_column(client, table, column).await? {
            sql += &format!("UPDATE public.{table} SET {column} = {value} WHERE {column} IS NOT NULL;");
        }
    }
    sql += &set_parameter("database.is_neutralized", "true");
    sql += "COMMIT";
    client.batch_execute(&sql).await.map_err(&doing)
}

/// Parameters of the target that a copy takes over, so that it does not speak of itself as its source.
const OF_THE_TARGET: [&str; 3] = ["web.base.url", "web.base.url.freeze", "report.url"];

/// Gives a copy an identity of its own: new `database.uuid` and `database.secret`, no enterprise code,
/// and the target's own URLs where it has a live database.
///
/// # Errors
/// When either database refuses.
pub async fn renew_identity(staged: &Client, live: Option<&Client>) -> Result<()> {
    let doing = pg::failed("giving the copy an identity of its own");
    let mut sql = String::from("BEGIN;");
    for key in ["database.uuid", "database.secret"] {
        sql += &set_parameter(key, &new_uuid());
    }
    sql += "UPDATE public.ir_config_parameter SET value = to_char(now() AT TIME ZONE 'UTC', \
            'YYYY-MM-DD HH24:MI:SS') WHERE key = 'database.create_date';";
    sql += "DELETE FROM public.ir_config_parameter WHERE key LIKE 'database.enterprise_code' \
            OR key LIKE 'database.expiration_%';";
    for key in OF_THE_TARGET {
        let value: Option<String> = match live {
            Some(live) => live
                .query_opt("SELECT value FROM public.ir_config_parameter WHERE key = $1", &[&key])
                .await
                .map_err(&doing)?
                .and_then(|row| row.get(0)),
            None => None,
        };
        sql += &match value {
            Some(value) => set_parameter(key, &value),
            None if key == "web.base.url" => set_parameter(key, "http://localhost:8069"),
            None => format!("DELETE FROM public.ir_config_parameter WHERE key = {};", pg::literal(key)),
        };
    }
    sql += "COMMIT";
    staged.batch_execute(&sql).await.map_err(&doing)
}

fn new_uuid() -> String {
    undoo_core::RestoreId::generate().to_string()
}

fn set_parameter(key: &str, value: &str) -> String {
    let (key, value) = (pg::literal(key), pg::literal(value));
    format!(
        "DELETE FROM public.ir_config_parameter WHERE key = {key}; \
         INSERT INTO public.ir_config_parameter (key, value, create_date, write_date) \
         VALUES ({key}, {value}, now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC');"
    )
}

async fn has_column(client: &Client, table: &str, column: &str) -> Result<bool> {
    let row = client
        .query_one(
            "SELECT EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass('public.' || $1) \
             AND attname = $2 AND NOT attisdropped)",
            &[&table, &column],
        )
        .await
        .map_err(pg::failed("looking at a table"))?;
    Ok(row.get(0))
}
