//! Which member names are harmless, for ZIP, tar and folders alike.
//!
//! Names are never turned into paths on a disk by this project. They are refused here all the same: an
//! honest backup has no such names, and an archive that has them was made to do harm to someone.

use undoo_core::{Kind, Problem, Result};

/// Longer names than Linux's `PATH_MAX` are in no honest archive.
pub(crate) const MAX_NAME: usize = 4096;

/// A name as it can be shown in a message: on one line, escaped, and not longer than a message bears.
pub(crate) fn shown(name: impl AsRef<[u8]>) -> String {
    let text = String::from_utf8_lossy(name.as_ref());
    let mut escaped: String = text.chars().take(160).flat_map(char::escape_debug).collect();
    if text.chars().nth(160).is_some() {
        escaped.push('…');
    }
    escaped
}

/// Takes a member's name if it is a relative path of plain components; a trailing slash (a directory)
/// is fine. `place` names the container for the message, such as `the ZIP`.
///
/// # Errors
/// `Refused`, with one code for each way in which a name is not harmless.
pub(crate) fn harmless<'a>(bytes: &'a [u8], place: &str) -> Result<&'a str> {
    let refuse = |code, what: &str| {
        Err(Problem::new(
            Kind::Refused,
            code,
            format!("a member of {place}, \"{}\", {what}", shown(bytes)),
            "No backup tool writes such a name. Find out where this backup comes from before you use it.",
        ))
    };
    if bytes.is_empty() {
        return refuse("member_name_empty", "has an empty name");
    }
    if bytes.len() > MAX_NAME {
        return refuse("member_name_too_long", "has a name of more than 4096 bytes");
    }
    let Ok(name) = std::str::from_utf8(bytes) else {
        return refuse("member_name_not_utf8", "has a name that is not UTF-8");
    };
    if name.chars().any(char::is_control) {
        return refuse("member_name_control", "has a control character in its name");
    }
    if name.contains('\\') {
        return refuse("member_name_backslash", "has a backslash in its name");
    }
    let drive = bytes.get(1) == Some(&b':') && bytes[0].is_ascii_alphabetic();
    if name.starts_with('/') || drive {
        return refuse("member_name_absolute", "has an absolute path for a name");
    }
    for component in name.strip_suffix('/').unwrap_or(name).split('/') {
        match component {
            ".." => return refuse("member_name_climbs", "climbs out of its folder with \"..\""),
            "" | "." => return refuse("member_name_empty", "has an empty part or \".\" in its path"),
            _ => {}
        }
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_backup_tools_write_are_harmless() {
        for name in ["dump.sql", "filestore/", "filestore/b1/b158", "addons/x/..data", "a/été.txt"] {
            assert!(harmless(name.as_bytes(), "the ZIP").is_ok(), "{name}");
        }
    }

    #[test]
    fn each_harmful_name_has_its_code() {
        let long = vec![b'a'; MAX_NAME + 1];
        let cases: &[(&[u8], &str)] = &[
            (b"", "member_name_empty"),
            (b"a//b", "member_name_empty"),
            (b"./a", "member_name_empty"),
            (b"/etc/passwd", "member_name_absolute"),
            (b"C:/x", "member_name_absolute"),
            (b"..", "member_name_climbs"),
            (b"a/../b", "member_name_climbs"),
            (b"a/..", "member_name_climbs"),
            (b"a\\b", "member_name_backslash"),
            (b"a\0b", "member_name_control"),
            (b"a\nb", "member_name_control"),
            ("a\u{85}b".as_bytes(), "member_name_control"),
            (b"a\xff", "member_name_not_utf8"),
            (&long, "member_name_too_long"),
        ];
        for (name, code) in cases {
            let code_of = |problem: Problem| problem.code;
            assert_eq!(harmless(name, "the ZIP").err().map(code_of), Some(*code), "{}", shown(name));
        }
    }

    #[test]
    fn a_shown_name_is_one_short_line() {
        let shown = shown(b"a\n\x1b[31m".repeat(100));
        assert!(!shown.contains(['\n', '\x1b']) && shown.len() < 1200);
    }
}
