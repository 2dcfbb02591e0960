//! Header and table of contents: all that can be known of an archive from the front of its file.
//!
//! Limits stand against archives that are all table of contents: [`MAX_ENTRIES`], [`MAX_STRING`] and
//! [`MAX_TOC`]. Everything is checked here once, so that the rest of the reader can take an entry at its
//! word: dump ids are positive and unique, strings are UTF-8 without NULs.

use std::collections::HashMap;

use undoo_core::{Kind, Problem, Result};

use super::{
    super::{DumpFormat, DumpHeader},
    input::{Input, broken},
};

/// Entries in a table of contents. An Odoo database with 620 tables has about 13,000.
pub const MAX_ENTRIES: u32 = 500_000;
/// Bytes of one string in the table of contents, such as one definition.
pub const MAX_STRING: u64 = 64 << 20;
/// Bytes of all strings of the table of contents together.
pub const MAX_TOC: u64 = 512 << 20;

const OLDEST: (u8, u8) = (1, 12);
const NEWEST: (u8, u8) = (1, 16);
/// `archCustom`; `archTar` also marks the `toc.dat` of the directory format.
const FORMAT_CUSTOM: u8 = 1;

/// How the data blocks of an archive are compressed. The table of contents never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all (`-Z0`).
    None,
    /// zlib streams; pg_dump calls it gzip.
    Gzip,
    /// LZ4 frames.
    Lz4,
    /// Zstandard frames.
    Zstd,
}

/// When an entry is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// With its parent, wherever that is: comments, privileges, security labels.
    None,
    /// Before any rows: tables, functions, types.
    PreData,
    /// Rows, large objects, sequence values.
    Data,
    /// After the rows: indexes, constraints, triggers.
    PostData,
}

/// One entry of the table of contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TocEntry {
    /// Number of the entry within this archive, positive and unique.
    pub dump_id: i32,
    /// Whether a data block belongs to it.
    pub had_dumper: bool,
    /// OID of the system catalogue that describes the object; 0 for what has none.
    pub table_oid: u32,
    /// OID of the object in the dumped database.
    pub oid: u32,
    /// Name of the object, or for comments and privileges what they belong to.
    pub tag: String,
    /// Kind of the object, such as `TABLE DATA`.
    pub desc: String,
    /// See [`Section`].
    pub section: Section,
    /// The statements that make the object, as many as there are; empty where there are none.
    pub defn: String,
    /// `COPY … FROM stdin;` for rows in COPY's text format, empty for all else.
    pub copy_stmt: String,
    /// Schema.
    pub namespace: Option<String>,
    /// Tablespace; empty for the database's own, `None` for objects that have none.
    pub tablespace: Option<String>,
    /// Table access method.
    pub tableam: Option<String>,
    /// `pg_class.relkind`, in archives since 1.16.
    pub relkind: Option<char>,
    /// Role that owns the object.
    pub owner: Option<String>,
    /// Dump ids of the entries to be restored before.
    pub dependencies: Vec<i32>,
    /// What `pg_restore --clean` runs; here because it spells the names of functions and operators.
    pub(super) drop_stmt: String,
    pub(super) with_oids: bool,
    /// Whether the archive itself says that there is no data block in spite of `had_dumper`.
    pub(super) no_data: bool,
}

impl TocEntry {
    /// Whether a data block of this entry is to be expected in the file.
    pub(super) fn has_block(&self) -> bool {
        self.had_dumper && !self.no_data
    }

    /// For messages: `TABLE DATA public.res_users (entry 42)`.
    pub(super) fn describe(&self) -> String {
        let schema = self.namespace.as_deref().map(|schema| format!("{schema}.")).unwrap_or_default();
        format!("{} {schema}{} (entry {})", self.desc, self.tag, self.dump_id)
    }
}

/// Everything in front of the first data block.
#[derive(Debug)]
pub(super) struct Front {
    pub(super) header: DumpHeader,
    pub(super) version: (u8, u8, u8),
    pub(super) compression: Compression,
    pub(super) entries: Vec<TocEntry>,
    /// Position in `entries` of each dump id.
    pub(super) by_id: HashMap<i32, usize>,
}

