//! What the reading side of a load hands to the loading side.
//!
//! One bounded channel carries it, so that a slow server slows the reader down and memory stays flat.

use undoo_archive::dump::statement::QualifiedName;

/// A statement after the data that belongs to one table, with what scheduling needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostData {
    /// `CREATE INDEX`.
    Index {
        /// The table it is on.
        table: QualifiedName,
        /// Whether foreign keys may refer to it.
        unique: bool,
        /// The statement.
        sql: String,
    },
    /// A primary key, unique, check or exclusion constraint.
    Constraint {
        /// Its table.
        table: QualifiedName,
        /// The statement.
        sql: String,
    },
    /// `ALTER INDEX … ATTACH PARTITION`: until the last one, a partitioned table's key is no key.
    AttachIndex {
        /// The statement.
        sql: String,
    },
    /// A foreign key.
    ForeignKey {
        /// The table that refers.
        table: QualifiedName,
        /// The constraint's name.
        name: String,
        /// The table it refers to.
        references: QualifiedName,
        /// Whether the dump itself says `NOT VALID`.
        not_valid: bool,
        /// The statement.
        sql: String,
    },
    /// Triggers, rules, policies and whatever must come after the keys, in the dump's order.
    Other {
        /// The statement.
        sql: String,
    },
}

/// Rows that stand in a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inserted {
    /// Their table.
    pub table: QualifiedName,
    /// How many they are.
    pub rows: u64,
    /// Whether the server may skip some (`ON CONFLICT DO NOTHING`).
    pub may_skip: bool,
}

/// The next thing to load.
#[derive(Debug)]
pub enum Work {
    /// An extension, to be created by the admin connection.
    Extension {
        /// Its name.
        name: String,
    },
    /// A statement that defines something data will go into, or an `INSERT`.
    Define {
        /// The statement.
        sql: String,
        /// Where it stands, for messages.
        origin: String,
        /// What an `INSERT` puts where.
        inserted: Option<Inserted>,
    },
    /// Rows of a table begin.
    CopyStart {
        /// The table.
        table: QualifiedName,
        /// `COPY … FROM stdin`.
        sql: String,
    },
    /// Rows; see [`undoo_archive::dump::DumpEvent::CopyRows`].
    Rows {
        /// The bytes.
        bytes: Vec<u8>,
        /// Rows that end in them.
        rows: u64,
        /// Whether they end with a row's end.
        ends_row: bool,
    },
    /// The table's rows are complete.
    CopyEnd,
    /// A large object begins.
    LargeObjectStart {
        /// Its OID.
        oid: u32,
        /// Whether it has yet to be created.
        create: bool,
    },
    /// Its bytes.
    LargeObjectData(Vec<u8>),
    /// It is complete.
    LargeObjectEnd,
    /// A statement for when the data is in, such as `setval`.
    AfterData {
        /// The statement.
        sql: String,
    },
    /// See [`PostData`].
    PostData(PostData),
    /// The dump was read to its end, and nothing stands against it. Nothing comes after it, and without it
    /// the dump is not whole.
    End,
}
