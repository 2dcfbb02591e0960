//! What the engine is asked to do and what it answers: the lines between a caller and a mover.
//!
//! An order comes as one JSON document on standard input, so that its secrets stand in no argument,
//! environment or label. Answers go out as JSON lines.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use undoo_core::{Finding, Kind, Problem};

use crate::pg::DatabaseAccess;

/// The target as the engine sees it: a database server and a directory of filestores.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Target {
    /// A role that may create databases; with CREATEROLE the restore stays unseen by a running Odoo.
    pub admin: DatabaseAccess,
    /// The role that Odoo connects as and that will own the restored database.
    pub owner: String,
    /// Whether nobody named that role and no live database has it: it is merely the admin's.
    #[serde(default)]
    pub owner_assumed: bool,
    /// Name of the database, live or to be made.
    pub database: String,
    /// Odoo's `data_dir/filestore`: the directory that has one directory per database.
    pub filestore_root: PathBuf,
    /// User and group that own Odoo's files; `None` keeps those of `filestore_root`.
    pub files_owner: Option<(u32, u32)>,
    /// Whether the server keeps its data on the same disk as the filestore, as far as is known.
    pub shares_disk: bool,
    /// A directory on the disk of the database server's data and one on that of its write-ahead log, where
    /// they can be reached from here. Nothing of a database is read in them.
    #[serde(default)]
    pub database_disks: Vec<PathBuf>,
    /// Whether Odoo serves one named database only (`db_name` set), so that its cron sees no other.
    pub database_pinned: bool,
    /// What describes the target to a person, such as `docker:acme_odoo`.
    pub name: String,
    /// Major version of the target's Odoo, where it is known.
    pub odoo_major: Option<u32>,
}

/// What a restored database is for; decides what is changed in it before anyone sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// The same instance, back at an earlier time.
    Recover,
    /// A second instance beside the one the backup came from.
    Copy,
    /// The same instance in another place; the source does not run any more.
    Move,
}

/// Which parts of a backup are restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parts {
    /// Database and filestore.
    All,
    /// The database; the live files stay.
    Database,
    /// The filestore, added to what is there.
    Filestore,
}

/// Whether the live database waits for the proof, or makes room first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "strategy", rename_all = "snake_case")]
pub enum Strategy {
    /// Load beside the live database, and swap.
    Beside,
    /// Drop the live database first. For disks that cannot hold both; it cannot be undone.
    StopFirst {
        /// The database's name, as a person has typed it to confirm that.
        confirmed: String,
    },
}

/// How a restore is to be done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Options {
    /// See [`Parts`].
    pub parts: Parts,
    /// See [`Strategy`].
    pub strategy: Strategy,
    /// Codes of findings that a person has accepted.
    pub accept: Vec<String>,
    /// Public halves of the keys whose owners' backups may bring the code that they list, hexadecimal.
    #[serde(default)]
    pub trusted_keys: Vec<String>,
    /// Links live files of the right name and size without hashing them; the report says so.
    pub trust_size: bool,
    /// Hours for which the replaced pair is kept.
    pub undo_window_hours: u32,
    /// Connections used for loading.
    pub jobs: usize,
    /// `maintenance_work_mem` of each of them, in MiB.
    pub maintenance_mib: u32,
}

/// A step of a restore, as progress and errors name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Reading what the backup is.
    Inspect,
    /// Asking the target whether this can work.
    Preflight,
    /// Staged database, role and extensions.
    Prepare,
    /// Tables and their rows.
    Data,
    /// Indexes, keys, triggers, statistics.
    PostData,
    /// Files into the staged filestore.
    Filestore,
    /// Counting and matching.
    Verify,
    /// Odoo boots on a clone.
    Boot,
    /// Mails, crons and identity of a copy.
    Neutralize,
    /// Stop, rename, start.
    Cutover,
    /// Waiting for Odoo to answer.
    HealthCheck,
    /// Linking the files of a backup.
    Snapshot,
    /// Dumping the database into a backup.
    Dump,
    /// Writing files into a backup.
    Store,
    /// Reading a backup back.
    ReadBack,
}

/// One line of a mover's answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// A phase begins.
    Phase {
        /// Which.
        phase: Phase,
    },
    /// How far a phase is.
    Progress {
        /// Which phase.
        phase: Phase,
        /// Done so far, in `unit`.
        done: u64,
        /// All there is, where it is known.
        total: Option<u64>,
        /// `bytes`, `files` or `statements`.
        unit: String,
    },
    /// Something found on the way.
    Finding(Finding),
    /// A line for the log.
    Log {
        /// The sentence.
        message: String,
    },
    /// The order is carried out; the value depends on the order.
    Done {
        /// What came of it.
        result: serde_json::Value,
    },
    /// The order failed.
    Failed {
        /// See [`Kind`].
        kind: Kind,
        /// Stable name.
        code: String,
        /// Thing and cause.
        message: String,
        /// Next step.
        remedy: String,
        /// Findings that stood in the way.
        findings: Vec<Finding>,
    },
}

impl Answer {
    /// The last line of a mover that failed.
    pub fn failed(failure: Failure) -> Self {
        let Failure { problem, findings } = failure;
        Self::Failed {
            kind: problem.kind,
            code: problem.code.to_owned(),
            message: problem.message,
            remedy: problem.remedy,
            findings,
        }
    }
}

/// A failed order: the problem, and the findings that belong to it.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong.
    pub problem: Problem,
    /// What stood in the way.
    pub findings: Vec<Finding>,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { problem, findings: Vec::new() }
    }
}

impl Failure {
    /// The failure of everything among `findings` that nobody accepted; `None` if nothing stands.
    pub fn of(findings: &[Finding], accepted: &[String]) -> Option<Self> {
        let blocking: Vec<Finding> =
            findings.iter().filter(|finding| finding.blocks(accepted)).cloned().collect();
        if blocking.is_empty() {
            return None;
        }
        let codes: Vec<&str> = blocking.iter().map(|finding| finding.code.as_str()).collect();
        let remedy = if blocking.iter().all(|finding| finding.acceptable) {
            let accept: Vec<String> = codes.iter().map(|code| format!("--accept {code}")).collect();
            format!("read each; if you can live with all of them, run it again with {}", accept.join(" "))
        } else {
            "read each for what to do".to_owned()
        };
        let message = match codes.as_slice() {
            [code] => format!("a finding stands in the way: {code}"),
            codes => format!("{} findings stand in the way: {}", codes.len(), codes.join(", ")),
        };
        Some(Self { problem: Problem::new(Kind::Refused, "findings", message, remedy), findings: blocking })
    }
}

impl Answer {
    /// What a mover's last line says about its order; `None` for any other line.
    pub fn outcome(self) -> Option<Result<serde_json::Value, Failure>> {
        match self {
            Self::Done { result } => Some(Ok(result)),
            Self::Failed { kind, code, message, remedy, findings } => {
                Some(Err(Failure { problem: Problem::from_wire(kind, &code, message, remedy), findings }))
            }
            _ => None,
        }
    }
}

/// Where answers go: standard output of a mover, progress bars of a command, a log.
pub trait Audience: Send + Sync {
    /// Takes one answer. Must not block for long.
    fn tell(&self, answer: Answer);
}

impl<F: Fn(Answer) + Send + Sync> Audience for F {
    fn tell(&self, answer: Answer) {
        self(answer);
    }
}
