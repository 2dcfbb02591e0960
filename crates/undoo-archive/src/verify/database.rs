//! The dump, read as a restore reads it, and its attachments against the files.

use std::{collections::HashSet, io::Read};

use undoo_core::{Finding, Result};

use super::{AttachmentCheck, AttachmentOf, Broken, Files, Watched, Work};
use crate::{
    attachments::{Attachment, AttachmentRow, AttachmentRows, store_fname},
    backup::DatabasePart,
    container::{Gunzip, shown},
    dump::{
        DumpEvent, DumpFormat, DumpStream,
        custom::CustomDump,
        plain::PlainDump,
        statement::{Classified, classify},
    },
    error::{innermost, problem_of},
    filestore::FilestorePart,
};

/// What was seen of a dump.
#[derive(Default)]
struct Seen {
    check: AttachmentCheck,
    /// Hashes that rows name.
    named: HashSet<[u8; 20]>,
    /// Whether the table of attachments came by.
    attachments: bool,
    /// Names and rows of the `COPY` blocks.
    tables: Vec<(String, u64)>,
}

impl Work<'_> {
    /// Reads the dump; `files` are those of the filestore.
    pub(super) fn database(&mut self, part: &DatabasePart, files: &Files) -> Result<()> {
        let container = self.backup.container();
        let name = container.name(part.member).to_owned();
        let mut seen = Seen::default();
        let read = container.read(part.member).and_then(|input| {
            let input = Watched::new(input, self.meter.clone());
            if self.deep {
                let mut content: Box<dyn Read + Send> = Box::new(input.clone());
                if part.gzip {
                    content = Box::new(Gunzip::new(content, container.describe(part.member)));
                }
                look(part.format, content, files, &mut seen).map_err(innermost)?;
            }
            input.finish().map_err(problem_of)
        });
        let sums = match read {
            Ok(sums) => sums,
            Err(problem) => return self.note(&name, problem),
        };
        self.report.members += 1;
        let record = self.ours.and_then(|ours| ours.parts.database.as_ref());
        self.member("database", part.member, sums, record);
        if self.deep {
            let said = record.and_then(|record| record.tables.as_ref());
            let said = said.map(|tables| tables.iter().map(|table| (table.name.clone(), table.rows)));
            if said.is_some_and(|said| !said.eq(seen.tables.iter().cloned())) {
                self.report.broken.push(Broken {
                    member: shown(&name),
                    code: "tables_differ".into(),
                    message: "the dump has other tables, or other numbers of rows, than the manifest says"
                        .into(),
                });
            }
            self.attachments(seen, files);
        }
        Ok(())
    }

    fn attachments(&mut self, seen: Seen, files: &Files) {
        if self.backup.filestore == FilestorePart::None {
            return;
        }
        if !seen.attachments {
            self.report.findings.push(Finding::info(
                "attachments_unknown",
                "the dump has no rows of ir_attachment in the form that pg_dump writes by default",
                "Which files should be there is not known; each file that is there was checked by its own name.",
            ));
            return;
        }
        let mut check = seen.check;
        for hash in files.keys().filter(|hash| !seen.named.contains(*hash)) {
            check.orphans.push(store_fname(hash));
        }
        self.report.attachments = Some(check);
    }
}

fn look(format: DumpFormat, input: Box<dyn Read + Send>, files: &Files, seen: &mut Seen) -> Result<()> {
    let mut dump: Box<dyn DumpStream> = match format {
        DumpFormat::Custom => Box::new(CustomDump::open(input)?),
        DumpFormat::Plain => Box::new(PlainDump::open(input)?),
    };
    let mut rows_of_attachments = None;
    while let Some(event) = dump.next_event()? {
        match event {
            DumpEvent::CopyStart(copy) => {
                rows_of_attachments = AttachmentRows::of(&copy.sql);
                seen.attachments |= rows_of_attachments.is_some();
                if let Ok(Classified::Copy { table, .. }) = classify(&copy.sql) {
                    seen.tables.push((table.to_string(), 0));
                }
            }
            DumpEvent::CopyRows { bytes, rows, .. } => {
                if let Some((_, count)) = seen.tables.last_mut() {
                    *count += rows;
                }
                if let Some(reader) = &mut rows_of_attachments {
                    reader.take(&bytes, &mut |attachment| seen.note(attachment, files));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

impl Seen {
    fn note(&mut self, attachment: Attachment, files: &Files) {
        let row = match attachment {
            Attachment::File(row) => row,
            Attachment::InDatabase => {
                self.check.in_database += 1;
                return;
            }
            Attachment::Nothing => return,
        };
        let Some(hash) = row.hash else {
            self.check.external += 1;
            return;
        };
        self.check.attachments += 1;
        self.named.insert(hash);
        match files.get(&hash) {
            None => self.check.missing.push(of(row)),
            // There and damaged, which was noted with the file.
            Some(None) => {}
            Some(Some(size)) => {
                let checksum = row.checksum.as_ref().is_none_or(|sum| *sum == hex::encode(hash));
                // Odoo leaves 0 where it does not know.
                if checksum && row.size.is_none_or(|row| row == 0 || row == *size) {
                    self.check.matched += 1;
                } else {
                    self.check.differing.push(of(row));
                }
            }
        }
    }
}

fn of(row: AttachmentRow) -> AttachmentOf {
    AttachmentOf { attachment: row.id, name: shown(row.name), store_fname: shown(row.store_fname) }
}
