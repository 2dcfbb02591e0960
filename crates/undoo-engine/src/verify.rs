//! The proof that a staged database holds what its dump held.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use undoo_core::{Kind, Problem, Result};

use crate::pg::{self, ident, literal};

/// What was counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Tables whose rows were counted and equal the dump's.
    pub tables: u64,
    /// Rows in all of them.
    pub rows: u64,
    /// Rows of `res_users`.
    pub users: u64,
    /// Installed modules of `ir_module_module`.
    pub installed_modules: u64,
    /// `latest_version` of module `base`: the Odoo version of the data.
    pub base_version: Option<String>,
    /// `database.uuid`: which instance the backup is of.
    pub uuid: Option<String>,
    /// Sequences that were compared with the column they feed.
    pub sequences: u64,
    /// Those that are behind it, in the backup already.
    pub sequences_behind: Vec<String>,
}

/// Counts every table and looks at the sequences. Rows that are `skippable` may be there or not.
///
/// # Errors
/// `NotProven` naming the first table whose count differs, or the sequence that is behind; `Invalid` with
/// code `not_odoo` for a database without Odoo's core tables.
pub async fn count(
    client: &Client,
    expected: &BTreeMap<String, u64>,
    skippable: &BTreeMap<String, u64>,
) -> Result<Counted> {
    let doing = pg::failed("counting the restored rows");
    let mut rows_in_all = 0;
    let roots = roots(client, expected.keys().map(String::as_str).collect()).await?;
    let at_roots = |rows: &BTreeMap<String, u64>| {
        let mut all = BTreeMap::<String, u64>::new();
        for (table, rows) in rows {
            *all.entry(roots.get(table).unwrap_or(table).clone()).or_default() += rows;
        }
        all
    };
    let (expected_at_roots, skippable) = (at_roots(expected), at_roots(skippable));
    let tables: Vec<&String> = expected_at_roots.keys().collect();
    for tables in tables.chunks(200) {
        let selects: Vec<String> = tables
            .iter()
            .map(|table| {
                // Heirs of a table that is not partitioned have rows of their own.
                let only = if roots.contains_key(*table) { "" } else { "ONLY" };
                format!("SELECT {}::text, count(*) FROM {only} {table}", literal(table))
            })
            .collect();
        for row in client.query(&selects.join(" UNION ALL "), &[]).await.map_err(&doing)? {
            let (table, counted): (String, i64) = (row.get(0), row.get(1));
            let wanted = expected_at_roots.get(&table).copied().unwrap_or_default();
            let fewest = wanted.saturating_sub(skippable.get(&table).copied().unwrap_or_default());
            rows_in_all += counted.unsigned_abs();
            if !(fewest..=wanted).contains(&counted.unsigned_abs()) {
                return Err(Problem::new(
                    Kind::NotProven,
                    "row_count",
                    format!("{table} has {wanted} rows in the dump and {counted} restored"),
                    "the live system is untouched; please report this",
                ));
            }
        }
    }
    let core = client
        .query_one(
            "SELECT to_regclass('public.res_users') IS NOT NULL \
             AND to_regclass('public.ir_module_module') IS NOT NULL",
            &[],
        )
        .await
        .map_err(&doing)?;
    if !core.get::<_, bool>(0) {
        return Err(Problem::new(
            Kind::Invalid,
            "not_odoo",
            "the dump has no res_users or no ir_module_module: it is no Odoo database",
            "name a backup of an Odoo database",
        ));
    }
    let row = client
        .query_one(
            "SELECT (SELECT count(*) FROM public.res_users), \
             (SELECT count(*) FROM public.ir_module_module WHERE state = 'installed'), \
             (SELECT latest_version::text FROM public.ir_module_module WHERE name = 'base'), \
             (SELECT value::text FROM public.ir_config_parameter WHERE key = 'database.uuid')",
            &[],
        )
        .await
        .map_err(&doing)?;
    let (sequences, sequences_behind) = sequences(client).await?;
    Ok(Counted {
        tables: expected.len() as u64,
        rows: rows_in_all,
        users: row.get::<_, i64>(0).unsigned_abs(),
        installed_modules: row.get::<_, i64>(1).unsigned_abs(),
        base_version: row.get(2),
        uuid: row.get(3),
        sequences,
        sequences_behind,
    })
}

/// For each partitioned table and partition among `tables`, the one above all others of them that it
/// belongs to. A dump may send rows to a partitioned table and others to its partitions, and the first lie
/// among the second: only together can they be counted.
async fn roots(client: &Client, tables: Vec<&str>) -> Result<BTreeMap<String, String>> {
    let rows = client
        .query(
            "WITH RECURSIVE named AS (SELECT name, to_regclass(name) AS oid FROM unnest($1::text[]) AS name), \
             up AS (SELECT n.oid AS part, n.oid AS above, 0 AS height FROM named n \
             JOIN pg_class c ON c.oid = n.oid AND (c.relkind = 'p' OR c.relispartition) \
             UNION ALL SELECT up.part, i.inhparent, up.height + 1 FROM up \
             JOIN pg_class c ON c.oid = up.above AND c.relispartition \
             JOIN pg_inherits i ON i.inhrelid = up.above) \
             SELECT DISTINCT ON (part.name) part.name, root.name FROM up \
             JOIN named part ON part.oid = up.part JOIN named root ON root.oid = up.above \
             ORDER BY part.name, up.height DESC",
            &[&tables],
        )
        .await
        .map_err(pg::failed("looking which tables are partitioned"))?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// A sequence behind its column would hand out ids that are taken.
async fn sequences(client: &Client) -> Result<(u64, Vec<String>)> {
    let doing = pg::failed("comparing sequences with their columns");
    let owned = client
        .query(
            "SELECT n.nspname::text, s.relname::text, tn.nspname::text, t.relname::text, a.attname::text \
             FROM pg_class s JOIN pg_namespace n ON n.oid = s.relnamespace \
             JOIN pg_depend d ON d.objid = s.oid AND d.classid = 'pg_class'::regclass \
             AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') \
             JOIN pg_class t ON t.oid = d.refobjid JOIN pg_namespace tn ON tn.oid = t.relnamespace \
             JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid \
             WHERE s.relkind = 'S' AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) \
             AND EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = t.oid AND i.indkey[0] = a.attnum)",
            &[],
        )
        .await
        .map_err(&doing)?;
    let (mut count, mut behind) = (0, Vec::new());
    for chunk in owned.chunks(100) {
        let selects: Vec<String> = chunk
            .iter()
            .map(|row| {
                let [schema, sequence, table_schema, table, column]: [String; 5] =
                    std::array::from_fn(|index| row.get(index));
                let sequence = format!("{}.{}", ident(&schema), ident(&sequence));
                let table = format!("{}.{}", ident(&table_schema), ident(&table));
                format!(
                    "SELECT {}::text, (SELECT last_value FROM {sequence}), (SELECT max({}) FROM {table})::bigint",
                    literal(&sequence),
                    ident(&column)
                )
            })
            .collect();
        for row in client.query(&selects.join(" UNION ALL "), &[]).await.map_err(&doing)? {
            count += 1;
            let (sequence, last, max): (String, i64, Option<i64>) = (row.get(0), row.get(1), row.get(2));
            if max.is_some_and(|max| last < max) {
                behind.push(sequence);
            }
        }
    }
    Ok((count, behind))
}
