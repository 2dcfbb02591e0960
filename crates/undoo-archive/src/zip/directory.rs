//! The end of a ZIP: end records and central directory.
//!
//! Everything that is refused without looking at a member's data is refused here, so that an archive
//! that opened has one meaning only.

use std::io::{self, BufRead, BufReader, Read};

use undoo_core::{Kind, Problem, Result};

use super::{
    BOMB_RATIO, BOMB_SIZE, MAX_DIRECTORY, MAX_MEMBERS, Member, Method, broken, refused, u16_at, u32_at,
    u64_at,
};
use crate::{
    RangedRead,
    container::{harmless, shown},
    error::problem_of,
};

const END: &[u8] = b"PK\x05\x06";
const END64: &[u8] = b"PK\x06\x06";
const END64_LOCATOR: &[u8] = b"PK\x06\x07";
const ENTRY: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";

const END_LEN: usize = 22;
const END64_LEN: usize = 56;
const END64_LOCATOR_LEN: usize = 20;
const ENTRY_LEN: u64 = 46;
/// Length of a local header without its name and extra field.
pub(super) const LOCAL_LEN: u64 = 30;

/// The end record with the longest comment, and the two ZIP64 records before it.
const TAIL: u64 = 65_535 + (END_LEN + END64_LEN + END64_LOCATOR_LEN) as u64;

/// What the end records say.
struct End {
    entries: u64,
    offset: u64,
    size: u64,
}

/// Reads and checks the directory; the members come back by offset.
pub(super) fn read(source: &dyn RangedRead) -> Result<Vec<Member>> {
    let size = source.size();
    let tail_start = size.saturating_sub(TAIL);
    let tail = source.read_at(tail_start, (size - tail_start) as usize).map_err(problem_of)?;
    let Some(at) = find_end(&tail)? else { return Err(no_end(source, &tail)) };
    let end = read_end(&tail, tail_start, at)?;

    let mut members = if end.offset >= tail_start {
        let from = (end.offset - tail_start) as usize;
        parse(&tail[from..from + end.size as usize], &end)?
    } else {
        // The part that the tail has already is not fetched twice.
        let before_tail = (tail_start - end.offset).min(end.size);
        let in_tail = (end.size - before_tail) as usize;
        let stream = source.stream(end.offset, before_tail).map_err(problem_of)?;
        parse(BufReader::with_capacity(64 * 1024, stream).chain(&tail[..in_tail]), &end)?
    };
    members.sort_unstable_by_key(|member| member.offset);
    bound(&mut members, end.offset)?;
    Ok(members)
}

/// Where the end record starts within the tail: the one place where a record's comment ends exactly at
/// the end of the file.
fn find_end(tail: &[u8]) -> Result<Option<usize>> {
    let mut found = None;
    for at in 0..(tail.len() + 1).saturating_sub(END_LEN) {
        let comment = || usize::from(u16_at(tail, at + 20));
        if tail[at..].starts_with(END)
            && at + END_LEN + comment() == tail.len()
            && found.replace(at).is_some()
        {
            return Err(refused(
                "zip_end_ambiguous",
                "the ZIP has two end records, one inside the comment of the other".into(),
            ));
        }
    }
    Ok(found)
}

/// Why there is no end record: cut off, followed by something, or no ZIP at all.
fn no_end(source: &dyn RangedRead, tail: &[u8]) -> Problem {
    let size = source.size();
    let head = match source.read_at(0, size.min(4) as usize) {
        Ok(head) => head,
        Err(error) => return problem_of(error),
    };
    if head != LOCAL && head != END {
        return Problem::new(
            Kind::Invalid,
            "not_a_zip",
            "the file is not a ZIP",
            "Check that the right file was chosen.",
        );
    }
    let last = tail.windows(END_LEN).rposition(|window| window.starts_with(END));
    if let Some(at) = last {
        let end = at + END_LEN + usize::from(u16_at(tail, at + 20));
        if end < tail.len() {
            return broken(
                "zip_trailing_data",
                format!("the ZIP is followed by {} bytes that do not belong to it", tail.len() - end),
            );
        }
    }
    broken(
        "zip_truncated",
        format!("the ZIP ends before its directory: the download or upload was cut off at {size} bytes"),
    )
}

