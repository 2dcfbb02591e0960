//! Attachments against files: every row that names a file is matched with one, or named.
//!
//! Read by SQL, since Odoo's ORM hides rows that have a `res_field`.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use undoo_core::{Finding, Result};

use crate::{
    filestore::{CorruptFile, Hash, parse_store_fname, store_fname},
    pg,
};

/// An attachment without its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingFile {
    /// `ir_attachment.id`.
    pub attachment: i64,
    /// `ir_attachment.name`.
    pub name: String,
    /// Where the file should be.
    pub store_fname: String,
}

/// How attachments and files match.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciliation {
    /// Attachments that name a file.
    pub attachments: u64,
    /// Those whose file is there with that SHA-1 and, where the row has one, that size.
    pub matched: u64,
    /// Attachments whose file is not there.
    pub missing: Vec<MissingFile>,
    /// Files that are not what their names say.
    pub corrupt: Vec<CorruptFile>,
    /// Attachments whose recorded size is not the file's: the file holds, the row does not.
    pub wrong_size: Vec<MissingFile>,
    /// Files that no attachment names; Odoo's garbage collector takes them in time.
    pub orphans: Vec<String>,
    /// Attachments kept elsewhere (a module's object storage), which are not checked.
    pub external: u64,
    /// Attachments whose bytes are in the database.
    pub in_database: u64,
}

impl Reconciliation {
    /// Whether every attachment has its file and every file holds.
    pub fn is_exact(&self) -> bool {
        self.missing.is_empty() && self.corrupt.is_empty() && self.wrong_size.is_empty()
    }

    /// What a person must know, and accept, before a database like this goes live.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let some = |names: Vec<&str>| {
            let shown = names.iter().take(5).copied().collect::<Vec<_>>().join(", ");
            if names.len() > 5 { format!("{shown} and {} more", names.len() - 5) } else { shown }
        };
        if !self.missing.is_empty() {
            findings.push(Finding::needs_acceptance(
                "missing_files",
                format!(
                    "{} attachments of the backup have no file: {}",
                    self.missing.len(),
                    some(self.missing.iter().map(|m| m.name.as_str()).collect())
                ),
                "the report names every one; use an earlier backup, or accept that they are lost",
            ));
        }
        if !self.corrupt.is_empty() {
            findings.push(Finding::needs_acceptance(
                "corrupt_files",
                format!(
                    "{} files are not what their names say: {}",
                    self.corrupt.len(),
                    some(self.corrupt.iter().map(|c| c.store_fname.as_str()).collect())
                ),
                "the report says which of the backup's or the live filestore's they are; they are left out: use \
                 an earlier backup with its files, or accept that they are lost",
            ));
        }
        if !self.wrong_size.is_empty() {
            findings.push(Finding::warning(
                "wrong_file_size",
                format!("{} attachments record another size than their file has", self.wrong_size.len()),
                "the files match their SHA-1; the report names the rows",
            ));
        }
        findings
    }
}

/// Files that could be had from elsewhere when the backup does not have them.
pub type Heal<'a> = dyn FnMut(&Hash) -> Result<bool> + Send + 'a;

/// Matches the rows of the database behind `client` with `files`.
///
/// `heal` is asked for each file that is not there; when it answers true, the file now is.
///
/// # Errors
/// When the database cannot be read, or `heal` fails.
pub async fn reconcile(
    client: &Client,
    files: &HashMap<Hash, u64>,
    corrupt: Vec<CorruptFile>,
    heal: &mut Heal<'_>,
) -> Result<Reconciliation> {
    let doing = pg::failed("matching attachments with files");
    let mut found = Reconciliation { corrupt, ..Reconciliation::default() };
    let in_database = client
        .query_one(
            "SELECT count(*) FROM public.ir_attachment WHERE type = 'binary' AND db_datas IS NOT NULL",
            &[],
        )
        .await
        .map_err(&doing)?;
    found.in_database = in_database.get::<_, i64>(0).unsigned_abs();
    let sql = "SELECT id::bigint, coalesce(name, '')::text, store_fname::text, file_size::bigint \
               FROM public.ir_attachment WHERE type = 'binary' AND store_fname IS NOT NULL ORDER BY id";
    let rows = client.query_raw(sql, std::iter::empty::<i32>()).await.map_err(&doing)?;
    let mut rows = std::pin::pin!(rows);
    let mut named: HashSet<Hash> = HashSet::new();
    let corrupt: HashSet<String> = found.corrupt.iter().map(|file| file.store_fname.clone()).collect();
    while let Some(row) = rows.try_next().await.map_err(&doing)? {
        let store: String = row.get(2);
        let Some(hash) = parse_store_fname(&store) else {
            found.external += 1;
            continue;
        };
        found.attachments += 1;
        named.insert(hash);
        let row_size: Option<i64> = row.get(3);
        let missing = || MissingFile { attachment: row.get(0), name: row.get(1), store_fname: store.clone() };
        match files.get(&hash) {
            Some(size)
                if row_size.is_none_or(|row_size| row_size == 0 || row_size.unsigned_abs() == *size) =>
            {
                found.matched += 1;
            }
            Some(_) => found.wrong_size.push(missing()),
            None if !corrupt.contains(&store) && heal(&hash)? => found.matched += 1,
            None if corrupt.contains(&store) => {}
            None => found.missing.push(missing()),
        }
    }
    found.orphans = files.keys().filter(|hash| !named.contains(*hash)).map(store_fname).collect();
    found.orphans.sort();
    Ok(found)
}
