//! Why a repository was not fetched, as problems. None of them has what opens it.

use std::{io, time::Duration};

use undoo_core::{
    Kind, Problem,
    platform::{AddonsOrigin, AddonsSource},
};

/// The repository in a sentence.
pub(crate) fn named(origin: &AddonsOrigin) -> String {
    format!("the git repository \"{}\"", origin.url)
}

pub(crate) fn denied(source: &AddonsSource) -> Problem {
    let named = named(&source.origin);
    let (message, remedy) = match source.token {
        None => (
            format!("{named} is not public, or not there: its server asks for a token, and none was given"),
            "Check the address; give a token that may read it.",
        ),
        Some(_) => (
            format!("the server of {named} does not take the token that was given"),
            "Give a token that may read the repository and has not expired, with its user where the server asks for one.",
        ),
    };
    Problem::new(Kind::Denied, "addons_origin_denied", message, remedy)
}

pub(crate) fn missing(source: &AddonsSource) -> Problem {
    let named = named(&source.origin);
    // Many servers say of a private repository that there is none.
    let (message, remedy) = match source.token {
        None => (
            format!("{named} is not there"),
            "Check the address; one that is not public needs a token that may read it.",
        ),
        Some(_) => (
            format!("{named} is not there, or the token may not read it"),
            "Check the address, and what the token may read.",
        ),
    };
    Problem::new(Kind::Missing, "addons_origin_missing", message, remedy)
}

/// The address leads to something else.
pub(crate) fn no_repository(origin: &AddonsOrigin) -> Problem {
    let message = format!("{} is none: what answers there does not speak git over HTTP", named(origin));
    let remedy = "Give the address that `git clone` takes.";
    Problem::new(Kind::Missing, "addons_origin_missing", message, remedy)
}

pub(crate) fn reference_missing(origin: &AddonsOrigin) -> Problem {
    let named = named(origin);
    let (message, remedy) = match &origin.reference {
        Some(reference) => (
            format!("{named} has no branch, tag or commit \"{reference}\" that its server gives out"),
            "Check its name; a commit has to be part of a branch.",
        ),
        None => (
            format!("{named} has no commit on a default branch"),
            "Name the branch or tag, or push a commit first.",
        ),
    };
    Problem::new(Kind::Missing, "addons_reference_missing", message, remedy)
}

pub(crate) fn folder_missing(origin: &AddonsOrigin) -> Problem {
    let folder = origin.folder.as_deref().unwrap_or_default();
    let message = format!("{} has no folder \"{folder}\" in what was fetched", named(origin));
    let remedy = "Name a folder that this branch, tag or commit has, and not a link to one.";
    Problem::new(Kind::Missing, "addons_folder_missing", message, remedy)
}

pub(crate) fn empty(origin: &AddonsOrigin) -> Problem {
    let place = match &origin.folder {
        Some(folder) => format!("the folder \"{folder}\" of {}", named(origin)),
        None => named(origin),
    };
    Problem::new(
        Kind::Invalid,
        "addons_origin_empty",
        format!("{place} has no module: no folder in it has a `__manifest__.py`"),
        "Name the branch, tag or folder that has the modules.",
    )
}

/// `why` completes "the git repository … could not be fetched: ".
pub(crate) fn unreachable(origin: &AddonsOrigin, why: &str, remedy: &str) -> Problem {
    let message = format!("{} could not be fetched: {why}", named(origin));
    Problem::new(Kind::Unavailable, "addons_origin_unreachable", message, remedy)
}

/// Where a redirect leads to is told, and not who may get in there.
pub(crate) fn redirected(origin: &AddonsOrigin, target: Option<reqwest::Url>) -> Problem {
    let why = match target {
        Some(mut target) => {
            let _ = target.set_username("");
            let _ = target.set_password(None);
            target.set_query(None);
            let plain = target.as_str().trim_end_matches("/info/refs");
            format!("its server leads on to \"{plain}\", which is not followed")
        }
        None => "its server leads on to elsewhere, which is not followed".to_owned(),
    };
    unreachable(origin, &why, "Give the address as it is now: often with `.git` at its end, or with `https`.")
}

/// What `git` itself would not have sent, or not all of it.
pub(crate) fn not_understood(origin: &AddonsOrigin) -> Problem {
    unreachable(origin, "its server broke off, or sent what is not git's", "Try again.")
}

pub(crate) fn out_of_reach(origin: &AddonsOrigin) -> Problem {
    let message = format!(
        "{} is on an address that Undoo does not connect to: its own machine, or none",
        named(origin)
    );
    let remedy = "Give the address of another machine.";
    Problem::new(Kind::Denied, "addons_origin_out_of_reach", message, remedy)
}

pub(crate) fn too_large(origin: &AddonsOrigin, what: &str) -> Problem {
    let message = format!("{} is too large: {what}", named(origin));
    let remedy = "Keep the modules in a repository of their own, without large files.";
    Problem::new(Kind::Refused, "addons_origin_too_large", message, remedy)
}

pub(crate) fn timeout(origin: &AddonsOrigin, patience: Duration) -> Problem {
    let message = format!("{} was not fetched within {} seconds", named(origin), patience.as_secs());
    let remedy = "See how this machine reaches its server, and try again.";
    Problem::new(Kind::Unavailable, "addons_origin_timeout", message, remedy)
}

pub(crate) fn hostile(origin: &AddonsOrigin, path: &str) -> Problem {
    let message = format!("{} has a file or folder that may not be written: {path:?}", named(origin));
    let remedy = "Find out who made it so: git itself refuses such a name as well.";
    Problem::new(Kind::Refused, "addons_origin_unsafe", message, remedy)
}

pub(crate) fn not_written(origin: &AddonsOrigin, error: io::Error) -> Problem {
    let message = format!("{} could not be written to the disk of this machine", named(origin));
    let remedy = "See that there is room in the folder for temporary files, and that it may be written.";
    Problem::new(Kind::Unavailable, "addons_not_written", message, remedy).caused_by(error)
}