fn read_end(tail: &[u8], tail_start: u64, at: usize) -> Result<End> {
    let record = &tail[at..at + END_LEN];
    let disks = [u16_at(record, 4), u16_at(record, 6)];
    let entries = [u16_at(record, 8), u16_at(record, 10)];
    let mut end = End {
        entries: entries[1].into(),
        size: u32_at(record, 12).into(),
        offset: u32_at(record, 16).into(),
    };
    let mut directory_end = tail_start + at as u64;
    let several_disks = || {
        refused(
            "zip_multi_disk",
            "the ZIP is one part of an archive that was split over several disks".into(),
        )
    };

    let locator = at.checked_sub(END64_LOCATOR_LEN).filter(|at| tail[*at..].starts_with(END64_LOCATOR));
    if let Some(locator) = locator {
        let record64 = u64_at(tail, locator + 8);
        if u32_at(tail, locator + 4) != 0 || u32_at(tail, locator + 16) > 1 {
            return Err(several_disks());
        }
        let misplaced = || {
            broken(
                "zip_directory_mismatch",
                "the ZIP's ZIP64 end record is not where its locator says: bytes were added or lost before it".into(),
            )
        };
        let from = record64.checked_sub(tail_start).filter(|from| *from <= tail.len() as u64);
        let from = from.ok_or_else(misplaced)? as usize;
        if from + END64_LEN > locator
            || !tail[from..].starts_with(END64)
            || u64_at(tail, from + 4) != (locator - from - 12) as u64
        {
            return Err(misplaced());
        }
        let of64 = &tail[from..from + END64_LEN];
        if u32_at(of64, 16) != 0 || u32_at(of64, 20) != 0 || u64_at(of64, 24) != u64_at(of64, 32) {
            return Err(several_disks());
        }
        let end64 = End { entries: u64_at(of64, 32), size: u64_at(of64, 40), offset: u64_at(of64, 48) };
        // A field of the old record either gives way to ZIP64 or says the same.
        let agree = |old: u64, saturated: u64, new: u64| old == saturated || old == new;
        if !agree(end.entries, 0xffff, end64.entries)
            || !agree(end.size, 0xffff_ffff, end64.size)
            || !agree(end.offset, 0xffff_ffff, end64.offset)
        {
            return Err(refused("zip_end_ambiguous", "the ZIP's two end records disagree".into()));
        }
        end = end64;
        directory_end = record64;
    } else if disks != [0, 0] || entries[0] != entries[1] {
        return Err(several_disks());
    }

    if end.offset.checked_add(end.size) != Some(directory_end) {
        return Err(broken(
            "zip_directory_mismatch",
            format!(
                "the ZIP's directory should end at byte {directory_end} and does not: bytes were added before or inside the archive, or lost from it"
            ),
        ));
    }
    if end.size > MAX_DIRECTORY || end.entries > MAX_MEMBERS {
        return Err(refused(
            "zip_directory_too_large",
            format!(
                "the ZIP declares {} members in a directory of {} bytes; at most {MAX_MEMBERS} and {MAX_DIRECTORY} are read",
                end.entries, end.size
            ),
        ));
    }
    if end.entries > end.size / ENTRY_LEN {
        return Err(directory_broken("declares more members than its size has room for"));
    }
    Ok(end)
}

fn parse(mut input: impl BufRead, end: &End) -> Result<Vec<Member>> {
    let mut members = Vec::with_capacity(end.entries as usize);
    let mut left = end.size;
    let (mut name, mut extra) = (Vec::new(), Vec::new());
    for _ in 0..end.entries {
        let mut entry = [0; ENTRY_LEN as usize];
        take(&mut input, &mut left, &mut entry)?;
        if !entry.starts_with(ENTRY) {
            return Err(directory_broken("has something else where a member's entry should start"));
        }
        name.resize(u16_at(&entry, 28).into(), 0);
        take(&mut input, &mut left, &mut name)?;
        extra.resize(u16_at(&entry, 30).into(), 0);
        take(&mut input, &mut left, &mut extra)?;
        skip(&mut input, &mut left, u16_at(&entry, 32).into())?;
        members.push(member(&entry, &name, &extra)?);
    }
    if left != 0 {
        return Err(directory_broken("is longer than the members that it declares"));
    }
    Ok(members)
}

fn take(input: &mut impl Read, left: &mut u64, bytes: &mut [u8]) -> Result<()> {
    *left = left.checked_sub(bytes.len() as u64).ok_or_else(entry_cut)?;
    input.read_exact(bytes).map_err(problem_of)
}

