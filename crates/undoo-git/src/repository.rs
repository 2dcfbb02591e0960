//! One commit out of a repository, by git's protocol.

use std::{fs, num::NonZeroU32, path::Path, sync::Arc};

use gix::{
    ObjectId, Repository,
    bstr::ByteSlice as _,
    config::File,
    open,
    progress::Discard,
    protocol::fetch::{Shallow, Tags, refmap},
    remote::Direction,
};
use gix_transport::{Protocol, client::blocking_io::http::Transport};
use undoo_core::{
    Problem, Result,
    platform::{AddonsOrigin, AddonsSource},
};

use crate::{
    Limits,
    checkout::Checkout,
    failure,
    http::{Connection, Link},
    watch::Watch,
};

/// Hex digits of a commit's name.
const COMMIT_LENGTH: usize = 40;

/// Fetches what is asked for into an empty folder; answers the commit, and the paths of submodules.
pub(crate) fn fetch(
    source: &AddonsSource,
    root: &Path,
    limits: Limits,
    watch: &Arc<Watch>,
) -> Result<(String, Vec<String>)> {
    let origin = &source.origin;
    let repository = create(origin, root, limits).map_err(|error| at_disk(origin, error))?;
    let link = Arc::new(Link::new(source, limits, watch)?);
    let found = candidates(origin).into_iter().find_map(|name| {
        let got = receive(&repository, origin, &link, &name, watch);
        got.map_err(|error| during_fetch(origin, error)).transpose()
    });
    let Got { id, branch } = found.unwrap_or_else(|| Err(failure::reference_missing(origin)))?;
    let commit = repository
        .find_object(id)
        .and_then(|object| object.peel_to_commit())
        .map_err(|error| failure::reference_missing(origin).caused_by(error))?;
    let tree = commit.tree_id().map_err(|error| failure::not_understood(origin).caused_by(error))?;
    let commit = commit.id.to_string();
    let submodules = Checkout::new(&repository, origin, limits, watch).into(root, tree.detach())?;
    describe(&repository, &commit, branch.as_deref()).map_err(|error| failure::not_written(origin, error))?;
    Ok((commit, submodules))
}

/// The names to try, in turn, as the server has them.
fn candidates(origin: &AddonsOrigin) -> Vec<String> {
    match origin.reference.as_deref() {
        None => vec!["HEAD".to_owned()],
        Some(name) if name.starts_with("refs/") => vec![name.to_owned()],
        Some(name) if name.len() == COMMIT_LENGTH && name.chars().all(|c| c.is_ascii_hexdigit()) => {
            vec![name.to_ascii_lowercase()]
        }
        Some(name) => vec![format!("refs/heads/{name}"), format!("refs/tags/{name}")],
    }
}

fn create(origin: &AddonsOrigin, root: &Path, limits: Limits) -> gix::Result<Repository> {
    // What is inflated has to fit as well as what is sent.
    let bound = format!("gitoxide.objects.allocLimit={}", limits.bytes);
    let options = open::Options::isolated().config_overrides([bound]);
    let kind = gix::create::Kind::WithWorktree;
    let repository = gix::ThreadSafeRepository::init_opts(root, kind, Default::default(), options)?;
    let repository = repository.to_thread_local();
    let path = repository.git_dir().join("config");
    let mut config = File::from_path_no_includes(path.clone(), gix::config::Source::Local)?;
    repository
        .remote_at_without_url_rewrite(origin.url.as_str())?
        .with_refspecs(["+refs/heads/*:refs/remotes/origin/*"], Direction::Fetch)?
        .save_as_to("origin", &mut config)?;
    let mut text = Vec::new();
    config.write_to(&mut text).and_then(|()| fs::write(path, text)).map_err(gix::Error::from_error)?;
    Ok(repository)
}

/// What was received.
struct Got {
    id: ObjectId,
    /// The branch that it is the end of, in full.
    branch: Option<String>,
}

/// Nothing if the server has no reference of this name.
fn receive(
    repository: &Repository,
    origin: &AddonsOrigin,
    link: &Arc<Link>,
    name: &str,
    watch: &Watch,
) -> gix::Result<Option<Got>> {
    let remote = repository
        .remote_at_without_url_rewrite(origin.url.as_str())?
        .with_refspecs([name], Direction::Fetch)?
        .with_fetch_tags(Tags::None);
    let url = gix::url::parse(origin.url.as_str())?;
    let transport = Transport::new_http(Connection(Arc::clone(link)), url, Protocol::V2, false);
    let prepared = remote
        .to_connection_with_transport(transport)
        .with_credentials(|_| Ok(None))
        .prepare_fetch(Discard, Default::default())?;
    let Some((id, branch)) = prepared.ref_map().mappings.iter().find_map(|mapping| wanted(&mapping.remote))
    else {
        return Ok(None);
    };
    prepared.with_shallow(Shallow::DepthAtRemote(NonZeroU32::MIN)).receive(Discard, watch.flag())?;
    Ok(Some(Got { id, branch }))
}

fn wanted(remote: &refmap::Source) -> Option<(ObjectId, Option<String>)> {
    let id = remote.as_id()?.to_owned();
    let name = remote.as_target().or_else(|| remote.as_name());
    // A name that a server has made up is written down only if it is one.
    let name = name.and_then(|name| gix::validate::reference::name(name).ok());
    let branch = name.and_then(|name| name.to_str().ok()).filter(|name| name.starts_with("refs/heads/"));
    Some((id, branch.map(str::to_owned)))
}

/// Says in git's own files what is checked out, for who looks there.
fn describe(repository: &Repository, commit: &str, branch: Option<&str>) -> std::io::Result<()> {
    let directory = repository.git_dir();
    let write = |name: &str, text: String| fs::write(directory.join(name), text);
    match branch {
        Some(branch) => {
            write("packed-refs", format!("{commit} {branch}\n"))?;
            write("HEAD", format!("ref: {branch}\n"))
        }
        None => write("HEAD", format!("{commit}\n")),
    }
}

fn at_disk(origin: &AddonsOrigin, error: gix::Error) -> Problem {
    failure::not_written(origin, std::io::Error::other(error))
}

/// What neither the connection nor the watch has named.
fn during_fetch(origin: &AddonsOrigin, error: gix::Error) -> Problem {
    let full = undoo_storage::web::find::<std::io::Error>(&error).is_some_and(|error| {
        matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::PermissionDenied)
    });
    if full {
        return at_disk(origin, error);
    }
    // How git's servers refuse a commit that they have not, or do not give out.
    let told = format!("{error:?}");
    let problem =
        match ["not our ref", "no such", "unadvertised object"].iter().any(|word| told.contains(word)) {
            true => failure::reference_missing(origin),
            false => failure::not_understood(origin),
        };
    problem.caused_by(error)
}
