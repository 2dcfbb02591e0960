//! Dumps and filestores to write backups of.

use std::io::{self, Read, Write};

use sha1::{Digest, Sha1};
use undoo_archive::{
    Backup,
    backup::BackupInput,
    manifest::ours::{Environment, OdooKeys, Undoo},
    write::{BackupWriter, Description, Settings},
};
use undoo_core::{BackupId, Result, Sign, Signer};

pub(crate) const CREATED: &str = "2026-11-22T12:37:21Z";

pub(crate) fn settings(level: u8, threads: usize) -> Settings {
    Settings { level, threads, created_at: CREATED.parse().unwrap() }
}

pub(crate) fn description() -> Description {
    Description {
        backup_id: "018f3c6e-0000-7000-8000-000000000001".parse::<BackupId>().unwrap(),
        undoo_version: "0.1.0".into(),
        organisation: Some("org-1".into()),
        odoo: OdooKeys {
            odoo_dump: "1".into(),
            db_name: "acme".into(),
            version: "19.0".into(),
            version_info: serde_json::from_str(r#"[19, 0, 0, "final", 0, ""]"#).unwrap(),
            major_version: "19.0".into(),
            pg_version: "15.0".into(),
            modules: [("base".into(), Some("19.0.1.3".into())), ("sale".into(), None)].into(),
        },
        environment: Environment {
            database: "acme".into(),
            odoo_version: Some("19.0-20260101".into()),
            ..Environment::default()
        },
        database_only: false,
        warnings: Vec::new(),
    }
}

/// Noise that does not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..len.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(len).collect()
}

/// Text that compresses as a dump does.
pub(crate) fn rows(seed: u64, len: usize) -> String {
    let mut text = String::with_capacity(len + 100);
    for (at, word) in noise(seed, len).chunks(8).enumerate() {
        if text.len() >= len {
            break;
        }
        text += &format!(
            "{at}\tmail.message\t2026-11-22 12:37:{:02}\t{}\tCOPY public.t (id) FROM stdin;\n",
            at % 60,
            hex::encode(word)
        );
    }
    text
}

pub(crate) fn sha1(content: &[u8]) -> [u8; 20] {
    Sha1::digest(content).into()
}

/// A dump with some tables of so many bytes of rows each, with attachments that name `files`, and with
/// text that looks like the start of a table where none is.
pub(crate) fn dump(tables: &[usize], files: &[[u8; 20]]) -> Vec<u8> {
    let mut dump = String::from(
        "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\n\
         -- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)\n-- Dumped by pg_dump version 17.11\n\n\
         SET client_encoding = 'UTF8';\n\n\
         CREATE FUNCTION public.f() RETURNS void LANGUAGE sql AS $$\nCOPY public.hidden (id) FROM stdin;\n\\.\n$$;\n\n\
         /*\nCOPY public.comment (id) FROM stdin;\n*/\n\nCREATE TABLE public.t0 (id integer);\n\n",
    );
    for (n, len) in tables.iter().enumerate() {
        dump += &format!("--\n-- Data for Name: t{n}\n--\n\nCOPY public.t{n} (id, a, b, c, d) FROM stdin;\n");
        dump += &rows(n as u64 + 1, *len);
        dump += "\\.\n\n\n";
    }
    dump += "COPY public.ir_attachment (id, name, type, store_fname, checksum, file_size, db_datas) FROM stdin;\n";
    for (id, hash) in files.iter().enumerate() {
        let hash = hex::encode(hash);
        dump += &format!("{}\tfile {id}\tbinary\t{}/{hash}\t{hash}\t\\N\t\\N\n", id + 1, &hash[..2]);
    }
    dump += "999\tin db\tbinary\t\\N\t\\N\t3\t\\\\x616263\n\\.\n\n";
    dump += "COPY public.\"Odd \"\"name\"\"\" (id) FROM stdin;\n\\.\n\n";
    dump += "SELECT pg_catalog.setval('public.t_id_seq', 7, true);\n\nALTER TABLE ONLY public.t0 ADD CONSTRAINT t0_pkey PRIMARY KEY (id);\n\n";
    dump += "--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict abc\n\n";
    dump.into_bytes()
}

/// A whole backup of a dump and files by their own hash.
pub(crate) fn backup_of(dump: &[u8], files: &[Vec<u8>], settings: Settings) -> (Vec<u8>, Undoo) {
    let files: Vec<([u8; 20], Vec<u8>)> = files.iter().map(|file| (sha1(file), file.clone())).collect();
    written(dump, &files, &[], settings, Some(&signer())).unwrap()
}

pub(crate) fn signer() -> Signer {
    Signer::from_seed(&[7; 32])
}

pub(crate) fn written(
    mut dump: &[u8],
    files: &[([u8; 20], Vec<u8>)],
    addons: &[(&str, &[u8])],
    settings: Settings,
    signer: Option<&dyn Sign>,
) -> Result<(Vec<u8>, Undoo)> {
    let mut writer = BackupWriter::new(Vec::new(), settings)?;
    writer.database(&mut dump)?;
    for (hash, content) in files {
        writer.file(*hash, &mut &content[..])?;
    }
    for (path, content) in addons {
        writer.addon(path, &mut &content[..])?;
    }
    writer.finish(description(), signer)
}

pub(crate) fn open(bytes: &[u8]) -> Backup {
    Backup::open(BackupInput::Single(std::sync::Arc::new(bytes.to_vec()), "backup.zip".into())).unwrap()
}

pub(crate) fn read_all(mut input: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Counts what passes, into a shared counter.
pub(crate) struct Counted<T>(pub(crate) T, pub(crate) std::rc::Rc<std::cell::Cell<u64>>);

impl<T: Read> Read for Counted<T> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = self.0.read(out)?;
        self.1.set(self.1.get() + len as u64);
        Ok(len)
    }
}

impl<T: Write> Write for Counted<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.0.write(bytes)?;
        self.1.set(self.1.get() + len as u64);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
