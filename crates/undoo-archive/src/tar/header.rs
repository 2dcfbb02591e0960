//! The blocks that describe an entry: ustar's and GNU's header, and pax records.

use super::{BLOCK, MAX_OCTAL};

/// The part of a header that matters for a filestore.
pub(super) struct Header {
    pub(super) name: Vec<u8>,
    pub(super) size: u64,
    /// The type flag.
    pub(super) kind: u8,
}

impl Header {
    /// Takes a header apart. The error completes a sentence about the archive.
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Self, &'static str> {
        let ustar = &block[257..265] == b"ustar\x0000";
        if !ustar && &block[257..265] != b"ustar  \0" {
            return Err("has something else where a header should be");
        }
        let blank = |index: usize| (148..156).contains(&index);
        let sum: u64 =
            block.iter().enumerate().map(|(at, byte)| if blank(at) { 32 } else { u64::from(*byte) }).sum();
        if octal(&block[148..156]) != Some(sum) {
            return Err("has a header whose checksum is wrong");
        }
        let mut name = until_nul(&block[..100]).to_vec();
        let prefix = until_nul(&block[345..500]);
        // GNU tar keeps times where POSIX keeps the front of a long name.
        if ustar && !prefix.is_empty() {
            name = [prefix, b"/", &name].concat();
        }
        let size = number(&block[124..136]).ok_or("has a header whose size is no number")?;
        Ok(Self { name, size, kind: block[156] })
    }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn octal(field: &[u8]) -> Option<u64> {
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|byte| matches!(byte, 0 | b' ')).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    let well_ended = rest.iter().all(|byte| matches!(byte, 0 | b' '));
    if digits.is_empty() || !well_ended || !digits.iter().all(|digit| (b'0'..=b'7').contains(digit)) {
        return None;
    }
    // Twelve digits at most: 36 bits.
    Some(digits.iter().fold(0, |value, digit| value << 3 | u64::from(digit - b'0')))
}

/// An octal number, or GNU's base-256 one where octal does not reach.
fn number(field: &[u8]) -> Option<u64> {
    match field.split_first()? {
        (0x80, rest) => {
            let value = rest
                .iter()
                .try_fold(0_u64, |value, byte| Some(value.checked_mul(256)? | u64::from(*byte)))?;
            // What octal could have said is said in octal by every honest writer.
            (value > MAX_OCTAL && value < i64::MAX as u64).then_some(value)
        }
        _ => octal(field),
    }
}

/// What pax records say about the next entry.
#[derive(Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) sparse: bool,
}

impl Pax {
    /// Reads records of the form `LENGTH KEY=VALUE\n`. The error completes a sentence about the archive.
    pub(super) fn parse(mut body: &[u8]) -> Result<Self, &'static str> {
        const BROKEN: &str = "has a broken pax header";
        let mut pax = Self::default();
        while !body.is_empty() {
            let space = body.iter().take(10).position(|byte| *byte == b' ').ok_or(BROKEN)?;
            let len: usize = decimal(&body[..space]).and_then(|len| len.try_into().ok()).ok_or(BROKEN)?;
            let (record, rest) = body.split_at_checked(len).ok_or(BROKEN)?;
            let record =
                record.get(space + 1..).and_then(|record| record.strip_suffix(b"\n")).ok_or(BROKEN)?;
            let equals = record.iter().position(|byte| *byte == b'=').filter(|at| *at > 0).ok_or(BROKEN)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            let twice = match key {
                b"path" => pax.path.replace(value.to_vec()).is_some(),
                b"size" => {
                    let size = decimal(value).filter(|size| *size < i64::MAX as u64).ok_or(BROKEN)?;
                    pax.size.replace(size).is_some()
                }
                _ => {
                    pax.sparse |= key.starts_with(b"GNU.sparse.");
                    false
                }
            };
            if twice {
                return Err("has a pax header that says one thing twice");
            }
            body = rest;
        }
        Ok(pax)
    }

    /// Whether anything in it matters for a filestore.
    pub(super) fn says_something(&self) -> bool {
        self.path.is_some() || self.size.is_some() || self.sparse
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
