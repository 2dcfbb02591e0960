//! Reading one of our own dumps from the middle: single tables, side by side, each by a ranged read.
//!
//! Where tables are is what the manifest says. What it says is used only where it can be true, and what
//! is read is held against it: the statement must be the one of that table, its rows as many as were
//! written, every stretch of the dump of the recorded checksum.

use std::{
    collections::VecDeque,
    io::{self, Read},
    sync::{Arc, OnceLock},
};

use undoo_core::{Finding, Kind, Problem, Result};

use super::{Backup, DatabasePart, Unwrapping, missing};
use crate::{
    container::{Container, shown},
    dump::{
        DumpEvent, DumpFormat, DumpHeader, DumpStream,
        plain::PlainDump,
        statement::{Classified, classify},
    },
    manifest::{
        Manifest,
        ours::{DUMP_MEMBER, DumpRecord, TableExtent},
    },
    zip::range::{RangeReader, Seekable, fits},
};

/// Rows up to this many stretches long are read and dropped where only what is around them is wanted: a
/// further request costs more.
const READ_THROUGH: u64 = 4;

/// Where a dump can be read from, once it was asked for.
#[derive(Default)]
pub(super) struct Seek(OnceLock<Arc<Seekable>>);

/// Whether the manifest's record is possible for the dump that is there. A finding where it is not.
pub(super) fn check(
    container: &Container,
    database: Option<&DatabasePart>,
    manifest: Option<&Manifest>,
) -> Result<(), Finding> {
    let Some(record) = record(manifest) else { return Ok(()) };
    let possible = || -> Option<bool> {
        let Container::Zip(archive) = container else { return None };
        let part = database.filter(|part| part.format == DumpFormat::Plain && !part.gzip)?;
        let member = archive.members().get(part.member).filter(|member| &*member.name == DUMP_MEMBER)?;
        let mut end = 0;
        let in_order = record.tables.iter().flatten().all(|table| {
            let begins = table.offset;
            let ends = table.offset.checked_add(table.bytes);
            let fine = begins >= end && ends.is_some_and(|ends| ends <= member.size);
            end = ends.unwrap_or(u64::MAX);
            fine
        });
        Some(record.bytes == member.size && fits(&record.seek, member) && in_order)
    };
    match possible() {
        Some(true) => Ok(()),
        _ => Err(Finding::warning(
            "seek_index_unusable",
            "what the manifest says about the dump cannot be true of the dump that is there",
            "The dump is read from its start. Find out who changed this backup.",
        )),
    }
}

fn record(manifest: Option<&Manifest>) -> Option<&DumpRecord> {
    manifest?.undoo.as_ref()?.parts.database.as_ref()
}

impl Backup {
    /// The tables of the dump and where they are, in their order; none where that is not known.
    pub fn tables(&self) -> Option<&[TableExtent]> {
        self.seekable.then(|| record(self.manifest.as_ref())?.tables.as_deref()).flatten()
    }

    /// One table of the dump, by its name as [`Backup::tables`] has it: its `COPY` and its rows, by one
    /// ranged read. Any number of tables can be read at the same time.
    ///
    /// # Errors
    /// `no_such_table` (`Missing`) where the table or its place is not known; otherwise what the dump's
    /// reader finds wrong, and `dump_stretch_damaged` where it is not what the manifest says.
    pub fn open_dump_at(&self, table: &str) -> Result<Box<dyn DumpStream>> {
        let extent = self.tables().and_then(|tables| tables.iter().find(|extent| extent.name == table));
        let extent = extent.ok_or_else(|| {
            missing("no_such_table", &format!("does not say where table \"{}\" is in its dump", shown(table)))
        })?;
        self.open_table(extent)
    }

    /// As [`Backup::open_dump_at`], for a table as [`Backup::tables`] answered it.
    ///
    /// # Errors
    /// As [`Backup::open_dump_at`].
    pub fn open_table(&self, table: &TableExtent) -> Result<Box<dyn DumpStream>> {
        let reader = self.open_dump_range(table.offset, table.bytes)?;
        let dump = PlainDump::part_of(reader);
        Ok(Box::new(Unwrapping(Box::new(OneTable {
            dump,
            table: table.clone(),
            rows: 0,
            state: State::Before,
        }))))
    }

    /// The dump without the tables' rows and their `COPY`: definitions, sequences' values, and what
    /// follows the data. With every table of [`Backup::tables`] it is the whole dump.
    ///
    /// # Errors
    /// `no_tables` (`Missing`) where it is not known where the tables are; otherwise as
    /// [`Backup::open_dump`].
    pub fn open_dump_without_rows(&self) -> Result<Box<dyn DumpStream>> {
        let tables = self
            .tables()
            .ok_or_else(|| missing("no_tables", "does not say where the tables are in its dump"))?;
        let seek = self.seek()?;
        let mut stretches = VecDeque::new();
        let mut from = 0;
        for table in tables {
            stretches.push_back((from, table.offset));
            from = table.offset + table.bytes;
        }
        stretches.push_back((from, seek.size()));
        let reader = Stretches { seek, stretches, open: None };
        Ok(Box::new(Unwrapping(Box::new(
            PlainDump::open(Box::new(reader)).map_err(crate::error::innermost)?,
        ))))
    }

