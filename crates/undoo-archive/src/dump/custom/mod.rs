//! PostgreSQL's custom archive format (`pg_dump -Fc`), read from front to back.
//!
//! The file is a header, a table of contents with every statement, then the data blocks in the order of
//! the table of contents. [`CustomDump::open`] reads the first two and no further, which is all that
//! inspection needs. The events that follow are those of the script that `pg_restore -f -` makes of the
//! archive: a preamble, every entry in its order, privileges after all else, and last what must come
//! after them; both kinds of dump thus reach the loader alike. This reader never seeks, never trusts a
//! length with memory, and never reports a complete dump unless every block that the table of contents
//! announces was there, ended as it should, and was followed by the file's end.
//!
//! Archive versions 1.12 (PostgreSQL 9.0) to 1.16 (17 and 18). Source of the format: PostgreSQL's
//! `src/bin/pg_dump/pg_backup_archiver.c` (header, table of contents, order and form of the script),
//! `pg_backup_custom.c` (blocks), `compress_io.c` and its siblings (streams in the blocks),
//! `pg_dump.c` (what entries hold).

mod block;
mod input;
mod inserts;
mod keywords;
mod rows;
mod script;
mod toc;

use std::io::Read;

use undoo_core::{Kind, Problem, Result};

pub use self::toc::{Compression, MAX_ENTRIES, MAX_STRING, MAX_TOC, Section, TocEntry};
use self::{
    block::Block,
    input::{Input, broken, truncated},
    inserts::Inserts,
    rows::Rows,
    script::{Pass, Script, restore_pass},
    toc::Front,
};
use super::{DumpEvent, DumpHeader, DumpStream, Origin, ROWS_CHUNK, Statement, sql::is_single_statement};

/// A data block of `TABLE DATA` and the like.
const BLOCK_DATA: u8 = 1;
/// A data block of large objects.
const BLOCK_LARGE_OBJECTS: u8 = 3;

/// A custom archive being read.
///
/// Statements have [`Origin::Entry`] with the dump id of their entry, 0 for the settings of the preamble
/// that belong to none.
pub struct CustomDump {
    front: Front,
    script: Script,
    pass: Pass,
    /// The entry whose turn is next, in `pass`.
    position: usize,
    /// The entry whose block the main pass has come to.
    awaited: Option<usize>,
    /// The entry of the block whose head has been read.
    at_block: Option<usize>,
    /// Which entries' blocks have been read.
    blocks_read: Vec<bool>,
    source: Source,
}

/// Where in the file the reader stands.
enum Source {
    /// Between two blocks.
    Between(Input),
    /// Within the rows of a table.
    Rows(Box<Rows>),
    /// Within the statements that stand for the rows of the table with this dump id.
    Inserts(Box<Inserts>, i32),
    /// Before the OID of a large object, or the 0 that ends their block.
    LargeObjects(Input),
    /// Within a large object.
    LargeObject(Block),
    /// Behind the last block, all of which were read.
    End,
    /// An error was reported: nothing more can be told.
    Failed,
}

impl CustomDump {
    /// Reads header and table of contents.
    ///
    /// # Errors
    /// `Invalid` where the input is not a custom archive of a version from 1.12 to 1.16, is broken or
    /// truncated, or is beyond [`MAX_ENTRIES`], [`MAX_STRING`] or [`MAX_TOC`]; `Refused` for definitions
    /// that no `pg_dump` writes; `Unavailable` when the bytes could not be read.
    pub fn open(input: Box<dyn Read + Send>) -> Result<Self> {
        let mut input = Input::new(input, MAX_TOC);
        let front = Front::read(&mut input)?;
        let script = Script::new(&front)?;
        let blocks_read = vec![false; front.entries.len()];
        let source = Source::Between(input);
        Ok(Self {
            front,
            script,
            pass: Pass::Main,
            position: 0,
            awaited: None,
            at_block: None,
            blocks_read,
            source,
        })
    }

    /// The table of contents, in its order.
    pub fn toc(&self) -> &[TocEntry] {
        &self.front.entries
    }

    /// Version of the archive format: major, minor, revision.
    pub fn archive_version(&self) -> (u8, u8, u8) {
        self.front.version
    }

    /// How the data blocks are compressed.
    pub fn compression(&self) -> Compression {
        self.front.compression
    }

    fn advance(&mut self) -> Result<Option<DumpEvent>> {
        loop {
            if let Some((entry, sql)) = self.script.pop(&self.front)? {
                let statement = Statement { sql, origin: Origin::Entry(entry) };
                return Ok(Some(DumpEvent::Statement(statement)));
            }
            // Taken out, so that an error on the way leaves `Failed` behind.
            match std::mem::replace(&mut self.source, Source::Failed) {
                Source::Between(input) => {
                    if let Some(event) = self.between(input)? {
                        return Ok(Some(event));
                    }
                }
                Source::Rows(mut rows) => {
                    let event = rows.next_event()?;
                    self.source = match event {
                        Some(_) => Source::Rows(rows),
                        None => Source::Between(rows.into_input()),
                    };
                    return Ok(Some(event.unwrap_or(DumpEvent::CopyEnd)));
                }
                Source::Inserts(mut inserts, entry) => match inserts.next_statement()? {
                    Some(sql) => {
                        self.source = Source::Inserts(inserts, entry);
                        let statement = Statement { sql, origin: Origin::Entry(entry) };
                        return Ok(Some(DumpEvent::Statement(statement)));
                    }
                    None => self.source = Source::Between(inserts.into_input()),
                },
                Source::LargeObjects(mut input) => match input.oid("its large objects")? {
                    0 => self.source = Source::Between(input),
                    oid => {
                        self.source = Source::LargeObject(Block::new(input, self.front.compression)?);
                        return Ok(Some(DumpEvent::LargeObjectStart { oid, create: false }));
                    }
                },
                Source::LargeObject(mut block) => {
                    let mut bytes = Vec::new();
                    let ended = block.read_to(&mut bytes, ROWS_CHUNK)?;
                    let event = if ended && bytes.is_empty() {
                        self.source = Source::LargeObjects(block.into_input());
                        DumpEvent::LargeObjectEnd
                    } else {
                        self.source = Source::LargeObject(block);
                        DumpEvent::LargeObjectData(bytes)
                    };
                    return Ok(Some(event));
                }
                Source::End => {
                    self.source = Source::End;
                    if !self.next_entry(None)? {
                        return Ok(None);
                    }
                }
                Source::Failed => {
                    return Err(broken("dump_failed", "the custom dump was found broken before this"));
                }
            }
        }
    }

