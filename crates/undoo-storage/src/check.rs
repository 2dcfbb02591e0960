//! The test of a storage: everything that backups will ask of it, once, and for each step that fails the
//! cause that a person can act on.
//!
//! It writes one small object under a name of its own and removes it, also when a step fails. Where there are
//! folders, the empty one that it lay in stays.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt;
use reqwest::{Method, Url};
use secrecy::ExposeSecret;
use serde::Serialize;
use undoo_core::{Kind, Problem, Result};

use crate::{
    client::{Client, Redirects, refusal},
    fault::{Doing, Fault, host_key_in, problem_of},
    object::Object,
    storage::{Stat, Storage},
};

/// Long enough that a server which sends the beginning for any range is found out.
const SIZE: usize = 100_000;
/// What is asked for in the middle.
const RANGE: (usize, usize) = (54_321, 12_345);
const FOLDER: &str = "undoo-storage-test/";

/// What a test of a storage found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The storage's address, without secrets.
    pub storage: String,
    /// Whether no step failed.
    pub ok: bool,
    /// In the order in which they were tried.
    pub steps: Vec<Step>,
}

/// One thing that was tried.
#[derive(Debug, Serialize)]
pub struct Step {
    /// What was tried.
    pub name: StepName,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How long it took.
    pub milliseconds: u64,
}

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepName {
    /// An object is written.
    Write,
    /// It is read back and compared.
    Read,
    /// A part in the middle is read and compared.
    Range,
    /// It is found in the list.
    List,
    /// A signed address of it is fetched without credentials.
    Presign,
    /// It is removed and gone.
    Delete,
    /// The bucket can lock backups, where the storage's settings want that. What the test writes is not
    /// locked.
    Lock,
}

/// What came of a step.
#[derive(Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It worked.
    Ok,
    /// The storage has no such thing; nothing is wrong.
    NotOffered,
    /// A step before it failed, without which it cannot be tried.
    NotTried,
    /// It failed.
    Failed {
        /// What sort of problem it is.
        kind: Kind,
        /// The stable code of the cause.
        code: &'static str,
        /// What went wrong.
        message: String,
        /// What to do next.
        remedy: String,
        /// The host key that the server showed, where that is what has to be confirmed.
        #[serde(skip_serializing_if = "Option::is_none")]
        host_key: Option<String>,
    },
}

impl Report {
    /// The first step that failed, as a problem.
    pub fn problem(&self) -> Option<Problem> {
        self.steps.iter().find_map(|step| match &step.outcome {
            Outcome::Failed { kind, code, message, remedy, .. } => {
                Some(Problem::new(*kind, code, message.clone(), remedy.clone()))
            }
            _ => None,
        })
    }

    async fn step(&mut self, name: StepName, work: impl Future<Output = Result<bool>>) -> bool {
        let begun = Instant::now();
        let outcome = match work.await {
            Ok(true) => Outcome::Ok,
            Ok(false) => Outcome::NotOffered,
            Err(problem) => {
                self.ok = false;
                Outcome::Failed {
                    host_key: host_key_in(&problem).map(|key| key.fingerprint.clone()),
                    kind: problem.kind,
                    code: problem.code,
                    message: problem.message,
                    remedy: problem.remedy,
                }
            }
        };
        let worked = matches!(outcome, Outcome::Ok);
        let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.steps.push(Step { name, outcome, milliseconds });
        worked
    }
}

