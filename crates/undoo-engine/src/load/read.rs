//! The reading side of a load: from a dump's events to work that has been judged.
//!
//! It runs on a thread of its own and knows no database. Nothing goes into the channel that was not
//! recognised; as soon as something stands that nobody accepted, it only reads on to find the rest, so
//! that one run names all there is to accept.

use std::collections::{BTreeMap, HashSet};

use tokio::sync::mpsc;
use undoo_archive::dump::{
    DumpEvent, DumpStream, Origin, Statement,
    code::{Verdict, inspect_code},
    mend::{Decision, Mends, Target, decide},
    statement::{Classified, QualifiedName, Section, classify},
};
use undoo_core::{Finding, Kind, Problem, Result};

use super::work::{Inserted, PostData, Work};
use crate::{order::Failure, trust::Trust};

/// Code of the problem that means: the loader has given up, and knows why.
pub(super) const NOBODY_TAKES: &str = "load_gone";

/// What judges the dump's statements.
pub struct Judge {
    target: Target,
    accept: Vec<String>,
    trust: Trust,
}

impl Judge {
    /// A judge for a server of this major version, the codes that a person has accepted, and the code that
    /// a signature speaks for.
    pub fn new(server_major: u32, accept: &[String], trust: Trust) -> Self {
        let schemas = std::iter::once("public".to_owned()).collect();
        Self { target: Target { server_major, schemas }, accept: accept.to_vec(), trust }
    }
}

/// What reading a dump to its end has shown.
#[derive(Debug, Default)]
pub struct Read {
    /// What was changed or left out, with how often.
    pub mends: BTreeMap<String, u64>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// Functions of unknown code that someone accepted: they must not run with a superuser's rights.
    pub confined: Vec<String>,
}

impl Read {
    /// Keeps a finding, once: several statements about one object find the same.
    fn note(&mut self, finding: Option<Finding>) {
        if let Some(finding) = finding.filter(|finding| !self.findings.contains(finding)) {
            self.findings.push(finding);
        }
    }
}

/// Reads a dump to its end.
///
/// # Errors
/// `Refused` with all findings that nobody accepted; the dump's own problems; [`NOBODY_TAKES`].
pub fn read(dump: Box<dyn DumpStream>, judge: Judge, queue: &mpsc::Sender<Work>) -> Result<Read, Failure> {
    let accept = judge.accept.clone();
    let read = judge_all(dump, judge, Some(queue))?;
    match Failure::of(&read.findings, &accept) {
        Some(failure) => Err(failure),
        None => {
            queue.blocking_send(Work::End).map_err(|_| nobody_takes())?;
            Ok(read)
        }
    }
}

fn nobody_takes() -> Problem {
    Problem::new(Kind::Cancelled, NOBODY_TAKES, "the load ended before the dump", "")
}

/// Reads a dump to its end and loads nothing: for a plan that names every finding.
///
/// # Errors
/// The dump's own problems.
pub fn scan(dump: Box<dyn DumpStream>, judge: Judge) -> Result<Read> {
    judge_all(dump, judge, None)
}

fn judge_all(
    mut dump: Box<dyn DumpStream>,
    judge: Judge,
    queue: Option<&mpsc::Sender<Work>>,
) -> Result<Read> {
    let mut reader = Reader {
        judge,
        queue,
        read: Read::default(),
        mends: Mends::default(),
        after_data: false,
        late: HashSet::new(),
    };
    while let Some(event) = dump.next_event()? {
        reader.event(event)?;
    }
    let Reader { mut read, mends, .. } = reader;
    read.mends = mends.iter().map(|(mend, times)| (mend.code.to_owned(), times)).collect();
    Ok(read)
}

struct Reader<'a> {
    judge: Judge,
    queue: Option<&'a mpsc::Sender<Work>>,
    read: Read,
    mends: Mends,
    /// Whether statements of the part after the data have been seen.
    after_data: bool,
    /// Relations that are made after the data; what is built on them must come later still.
    late: HashSet<QualifiedName>,
}

