//! What a file is, by its first bytes. Names are never asked.

use std::io::Read;

use undoo_core::{Kind, Result};

use crate::{
    container::{Container, GZIP, Gunzip, Head},
    error::problem_of,
    tar,
};

/// Stored bytes that are read of each file to tell what it is.
const GLANCE: u64 = 4 * 1024;
/// Stored bytes of a plain dump that are looked through for `OWNER TO`. Tables begin well before.
const OWNERS: u64 = 64 * 1024;
/// Content that is looked at, however well it is compressed.
const MAX_CONTENT: u64 = 4 << 20;

/// What a file is, under its gzip if it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    CustomDump,
    PlainDump,
    Tar,
    Json,
    /// Something else, as a noun for messages.
    Other(&'static str),
}

/// A file that was looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sniffed {
    pub(super) content: Content,
    pub(super) gzip: bool,
}

/// Looks at a member's first bytes.
pub(super) fn sniff(container: &Container, member: usize) -> Result<Sniffed> {
    let (head, gzip) = front(container, member, GLANCE, tar::BLOCK as u64 * 4)?;
    Ok(Sniffed { content: content(&head), gzip })
}

/// Whether a plain dump gives its objects owners, which Odoo's own dumps do not.
pub(super) fn names_owners(container: &Container, member: usize) -> Result<bool> {
    let (head, _) = front(container, member, OWNERS, MAX_CONTENT)?;
    let sets_owner =
        |line: &[u8]| line.starts_with(b"ALTER ") && line.windows(10).any(|part| part == b" OWNER TO ");
    Ok(head.split(|byte| *byte == b'\n').any(sets_owner))
}

fn front(container: &Container, member: usize, budget: u64, len: u64) -> Result<(Vec<u8>, bool)> {
    let read = |gzip: bool| -> Result<Vec<u8>> {
        let mut input = container.head(member, budget)?;
        if gzip {
            input = Box::new(Gunzip::new(input, container.describe(member)));
        }
        let mut head = Vec::new();
        // What a damaged file is can be told all the same; reading it will say that it is damaged.
        match Head::new(input).0.take(len).read_to_end(&mut head).map_err(problem_of) {
            Err(problem) if problem.kind == Kind::Unavailable => Err(problem),
            _ => Ok(head),
        }
    };
    let head = read(false)?;
    if head.starts_with(GZIP) { Ok((read(true)?, true)) } else { Ok((head, false)) }
}

fn content(head: &[u8]) -> Content {
    if head.starts_with(b"PGDMP") {
        return Content::CustomDump;
    }
    if head.first_chunk().is_some_and(tar::is_header) {
        return Content::Tar;
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let opening = b"-- PostgreSQL database";
    let front = &text[..text.len().min(1024)];
    if text.starts_with(b"--") && front.windows(opening.len()).any(|part| part == opening) {
        return Content::PlainDump;
    }
    let known: &[(&[u8], &str)] = &[
        (b"PK\x03\x04", "a ZIP"),
        (b"\x1f\x8b", "a gzip file in a gzip file"),
        (b"\xfd7zXZ\0", "an xz file"),
        (b"\x28\xb5\x2f\xfd", "a zstd file"),
        (b"BZh", "a bzip2 file"),
        (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
        (b"Rar!", "a RAR archive"),
    ];
    if let Some((_, what)) = known.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Content::Other(what);
    }
    match text.first() {
        None => Content::Other("an empty file"),
        Some(b'{') => Content::Json,
        Some(b'<') => {
            Content::Other("a web page or XML, perhaps an error message that was saved as the backup")
        }
        Some(_) => Content::Other("a file of a kind that is not known"),
    }
}
