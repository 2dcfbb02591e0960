//! PostgreSQL dumps, plain and custom, as one stream of events.
//!
//! A dump is a program written by whoever made it. This module turns both formats into the same flat
//! sequence of [`DumpEvent`]s (statements, blocks of `COPY` rows, large objects) without running or
//! judging anything; whether a statement may run is decided on its text, by those who load it.

pub mod custom;
pub mod plain;
pub mod sql;
pub mod statement;

use undoo_core::Result;

/// How a dump is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DumpFormat {
    /// SQL text, as `pg_dump` writes by default.
    Plain,
    /// PostgreSQL's custom archive, `pg_dump -Fc`.
    Custom,
}

/// What a dump says about itself before its first statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpHeader {
    /// See [`DumpFormat`].
    pub format: DumpFormat,
    /// Version of the server that was dumped, such as `15.18 (Debian 15.18-0+deb12u1)`.
    pub server_version: Option<String>,
    /// Version of the `pg_dump` that wrote it.
    pub dump_version: Option<String>,
    /// Name of the database that was dumped; plain dumps do not say.
    pub database: Option<String>,
}

/// Where a statement stands, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Line of a plain dump, from 1.
    Line(u64),
    /// Dump id of an entry in a custom archive's table of contents.
    Entry(i32),
}

/// One SQL statement of the dump, with its terminating semicolon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The text, comments outside of it removed.
    pub sql: String,
    /// Where it stands.
    pub origin: Origin,
}

/// The next thing in a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DumpEvent {
    /// A statement to judge and run. `BEGIN`/`COMMIT` around large objects are not reported.
    Statement(Statement),
    /// `COPY … FROM stdin;`: [`DumpEvent::CopyRows`] follow until [`DumpEvent::CopyEnd`].
    CopyStart(Statement),
    /// Rows in COPY's text format, each with its line feed, at most about [`ROWS_CHUNK`] bytes unless
    /// `ends_row` is false: then the last row goes on in the next event.
    CopyRows {
        /// The bytes, as `COPY … FROM stdin` takes them.
        bytes: Vec<u8>,
        /// Number of rows that end in `bytes`.
        rows: u64,
        /// Whether `bytes` ends with the end of a row.
        ends_row: bool,
    },
    /// The block is complete; the terminating `\.` is not part of the rows.
    CopyEnd,
    /// A large object's content begins (its `lo_create` is an earlier statement, or comes with this
    /// event in dumps before version 12 of the archive format: `create` says so).
    LargeObjectStart {
        /// The object's OID.
        oid: u32,
        /// Whether the object has yet to be created.
        create: bool,
    },
    /// Bytes of the large object, in order.
    LargeObjectData(Vec<u8>),
    /// The large object is complete.
    LargeObjectEnd,
}

/// About how many bytes of rows are handed out at once.
pub const ROWS_CHUNK: usize = 256 * 1024;

/// A dump being read from its start.
pub trait DumpStream: Send {
    /// What the dump says of itself.
    fn header(&self) -> &DumpHeader;

    /// The next event, or `None` after a complete dump.
    ///
    /// # Errors
    /// A problem of kind `Invalid` for a broken or truncated dump (a plain dump that ends inside a
    /// `COPY` block, a string or a statement, or without pg_dump's closing comment, is truncated),
    /// `Refused` for what no honest dump contains, `Unavailable` when the bytes could not be read.
    fn next_event(&mut self) -> Result<Option<DumpEvent>>;
}
