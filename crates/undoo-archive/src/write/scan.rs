//! A look at the dump while it goes by: where its tables are, which files its attachments name, which
//! code it has, and whether it is complete.
//!
//! It is done by the same reader that a restore uses, so that what is written down about a dump is what
//! a restore will find. `pg_dump` that died leaves a dump without its end, which is noticed here.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    sync::{Arc, mpsc::Receiver},
};

use undoo_core::{Problem, Result};

use crate::{
    attachments::{Attachment, AttachmentRows},
    dump::{
        DumpEvent, DumpHeader, DumpStream,
        code::{Verdict, inspect_code},
        plain::PlainDump,
        statement::{Classified, classify},
    },
    manifest::ours::{MOST_LISTED, TableExtent},
};

/// More tables than this are not listed; Odoo has about a thousand.
const MOST_TABLES: usize = 50_000;

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) header: Option<DumpHeader>,
    pub(super) tables: Vec<TableExtent>,
    /// Hashes of code that a restore would ask a person about.
    pub(super) code: BTreeSet<String>,
    /// Files that attachments name, with the first row that does.
    pub(super) named: BTreeMap<[u8; 20], i64>,
    pub(super) attachments: u64,
    pub(super) in_database: u64,
    pub(super) external: u64,
    /// Why the dump was not seen to its end.
    pub(super) problem: Option<Problem>,
}

/// Reads a whole dump out of blocks as they come.
pub(super) fn scan(blocks: Receiver<Arc<Vec<u8>>>) -> Seen {
    let mut seen = Seen::default();
    let input = Input { blocks, block: Arc::default(), at: 0 };
    if let Err(problem) = look(input, &mut seen) {
        seen.problem = Some(problem);
    }
    seen
}

fn look(input: Input, seen: &mut Seen) -> Result<()> {
    let mut dump = PlainDump::open(Box::new(input))?;
    seen.header = Some(dump.header().clone());
    let mut table: Option<TableExtent> = None;
    let mut rows_of_attachments = None;
    while let Some(event) = dump.next_event()? {
        match event {
            DumpEvent::Statement(statement) => seen.judge(&statement.sql),
            DumpEvent::CopyStart(copy) => {
                rows_of_attachments = AttachmentRows::of(&copy.sql);
                table = match classify(&copy.sql)? {
                    Classified::Copy { table, .. } => Some(TableExtent {
                        name: table.to_string(),
                        offset: dump.statement_at(),
                        bytes: 0,
                        rows: 0,
                    }),
                    _ => None,
                };
            }
            DumpEvent::CopyRows { bytes, rows, .. } => {
                if let Some(table) = &mut table {
                    table.rows += rows;
                }
                if let Some(reader) = &mut rows_of_attachments {
                    reader.take(&bytes, &mut |attachment| seen.note(attachment));
                }
            }
            DumpEvent::CopyEnd => {
                if let Some(mut table) = table.take().filter(|_| seen.tables.len() < MOST_TABLES) {
                    table.bytes = dump.position() - table.offset;
                    seen.tables.push(table);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

impl Seen {
    fn judge(&mut self, sql: &str) {
        // What is not recognised is refused by a restore, whoever speaks for it.
        let Ok(classified) = classify(sql) else { return };
        for code in inspect_code(&classified, sql) {
            if code.verdict == Verdict::NeedsAcceptance && self.code.len() < MOST_LISTED {
                self.code.insert(code.hash);
            }
        }
    }

    fn note(&mut self, attachment: Attachment) {
        match attachment {
            Attachment::File(row) => match row.hash {
                Some(hash) => {
                    self.attachments += 1;
                    self.named.entry(hash).or_insert(row.id);
                }
                None => self.external += 1,
            },
            Attachment::InDatabase => self.in_database += 1,
            Attachment::Nothing => {}
        }
    }
}

/// Blocks as a stream; it ends when no more are given.
struct Input {
    blocks: Receiver<Arc<Vec<u8>>>,
    block: Arc<Vec<u8>>,
    at: usize,
}

impl Read for Input {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            match self.blocks.recv() {
                Ok(block) => (self.block, self.at) = (block, 0),
                Err(_) => return Ok(0),
            }
        }
        let len = out.len().min(self.block.len() - self.at);
        out[..len].copy_from_slice(&self.block[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}