    /// Bytes of the dump from any place on.
    ///
    /// # Errors
    /// `not_seekable` (`Missing`) where the dump can be read from its start only; `Invalid` for a stretch
    /// beyond its end; otherwise as [`Container::read`].
    pub fn open_dump_range(&self, offset: u64, len: u64) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(self.seek()?.range(offset, offset.saturating_add(len))?))
    }

    fn seek(&self) -> Result<Arc<Seekable>> {
        if let Some(seek) = self.seek.0.get() {
            return Ok(seek.clone());
        }
        let not_seekable = || missing("not_seekable", "has no dump that can be read from the middle");
        let record = record(self.manifest.as_ref()).filter(|_| self.seekable).ok_or_else(not_seekable)?;
        let (Container::Zip(archive), Some(part)) = (&self.container, &self.database) else {
            return Err(not_seekable());
        };
        let member = archive.members().get(part.member).ok_or_else(not_seekable)?;
        let seek = Arc::new(archive.seekable(member, record.seek.clone())?);
        Ok(self.seek.0.get_or_init(|| seek).clone())
    }
}

enum State {
    Before,
    Rows,
    After,
}

/// One `COPY` block, held against what is known of it.
struct OneTable {
    dump: PlainDump,
    table: TableExtent,
    rows: u64,
    state: State,
}

impl OneTable {
    fn wrong(&self, what: &str) -> Problem {
        Problem::new(
            Kind::Invalid,
            "table_misplaced",
            format!("table \"{}\" {what} where the backup's manifest says", shown(&self.table.name)),
            "Read the dump from its start instead, and find out who changed this backup.",
        )
    }
}

impl DumpStream for OneTable {
    fn header(&self) -> &DumpHeader {
        self.dump.header()
    }

    fn next_event(&mut self) -> Result<Option<DumpEvent>> {
        let event = self.dump.next_event()?;
        match (&self.state, &event) {
            (State::Before, Some(DumpEvent::CopyStart(copy))) => match classify(&copy.sql)? {
                Classified::Copy { table, .. } if table.to_string() == self.table.name => {
                    self.state = State::Rows;
                }
                _ => return Err(self.wrong("does not begin")),
            },
            (State::Rows, Some(DumpEvent::CopyRows { rows, .. })) => self.rows += rows,
            (State::Rows, Some(DumpEvent::CopyEnd)) if self.rows == self.table.rows => {
                self.state = State::After;
            }
            (State::Rows, Some(DumpEvent::CopyEnd)) => return Err(self.wrong("has not as many rows as")),
            (State::After, None) => {}
            (State::Before, _) => return Err(self.wrong("does not begin")),
            (State::Rows | State::After, _) => return Err(self.wrong("does not end")),
        }
        Ok(event)
    }
}

/// Stretches of a dump as one stream.
struct Stretches {
    seek: Arc<Seekable>,
    stretches: VecDeque<(u64, u64)>,
    open: Option<Run>,
}

/// Stretches that lie so close together that they are read by one request.
struct Run {
    reader: RangeReader,
    at: u64,
    stretches: VecDeque<(u64, u64)>,
}

impl Stretches {
    fn next_run(&mut self) -> io::Result<Option<Run>> {
        let Some((start, mut end)) = self.stretches.pop_front() else { return Ok(None) };
        let mut stretches = VecDeque::from([(start, end)]);
        while let Some((from, to)) = self.stretches.front().copied() {
            if from - end > READ_THROUGH * self.seek.every() {
                break;
            }
            stretches.push_back((from, to));
            self.stretches.pop_front();
            end = to;
        }
        let reader = self.seek.range(start, end).map_err(crate::error::carry)?;
        Ok(Some(Run { reader, at: start, stretches }))
    }
}

impl Run {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while let Some((from, to)) = self.stretches.front().copied() {
            let skip = from.saturating_sub(self.at);
            if io::copy(&mut (&mut self.reader).take(skip), &mut io::sink())? < skip {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.at = self.at.max(from);
            let room = out.len().min(usize::try_from(to - self.at).unwrap_or(usize::MAX));
            if room == 0 {
                self.stretches.pop_front();
                continue;
            }
            let len = self.reader.read(&mut out[..room])?;
            self.at += len as u64;
            return if len == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(len) };
        }
        Ok(0)
    }
}

impl Read for Stretches {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            if self.open.is_none() {
                self.open = self.next_run()?;
            }
            let Some(run) = &mut self.open else { return Ok(0) };
            match run.read(out)? {
                0 => self.open = None,
                len => return Ok(len),
            }
        }
    }
}
