//! Backups of every layout, made small by hand.

use std::{collections::BTreeMap, sync::Arc};

use undoo_archive::{
    Backup, RangedRead,
    backup::{BackupInput, Inspection, inspect},
    container::{MemberInfo, MemberSource},
};
use undoo_core::{Kind, Problem, Result};

use crate::zip_craft::craft;

pub(crate) const HASH: &str = "b15835fdac8df7a502d7203681ca1b44866be2ce";
pub(crate) const CONTENT: &[u8] = b"content of a file";
pub(crate) const MANIFEST: &[u8] =
    br#"{"odoo_dump": "1", "db_name": "acme", "version": "19.0", "version_info": [19, 0, 0, "final", 0, ""],
    "major_version": "19.0", "pg_version": "15.0", "modules": {"base": "19.0.1.3", "web": "19.0.1.0"}}"#;

/// A plain dump as `pg_dump` 17 writes it from a 15 server.
pub(crate) fn plain_dump(owner: Option<&str>) -> Vec<u8> {
    let owner = owner.map(|role| format!("\nALTER TABLE public.t OWNER TO {role};\n")).unwrap_or_default();
    format!(
        r"--
-- PostgreSQL database dump
--

\restrict abc

-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)
-- Dumped by pg_dump version 17.11 (Debian 17.11-0+deb13u1)

SET statement_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';

CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA public;
CREATE EXTENSION IF NOT EXISTS unaccent WITH SCHEMA public;

CREATE TABLE public.t (
    id integer NOT NULL
);
{owner}
CREATE UNLOGGED TABLE public.u (id integer);

COPY public.t (id) FROM stdin;
1
2
\.


--
-- PostgreSQL database dump complete
--

\unrestrict abc

"
    )
    .into_bytes()
}

/// A custom archive of version 1.14 with an extension and a table, and no rows.
pub(crate) fn custom_dump() -> Vec<u8> {
    fn int(value: i32) -> Vec<u8> {
        let mut bytes = vec![u8::from(value < 0)];
        bytes.extend(value.unsigned_abs().to_le_bytes());
        bytes
    }
    fn text(value: &str) -> Vec<u8> {
        [int(value.len() as i32), value.as_bytes().to_vec()].concat()
    }
    let mut bytes = b"PGDMP\x01\x0e\x00\x04\x08\x01".to_vec();
    bytes.extend([int(-1), int(0), int(0), int(12), int(1), int(0), int(126), int(0)].concat());
    bytes.extend([text("acme"), text("13.16"), text("13.16"), int(2)].concat());
    for (id, tag, desc, defn) in [
        (1, "unaccent", "EXTENSION", "CREATE EXTENSION IF NOT EXISTS unaccent WITH SCHEMA public;\n"),
        (2, "t", "TABLE", "CREATE TABLE public.t (\n    id integer\n);\n"),
    ] {
        bytes.extend([int(id), int(0), text("0"), text("0"), text(tag), text(desc), int(2)].concat());
        bytes.extend(
            [text(defn), text(""), text(""), text("public"), text(""), text("heap"), text("odoo")].concat(),
        );
        // No OIDs, no dependencies, no data.
        bytes.extend([text("false"), int(-1), vec![3], vec![0; 8]].concat());
    }
    bytes
}

pub(crate) fn filestore_path(top: &str) -> String {
    format!("{top}{}/{HASH}", &HASH[..2])
}

/// A folder held in memory.
pub(crate) struct Memory(pub(crate) BTreeMap<String, Vec<u8>>);

impl MemberSource for Memory {
    fn list(&self) -> Result<Vec<MemberInfo>> {
        Ok(self
            .0
            .iter()
            .map(|(name, bytes)| MemberInfo { name: name.clone(), size: bytes.len() as u64 })
            .collect())
    }

    fn open(&self, name: &str) -> Result<Arc<dyn RangedRead>> {
        match self.0.get(name) {
            Some(bytes) => Ok(Arc::new(bytes.clone())),
            None => Err(Problem::new(Kind::Missing, "file_missing", format!("{name} is gone"), "")),
        }
    }
}

pub(crate) fn open_file(bytes: Vec<u8>) -> Result<Backup> {
    Backup::open(BackupInput::Single(Arc::new(bytes), "some.file".into()))
}

pub(crate) fn open_zip(members: &[(&str, &[u8])]) -> Result<Backup> {
    let members: Vec<(&[u8], &[u8])> =
        members.iter().map(|(name, bytes)| (name.as_bytes(), *bytes)).collect();
    open_file(craft(&members).bytes)
}

pub(crate) fn open_folder(members: &[(&str, &[u8])]) -> Result<Backup> {
    let files = members.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec()));
    Backup::open(BackupInput::Folder(Arc::new(Memory(files.collect()))))
}

pub(crate) fn inspected(backup: Result<Backup>) -> Inspection {
    inspect(&backup.unwrap()).unwrap()
}