/// Tries writing, reading, a range, listing, a signed address, removing, and whether backups can be locked.
pub async fn test(storage: &dyn Storage) -> Report {
    let mut report = Report { storage: storage.place().to_owned(), ok: true, steps: Vec::new() };
    let key = format!("{FOLDER}{:016x}", fastrand::u64(..));
    let content: Bytes = (0..SIZE).map(|_| fastrand::u8(..)).collect();
    if !report.step(StepName::Write, write(storage, &key, &content)).await {
        let rest = [
            StepName::Read,
            StepName::Range,
            StepName::List,
            StepName::Presign,
            StepName::Delete,
            StepName::Lock,
        ];
        let rest = rest.into_iter();
        report.steps.extend(rest.map(|name| Step { name, outcome: Outcome::NotTried, milliseconds: 0 }));
        // It may be there although the storage said no.
        if let Err(error) = storage.delete(&key).await {
            tracing::debug!(%error, "nothing was written, and nothing could be removed");
        }
        return report;
    }
    report.step(StepName::Read, read(storage, &key, &content, (0, SIZE))).await;
    report.step(StepName::Range, read(storage, &key, &content, RANGE)).await;
    report.step(StepName::List, list(storage, &key)).await;
    report.step(StepName::Presign, presign(storage, &key, &content)).await;
    report.step(StepName::Delete, delete(storage, &key)).await;
    report.step(StepName::Lock, storage.check_lock()).await;
    report
}

async fn write(storage: &dyn Storage, key: &str, content: &[u8]) -> Result<bool> {
    let mut upload = storage.write(key, Some(SIZE as u64))?;
    upload.write(content).await?;
    let Stat { size, .. } = upload.finish().await?;
    right(size == SIZE as u64, storage, key, "it keeps another number of bytes than were written")
}

async fn read(
    storage: &dyn Storage,
    key: &str,
    content: &[u8],
    (offset, len): (usize, usize),
) -> Result<bool> {
    let object = storage.open(key).await?;
    let found = fetch(&object, offset as u64, len as u64).await?;
    let expected = content.get(offset..offset + len).unwrap_or_default();
    right(found == expected, storage, key, "it gives other bytes than were written")
}

async fn fetch(object: &Object, offset: u64, len: u64) -> Result<Vec<u8>> {
    let read = async {
        let chunks: Vec<Bytes> = object.read(offset, len)?.try_collect().await?;
        Ok(chunks.concat())
    };
    read.await.map_err(|error| {
        problem_of(error).unwrap_or_else(|error| {
            let fault = Fault::unexpected(error.to_string());
            fault.into_problem(Doing::Read, object.place())
        })
    })
}

async fn list(storage: &dyn Storage, key: &str) -> Result<bool> {
    let found = storage.list(FOLDER).await?;
    let found = found.iter().any(|entry| entry.name == key && entry.size == SIZE as u64);
    right(found, storage, key, "it does not list what was written")
}

async fn presign(storage: &dyn Storage, key: &str, content: &[u8]) -> Result<bool> {
    let Some(address) = storage.presign(key, Duration::from_secs(60)).await? else { return Ok(false) };
    let place = storage.place_of(key);
    let fetched = async {
        let url = Url::parse(address.expose_secret())
            .map_err(|_| Fault::unexpected("the signed address is not an address"))?;
        let client = Client::new(storage.options(), Redirects::Refuse)
            .map_err(|problem| Fault::unexpected(problem.message))?;
        let answer = client.send(reqwest::Request::new(Method::GET, url)).await?;
        if !answer.status().is_success() {
            return Err(refusal(answer).await);
        }
        let chunks: Vec<Bytes> = client.content(answer).try_collect().await?;
        Ok(chunks.concat())
    };
    let fetched = fetched.await.map_err(|fault| fault.into_problem(Doing::Read, &place))?;
    right(fetched == content, storage, key, "a signed address leads to other bytes")
}

async fn delete(storage: &dyn Storage, key: &str) -> Result<bool> {
    storage.delete(key).await?;
    let gone = storage.stat(key).await?.is_none();
    right(gone, storage, key, "it says that the object was removed, and still has it")
}

/// A storage that answers, and answers wrongly, is of no use for backups.
fn right(holds: bool, storage: &dyn Storage, key: &str, wrong: &str) -> Result<bool> {
    if holds {
        return Ok(true);
    }
    Err(Problem::new(
        Kind::Unavailable,
        "storage_wrong",
        format!("{} cannot be trusted with backups: {wrong}", storage.place_of(key)),
        "Look into the storage's log; do not keep backups there before this test passes.",
    ))
}
