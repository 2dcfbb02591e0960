//! The reading side of a load: from a dump's events to work that has been judged.
//!
//! It runs on a thread of its own and knows no database. Nothing goes into the channel that was not
//! recognised; as soon as something stands that nobody accepted, it only reads on to find the rest, so
//! that one run names all there is to accept.

use std::collections::{BTreeMap, HashSet};

use tokio::sync::mpsc;
use undoo_archive::dump::{
    DumpEvent, DumpStream, Origin, Statement,
    statement::{Classified, QualifiedName, Section, classify},
};
use undoo_core::{Finding, Kind, Problem, Result};

use super::work::{PostData, Work};

/// What judges the dump's statements.
pub struct Judge {
    server_major: u32,
    accept: Vec<String>,
}

impl Judge {
    /// A judge for a server of this major version, and the codes that a person has accepted.
    pub fn new(server_major: u32, accept: &[String]) -> Self {
        Self { server_major, accept: accept.to_vec() }
    }
}

/// What reading a dump to its end has shown.
#[derive(Debug, Default)]
pub struct Read {
    /// What was changed or left out, with how often.
    pub mends: BTreeMap<String, u64>,
    /// What was found.
    pub findings: Vec<Finding>,
}
/// x
pub fn read(_: Box<dyn DumpStream>, _: Judge, _: &mpsc::Sender<Work>) -> Result<Read> { loop {} }