impl Front {
    pub(super) fn read(input: &mut Input) -> Result<Self> {
        let within = "its header";
        let version = read_magic(input)?;
        let int_size = input.byte(within)?;
        if !(4..=8).contains(&int_size) {
            return Err(broken(
                "dump_bad_header",
                format!("the custom dump has integers of {int_size} bytes"),
            ));
        }
        input.set_int_size(int_size);
        let offset_size = input.byte(within)?;
        if !(4..=8).contains(&offset_size) {
            return Err(broken(
                "dump_bad_header",
                format!("the custom dump has offsets of {offset_size} bytes"),
            ));
        }
        let format = input.byte(within)?;
        if format != FORMAT_CUSTOM {
            return Err(Problem::new(
                Kind::Invalid,
                "dump_wrong_format",
                format!(
                    "the dump is a pg_dump archive of format {format}, the table of contents of a tar or \
                     directory dump, not a custom dump"
                ),
                "use a backup made with pg_dump -Fc or with plain SQL",
            ));
        }
        let compression = read_compression(input, version)?;
        for _ in 0..7 {
            // When it was made, as a C `struct tm` without its time zone: of no use.
            input.int(within)?;
        }
        let database = input.string(MAX_STRING, within)?;
        let server_version = input.string(MAX_STRING, within)?;
        let dump_version = input.string(MAX_STRING, within)?;
        let header = DumpHeader { format: DumpFormat::Custom, server_version, dump_version, database };

        let count = input.int("the count of its table of contents")?;
        if !(0..=i64::from(MAX_ENTRIES)).contains(&count) {
            return Err(broken(
                "dump_toc_too_large",
                format!(
                    "the custom dump claims a table of contents with {count} entries; {MAX_ENTRIES} is the limit"
                ),
            ));
        }
        let mut entries = Vec::new();
        let mut by_id = HashMap::new();
        for position in 0..count as usize {
            let entry = read_entry(input, version, offset_size)?;
            if by_id.insert(entry.dump_id, position).is_some() {
                return Err(broken(
                    "dump_duplicate_entry",
                    format!("the custom dump has two entries with the id {}", entry.dump_id),
                ));
            }
            entries.push(entry);
        }
        Ok(Self { header, version, compression, entries, by_id })
    }

    /// The entry of a dump id.
    pub(super) fn by_id(&self, dump_id: i32) -> Option<(usize, &TocEntry)> {
        let position = *self.by_id.get(&dump_id)?;
        Some((position, self.entries.get(position)?))
    }

    /// Major version of the `pg_dump` that wrote the archive, 0 if it does not say.
    pub(super) fn dump_major(&self) -> u32 {
        let version = self.header.dump_version.as_deref().unwrap_or_default();
        let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
        version[..digits].parse().unwrap_or(0)
    }
}

fn read_magic(input: &mut Input) -> Result<(u8, u8, u8)> {
    let within = "its header";
    for expected in b"PGDMP" {
        if input.byte(within)? != *expected {
            return Err(Problem::new(
                Kind::Invalid,
                "dump_wrong_format",
                "the dump does not begin with PGDMP: it is not a PostgreSQL custom dump",
                "check which file holds the dump; plain SQL dumps are read as such",
            ));
        }
    }
    let version = (input.byte(within)?, input.byte(within)?, input.byte(within)?);
    let (major, minor, revision) = version;
    if (major, minor) > NEWEST {
        return Err(Problem::new(
            Kind::Invalid,
            "dump_version_too_new",
            format!(
                "the custom dump has archive version {major}.{minor}-{revision}; {}.{} (PostgreSQL 17 and 18) \
                 is the newest that is understood",
                NEWEST.0, NEWEST.1
            ),
            "install a newer Undoo, or dump the database again as plain SQL",
        ));
    }
    if (major, minor) < OLDEST {
        return Err(Problem::new(
            Kind::Invalid,
            "dump_version_too_old",
            format!(
                "the custom dump has archive version {major}.{minor}-{revision}, from before PostgreSQL 9.0; \
                 {}.{} is the oldest that is understood",
                OLDEST.0, OLDEST.1
            ),
            "turn it into plain SQL with pg_restore -f dump.sql, and use that",
        ));
    }
    Ok(version)
}