    /// Between two blocks: goes on to the next entry, or to the block that it waits for.
    fn between(&mut self, mut input: Input) -> Result<Option<DumpEvent>> {
        if let Some(position) = self.at_block.take() {
            return self.begin_block(input, position);
        }
        if let Some(awaited) = self.awaited {
            let Some(position) = self.block_header(&mut input)? else {
                let entry = self.front.entries[awaited].describe();
                return Err(truncated(&format!("its data blocks, before that of {entry}")));
            };
            if position == awaited {
                self.awaited = None;
            } else {
                // Blocks stand in the order of the entries; should one not, its own settings are still
                // made first.
                self.script.push_entry(&self.front, position)?;
            }
            self.at_block = Some(position);
            self.source = Source::Between(input);
            return Ok(None);
        }
        self.source = Source::Between(input);
        if self.next_entry(Some(Pass::Main))? {
            return Ok(None);
        }
        // All that was announced has been read.
        if let Source::Between(mut input) = std::mem::replace(&mut self.source, Source::Failed)
            && self.block_header(&mut input)?.is_some()
        {
            return Err(broken(
                "dump_bad_block",
                "the custom dump has a data block that nothing in it announces",
            ));
        }
        self.source = Source::End;
        Ok(None)
    }

    /// Puts the next entry's statements on the way, going from pass to pass, or only within the given
    /// one; tells whether there was an entry.
    fn next_entry(&mut self, only: Option<Pass>) -> Result<bool> {
        loop {
            let Some(entry) = self.front.entries.get(self.position) else {
                let next = match self.pass {
                    Pass::Main => Pass::Acl,
                    Pass::Acl => Pass::PostAcl,
                    Pass::PostAcl => return Ok(false),
                };
                if only.is_some() {
                    return Ok(false);
                }
                (self.pass, self.position) = (next, 0);
                continue;
            };
            let position = self.position;
            self.position += 1;
            // A block is read when the main pass comes to its entry, whatever the entry's own pass.
            let has_block = self.pass == Pass::Main && entry.has_block() && !self.blocks_read[position];
            let due = restore_pass(entry) == Some(self.pass) && !self.blocks_read[position];
            if due {
                self.script.push_entry(&self.front, position)?;
            }
            if has_block {
                self.awaited = Some(position);
            }
            if due || has_block {
                return Ok(true);
            }
        }
    }

    /// Kind and entry of the block at hand, or `None` at the end of the file.
    fn block_header(&mut self, input: &mut Input) -> Result<Option<usize>> {
        let Some(kind) = input.byte_or_end()? else { return Ok(None) };
        if kind != BLOCK_DATA && kind != BLOCK_LARGE_OBJECTS {
            return Err(broken("dump_bad_block", format!("the custom dump has a data block of kind {kind}")));
        }
        let id = input.int32("the head of a data block")?;
        let Some((position, entry)) = self.front.by_id(id) else {
            return Err(broken(
                "dump_bad_block",
                format!(
                    "the custom dump has a data block of entry {id}, which is not in its table of contents"
                ),
            ));
        };
        if !entry.has_block() || (kind == BLOCK_LARGE_OBJECTS) != (entry.desc == "BLOBS") {
            return Err(broken(
                "dump_bad_block",
                format!("the custom dump has a data block of kind {kind} for {}", entry.describe()),
            ));
        }
        if std::mem::replace(&mut self.blocks_read[position], true) {
            return Err(broken(
                "dump_bad_block",
                format!("the custom dump has two data blocks for {}", entry.describe()),
            ));
        }
        Ok(Some(position))
    }

    fn begin_block(&mut self, input: Input, position: usize) -> Result<Option<DumpEvent>> {
        let entry = &self.front.entries[position];
        if entry.desc == "BLOBS" {
            self.source = Source::LargeObjects(input);
            return Ok(None);
        }
        let sql = entry.copy_stmt.trim().to_owned();
        if sql.is_empty() {
            let block = Block::new(input, self.front.compression)?;
            self.source = Source::Inserts(Box::new(Inserts::new(block)), entry.dump_id);
            return Ok(None);
        }
        if !is_single_statement(&sql) {
            return Err(Problem::new(
                Kind::Refused,
                "dump_bad_copy",
                format!("the custom dump has more or less than one COPY statement for {}", entry.describe()),
                "do not use this backup: pg_dump did not write it",
            ));
        }
        self.source = Source::Rows(Box::new(Rows::new(Block::new(input, self.front.compression)?)));
        let origin = Origin::Entry(entry.dump_id);
        Ok(Some(DumpEvent::CopyStart(Statement { sql, origin })))
    }
}

impl DumpStream for CustomDump {
    fn header(&self) -> &DumpHeader {
        &self.front.header
    }

    fn next_event(&mut self) -> Result<Option<DumpEvent>> {
        let event = self.advance();
        if event.is_err() {
            self.source = Source::Failed;
        }
        event
    }
}
