//! The pairs that restores keep on a target: what there is, what an undo would lose, what is removed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use undoo_core::{Kind, Problem, Result, Side, pair};

use crate::{
    backup::kept,
    files,
    home::Home,
    order::Target,
    pg::{self, ident},
    record::{self, Record, State},
    stage,
};

/// Rows of one table that were written since a cutover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenSince {
    /// Table.
    pub table: String,
    /// Rows whose `create_date` is later.
    pub created: i64,
    /// Rows that are older and whose `write_date` is later.
    pub changed: i64,
}

/// What an undo would take out of sight: rows written to the live database since the last cutover, most
/// first. Tables without Odoo's dates are not looked at.
///
/// # Errors
/// When the live database cannot be read.
pub async fn written_since(target: &Target, since: Timestamp) -> Result<Vec<WrittenSince>> {
    let client = target.admin.connect(&target.database).await?;
    let doing = pg::failed("counting what was written since the cutover");
    let tables = client
        .query(
            "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind = 'r' AND n.nspname = 'public' AND EXISTS (SELECT 1 FROM pg_attribute a \
             WHERE a.attrelid = c.oid AND attname = 'create_date' AND atttypid = 'timestamp'::regtype) \
             AND EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid \
             AND attname = 'write_date' AND atttypid = 'timestamp'::regtype) ORDER BY 1",
            &[],
        )
        .await
        .map_err(&doing)?;
    let since = pg::literal(&since.strftime("%Y-%m-%d %H:%M:%S").to_string());
    let mut written = Vec::new();
    for tables in tables.chunks(100) {
        let selects: Vec<String> = tables
            .iter()
            .map(|row| {
                let table: String = row.get(0);
                format!(
                    "SELECT {}, count(*) FILTER (WHERE create_date > {since}), \
                     count(*) FILTER (WHERE write_date > {since} AND create_date <= {since}) FROM public.{} \
                     WHERE create_date > {since} OR write_date > {since}",
                    pg::literal(&table),
                    ident(&table)
                )
            })
            .collect();
        let rows = client.query(&selects.join(" UNION ALL "), &[]).await.map_err(&doing)?;
        written.extend(
            rows.iter()
                .map(|row| WrittenSince { table: row.get(0), created: row.get(1), changed: row.get(2) })
                .filter(|row| row.created + row.changed > 0),
        );
    }
    written.sort_by_key(|row| std::cmp::Reverse(row.created + row.changed));
    Ok(written)
}

/// Removes the side that is not live, with its database, directory and roles.
///
/// # Errors
/// `Conflict` while a cutover is under way. The caller holds the target's lock.
pub async fn purge(target: &Target, home: &Home, record: &mut Record) -> Result<()> {
    let parked: &[Side] = match record.state {
        State::Live { side: Side::Restored } => &[Side::Replaced],
        State::Live { side: Side::Replaced } => &[Side::Restored],
        State::Staging | State::Staged => &[Side::Restored],
        State::Purged => &[],
        State::Swapping { .. } => {
            return Err(Problem::new(
                Kind::Conflict,
                "cutover_unfinished",
                format!("restore {} broke off in its cutover: which pair stays is not decided", record.id),
                "run `undoo undo` or the restore again first",
            ));
        }
    };
    record.epoch += 1;
    match record.write(home) {
        // What is removed here is what makes room. The lock keeps everyone else away meanwhile, and a
        // pair whose database is gone is no way back, whatever its record says.
        Err(problem) if problem.code == "disk_full" => {}
        written => written?,
    }
    let mut names = vec![pair::proof_database(&record.id)];
    names.extend(parked.iter().map(|side| pair::parked_database(&record.id, *side)));
    let server = target.admin.connect("postgres").await?;
    for name in &names {
        stage::drop_database(&server, target, name).await?;
    }
    stage::drop_idle_roles(&server).await?;
    for side in parked {
        crate::home::remove_tree(&home.parked(&record.id, *side))?;
    }
    crate::home::remove_tree(&home.proof(&record.id))?;
    if matches!(record.state, State::Staging | State::Staged) {
        return home.remove(&record.id);
    }
    record.advance(home, State::Purged)
}

/// Settles what runs that died have left: half-staged pairs are removed. Pairs in mid-cutover are left
/// for the caller, who must say which way they go: see [`unfinished`].
///
/// # Errors
/// As [`purge`]. The caller holds the target's lock, so that what looks like staging is dead.
pub async fn sweep(target: &Target, home: &Home) -> Result<()> {
    kept::close_left(target).await?;
    for id in home.restores()? {
        match Record::read(home, &id)? {
            // Databases share the directory, and each has a lock of its own: another one's may be at work.
            None if home.database(&id)?.is_some_and(|database| database != target.database) => {}
            None => {
                crate::home::remove_tree(&home.restore(&id).join(files::STAGING))?;
                // Only a restore of files alone has no record; what it moved aside is not ours to remove.
                if !home.restore(&id).join(files::ASIDE).exists() {
                    home.remove(&id)?;
                }
            }
            Some(mut record)
                if record.database == target.database
                    && matches!(record.state, State::Staging | State::Staged) =>
            {
                purge(target, home, &mut record).await?;
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Restores of the target's database that broke off in mid-cutover.
///
/// # Errors
/// When a record cannot be read.
pub fn unfinished(target: &Target) -> Result<Vec<Record>> {
    let mut records = record::all(&Home::of(&target.filestore_root))?;
    records.retain(|record| {
        record.database == target.database && matches!(record.state, State::Swapping { .. })
    });
    Ok(records)
}

/// Removes every pair whose undo window is over, and those that a later restore has made unreachable.
///
/// # Errors
/// As [`purge`].
pub async fn purge_expired(target: &Target, home: &Home, now: Timestamp) -> Result<Vec<Record>> {
    let mut purged = Vec::new();
    for mut record in record::all(home)? {
        if record.database == target.database && record.expired(now) {
            purge(target, home, &mut record).await?;
            purged.push(record);
        }
    }
    Ok(purged)
}
