//! What a file looks like that is no plain dump: people pick the wrong file, and converters spoil good
//! ones. The message must name what it is, so that the right file can be found.

use memchr::memchr;
use undoo_core::{Kind, Problem, Result};

/// First bytes, and what they give away.
const MAGIC: &[(&[u8], &str)] = &[
    (b"PGDMP", "a PostgreSQL archive in custom format"),
    (b"PK\x03\x04", "a ZIP file"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"\x28\xb5\x2f\xfd", "Zstandard-compressed data"),
    (b"\xfd7zXZ\x00", "xz-compressed data"),
    (b"BZh", "bzip2-compressed data"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip file"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\xff\xfe", "text in UTF-16, as PowerShell's redirection writes it"),
    (b"\xfe\xff", "text in UTF-16"),
    (b"-- MySQL dump", "a MySQL dump"),
    (b"-- MariaDB dump", "a MariaDB dump"),
    (b"/*M!", "a MariaDB dump"),
    (b"-- phpMyAdmin", "a MySQL dump by phpMyAdmin"),
    (b"--\n-- PostgreSQL database cluster dump", "a dump of a whole cluster by pg_dumpall"),
    (b"%PDF", "a PDF file"),
];

/// Markup and errors, recognised after white space and in any case.
const TEXT: &[(&[u8], &str)] = &[
    (b"<!doctype html", "an HTML page, perhaps a server's error message"),
    (b"<html", "an HTML page, perhaps a server's error message"),
    (b"<?xml", "an XML document, perhaps a storage's error message"),
    (b"{", "a JSON document"),
    (b"pg_dump: ", "pg_dump's error message"),
];

/// Refuses what is recognised as something else, and a dump whose line ends were converted.
pub(super) fn check(window: &[u8]) -> Result<()> {
    if window.is_empty() {
        return Err(not_a_dump("it is empty"));
    }
    let magic = MAGIC.iter().find(|(magic, _)| window.starts_with(magic));
    let text = window.trim_ascii_start();
    let like = magic.or_else(|| {
        TEXT.iter()
            .find(|(start, _)| text.get(..start.len()).is_some_and(|front| front.eq_ignore_ascii_case(start)))
    });
    if let Some((_, like)) = like {
        return Err(not_a_dump(&format!("it looks like {like}")));
    }
    let front = &window[..window.len().min(4096)];
    if front.get(257..262) == Some(b"ustar") {
        return Err(not_a_dump("it looks like a tar file"));
    }
    if memchr(0, front).is_some() && !front.starts_with(b"--") {
        return Err(not_a_dump("it looks like binary data"));
    }
    match memchr(b'\n', front) {
        Some(end) if end > 0 && front[end - 1] == b'\r' => Err(crlf(1)),
        _ => Ok(()),
    }
}

/// Text that does not begin with pg_dump's comment.
pub(super) fn unknown(line: u64) -> Problem {
    not_a_dump(&format!("pg_dump's opening comment is missing before line {line}"))
}

/// A dump that went through a conversion of line ends.
pub(super) fn crlf(line: u64) -> Problem {
    Problem::new(
        Kind::Invalid,
        "dump_crlf",
        format!(
            "line {line} of the dump ends in carriage return and line feed: the file was converted to Windows \
             line ends, which also changes the data in it"
        ),
        "Use the original file; transfer it in binary mode.",
    )
}

fn not_a_dump(what: &str) -> Problem {
    Problem::new(
        Kind::Invalid,
        "not_a_dump",
        format!("the file is not a plain dump by pg_dump: {what}"),
        "Choose the file that pg_dump wrote, or a backup of Odoo's database manager.",
    )
}