/// Since 1.15 one byte names the algorithm; before, a level other than 0 meant zlib.
fn read_compression(input: &mut Input, (major, minor, _): (u8, u8, u8)) -> Result<Compression> {
    let within = "its header";
    if (major, minor) < (1, 15) {
        let level = input.int(within)?;
        return Ok(if level == 0 { Compression::None } else { Compression::Gzip });
    }
    match input.byte(within)? {
        0 => Ok(Compression::None),
        1 => Ok(Compression::Gzip),
        2 => Ok(Compression::Lz4),
        3 => Ok(Compression::Zstd),
        other => Err(broken("dump_bad_header", format!("the custom dump names compression method {other}"))),
    }
}

fn read_entry(input: &mut Input, (major, minor, _): (u8, u8, u8), offset_size: u8) -> Result<TocEntry> {
    let version = (major, minor);
    let within = "its table of contents";
    let text = |input: &mut Input| input.string(MAX_STRING, within);

    let dump_id = input.int32(within)?;
    if dump_id <= 0 {
        return Err(broken("dump_bad_entry", format!("the custom dump has an entry with the id {dump_id}")));
    }
    let had_dumper = input.int(within)? != 0;
    let table_oid = read_number(input)?;
    let oid = read_number(input)?;
    let tag = text(input)?.unwrap_or_default();
    let desc = text(input)?.unwrap_or_default();
    let section = match input.int(within)? {
        1 => Section::None,
        2 => Section::PreData,
        3 => Section::Data,
        4 => Section::PostData,
        other => {
            return Err(broken(
                "dump_bad_entry",
                format!("entry {dump_id} of the custom dump is in section {other}"),
            ));
        }
    };
    let defn = text(input)?.unwrap_or_default();
    let drop_stmt = text(input)?.unwrap_or_default();
    let copy_stmt = text(input)?.unwrap_or_default();
    let namespace = text(input)?;
    let tablespace = text(input)?;
    let tableam = if version >= (1, 14) { text(input)? } else { None };
    let relkind = if version >= (1, 16) {
        u8::try_from(input.int(within)?).ok().filter(u8::is_ascii_graphic).map(char::from)
    } else {
        None
    };
    let owner = text(input)?;
    let with_oids = text(input)?.as_deref() == Some("true");
    let mut dependencies = Vec::new();
    while let Some(id) = text(input)? {
        dependencies.push(id.parse().map_err(|_| {
            broken("dump_bad_entry", format!("entry {dump_id} of the custom dump depends on {id:.40?}"))
        })?);
    }
    // 1: has data, offset unknown (written to a pipe); 2: has data at the offset; 3: has none. The
    // offset itself is of no use to who reads from front to back.
    let no_data = match input.byte(within)? {
        1 | 2 => false,
        3 => true,
        state => {
            return Err(broken(
                "dump_bad_entry",
                format!("entry {dump_id} of the custom dump has data state {state}"),
            ));
        }
    };
    input.skip(offset_size, within)?;
    Ok(TocEntry {
        dump_id,
        had_dumper,
        table_oid,
        oid,
        tag,
        desc,
        section,
        defn,
        copy_stmt,
        namespace,
        tablespace,
        tableam,
        relkind,
        owner,
        dependencies,
        drop_stmt,
        with_oids,
        no_data,
    })
}

/// OIDs in the table of contents are decimal strings.
fn read_number(input: &mut Input) -> Result<u32> {
    let text = input.string(MAX_STRING, "its table of contents")?.unwrap_or_default();
    text.parse().map_err(|_| {
        broken("dump_bad_entry", format!("the custom dump has {text:.40?} where an OID belongs"))
    })
}