impl Reader<'_> {
    fn event(&mut self, event: DumpEvent) -> Result<()> {
        match event {
            DumpEvent::Statement(statement) => self.statement(statement),
            DumpEvent::CopyStart(statement) => {
                let Classified::Copy { table, .. } = classify(&statement.sql)? else {
                    return Err(not_a_copy(&statement));
                };
                self.send(Work::CopyStart { table, sql: statement.sql })
            }
            DumpEvent::CopyRows { bytes, rows, ends_row } => self.send(Work::Rows { bytes, rows, ends_row }),
            DumpEvent::CopyEnd => self.send(Work::CopyEnd),
            DumpEvent::LargeObjectStart { oid, create } => self.send(Work::LargeObjectStart { oid, create }),
            DumpEvent::LargeObjectData(bytes) => self.send(Work::LargeObjectData(bytes)),
            DumpEvent::LargeObjectEnd => self.send(Work::LargeObjectEnd),
        }
    }

    fn send(&self, work: Work) -> Result<()> {
        if Failure::of(&self.read.findings, &self.judge.accept).is_some() {
            return Ok(());
        }
        let Some(queue) = self.queue else { return Ok(()) };
        queue.blocking_send(work).map_err(|_| nobody_takes())
    }

    fn statement(&mut self, statement: Statement) -> Result<()> {
        let classified = classify(&statement.sql)?;
        for code in inspect_code(&classified, &statement.sql) {
            if let (Classified::CreateFunction { name, .. }, Verdict::NeedsAcceptance) =
                (&classified, code.verdict)
            {
                self.read.confined.push(name.quoted());
            }
            self.read.note(code.finding().map(|finding| self.judge.trust.settle(finding)));
        }
        if let Classified::CreateExtension { name, .. } = &classified {
            self.send(Work::Extension { name: name.clone() })?;
        }
        match decide(&classified, &self.judge.target) {
            Decision::Run => self.sort(classified, statement),
            Decision::Skip(mend) => {
                self.mends.count(mend, 1);
                Ok(())
            }
            Decision::Drop(finding) => {
                self.read.note(Some(finding));
                Ok(())
            }
            Decision::Refuse(problem) => Err(problem),
        }
    }

    fn sort(&mut self, classified: Classified, statement: Statement) -> Result<()> {
        let follows = matches!(classified, Classified::Comment { .. } | Classified::AlterTableOther { .. });
        // What speaks about an object stands right after it: a comment on a check constraint comes with
        // its table, before the data, one on a foreign key after.
        let section = match classified.section() {
            Section::PostData if follows && !self.after_data => Section::PreData,
            section => section,
        };
        self.after_data |= section == Section::PostData;
        let Statement { sql, origin } = statement;
        let late = classified.table().is_some_and(|table| self.late.contains(table));
        use Classified as C;
        let work = match classified {
            C::SetVal { .. } => Work::AfterData { sql },
            _ if self.after_data && (late || section == Section::PreData) => {
                if let C::CreateMaterializedView { view } | C::CreateView { view } = &classified {
                    self.late.insert(view.clone());
                }
                Work::PostData(PostData::Other { sql })
            }
            C::CreateIndex { table, unique, .. } => Work::PostData(PostData::Index { table, unique, sql }),
            C::AddPrimaryKey { table, .. }
            | C::AddUnique { table, .. }
            | C::AddCheck { table, .. }
            | C::AddExclusion { table, .. } => Work::PostData(PostData::Constraint { table, sql }),
            C::AddForeignKey { table, name, references, not_valid } => {
                Work::PostData(PostData::ForeignKey { table, name, references, not_valid, sql })
            }
            C::AlterTableOther { action, .. } if action.starts_with("INDEX ATTACH") => {
                Work::PostData(PostData::AttachIndex { sql })
            }
            _ if section == Section::PostData => Work::PostData(PostData::Other { sql }),
            C::Insert { table, rows, may_skip } => {
                let inserted = Some(Inserted { table, rows, may_skip });
                Work::Define { sql, origin: place(origin), inserted }
            }
            _ => Work::Define { sql, origin: place(origin), inserted: None },
        };
        self.send(work)
    }
}

fn place(origin: Origin) -> String {
    match origin {
        Origin::Line(line) => format!("line {line}"),
        Origin::Entry(entry) => format!("entry {entry}"),
    }
}

fn not_a_copy(statement: &Statement) -> Problem {
    Problem::new(
        Kind::Refused,
        "copy_without_rows",
        format!("the COPY at {} is none that takes rows from the dump", place(statement.origin)),
        "use another backup",
    )
}