fn skip(input: &mut impl BufRead, left: &mut u64, len: u64) -> Result<()> {
    *left = left.checked_sub(len).ok_or_else(entry_cut)?;
    let skipped = io::copy(&mut input.take(len), &mut io::sink()).map_err(problem_of)?;
    if skipped < len {
        return Err(problem_of(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(())
}

fn entry_cut() -> Problem {
    directory_broken("ends inside a member's entry")
}

fn directory_broken(what: &str) -> Problem {
    broken("zip_directory_broken", format!("the ZIP's directory {what}"))
}

fn member(entry: &[u8], name: &[u8], extra: &[u8]) -> Result<Member> {
    let name = harmless(name, "the ZIP")?;
    let flags = u16_at(entry, 8);
    // Bit 0: encrypted; 6: strongly; 13: the directory itself.
    if flags & (1 | 1 << 6 | 1 << 13) != 0 {
        return Err(Problem::new(
            Kind::Refused,
            "zip_member_encrypted",
            format!("\"{}\" in the ZIP is encrypted with a password", shown(name)),
            "Unpack the ZIP with its password and make a new one without, or use another backup.",
        ));
    }
    // Bit 5: compressed patched data, which no tool writes.
    if flags & 1 << 5 != 0 {
        return Err(refused("zip_member_method", format!("\"{}\" in the ZIP is a patch", shown(name))));
    }
    let method = match u16_at(entry, 10) {
        0 => Method::Stored,
        8 => Method::Deflate,
        other => {
            return Err(Problem::new(
                Kind::Invalid,
                "zip_member_method",
                format!(
                    "\"{}\" in the ZIP is compressed by method {other}; only stored and deflate are read",
                    shown(name)
                ),
                "Unpack the ZIP and make a new one with deflate.",
            ));
        }
    };
    let mode = u32_at(entry, 38) >> 16;
    let directory = name.ends_with('/');
    match mode & 0o170_000 {
        0 => {}
        0o100_000 if !directory => {}
        0o040_000 if directory => {}
        _ => {
            return Err(refused(
                "zip_member_special",
                format!(
                    "\"{}\" in the ZIP is not a file: its mode is {mode:o} (a link or a device)",
                    shown(name)
                ),
            ));
        }
    }

    let mut size = u64::from(u32_at(entry, 24));
    let mut compressed = u64::from(u32_at(entry, 20));
    let mut offset = u64::from(u32_at(entry, 42));
    let mut disk = u32::from(u16_at(entry, 34));
    widen(extra, [&mut size, &mut compressed, &mut offset], &mut disk)
        .ok_or_else(|| directory_broken(&format!("has a broken ZIP64 field for \"{}\"", shown(name))))?;
    if disk != 0 {
        return Err(refused(
            "zip_multi_disk",
            format!("\"{}\" lies on another disk of a split ZIP", shown(name)),
        ));
    }
    if (method == Method::Stored && size != compressed) || (directory && size != 0) {
        return Err(directory_broken(&format!("gives \"{}\" a size that cannot be", shown(name))));
    }
    if bomb(size, compressed) {
        return Err(refused(
            "zip_bomb",
            format!(
                "\"{}\" in the ZIP declares {size} bytes out of {compressed} compressed ones",
                shown(name)
            ),
        ));
    }
    Ok(Member { name: name.into(), offset, compressed, size, crc: u32_at(entry, 16), method, flags, end: 0 })
}

fn bomb(size: u64, compressed: u64) -> bool {
    size > BOMB_SIZE && size / compressed.max(1) > BOMB_RATIO
}

/// Takes the ZIP64 values of the fields that are saturated, in the order that the format gives them.
fn widen(extra: &[u8], fields: [&mut u64; 3], disk: &mut u32) -> Option<()> {
    let mut zip64: Option<&[u8]> = None;
    let mut rest = extra;
    // Some writers pad extra fields with less than a header's length of zeros.
    while rest.len() >= 4 {
        let (id, len) = (u16_at(rest, 0), usize::from(u16_at(rest, 2)));
        let body = rest[4..].get(..len)?;
        if id == 1 && zip64.replace(body).is_some() {
            return None;
        }
        rest = &rest[4 + len..];
    }
    let mut values = zip64.unwrap_or_default();
    for field in fields {
        if *field == 0xffff_ffff {
            let (value, rest) = values.split_at_checked(8)?;
            *field = u64_at(value, 0);
            values = rest;
        }
    }
    if *disk == 0xffff {
        *disk = u32_at(values.get(..4)?, 0);
    }
    Some(())
}

/// Gives each member its end, and refuses those that reach into the next one.
fn bound(members: &mut [Member], directory: u64) -> Result<()> {
    let mut end = directory;
    let (mut size, mut compressed) = (0_u64, 0_u64);
    for member in members.iter_mut().rev() {
        // The local header's extra field is not known yet; reading the member checks the rest.
        let needs = (LOCAL_LEN + member.name.len() as u64).checked_add(member.compressed);
        if needs.and_then(|needs| member.offset.checked_add(needs)).is_none_or(|reach| reach > end) {
            return Err(refused(
                "zip_member_overlap",
                format!(
                    "\"{}\" in the ZIP reaches into the next member or the directory",
                    shown(&*member.name)
                ),
            ));
        }
        member.end = end;
        end = member.offset;
        size = size.saturating_add(member.size);
        compressed = compressed.saturating_add(member.compressed);
    }
    if bomb(size, compressed) {
        return Err(refused(
            "zip_bomb",
            format!("the ZIP's members declare {size} bytes out of {compressed} compressed ones"),
        ));
    }
    Ok(())
}
