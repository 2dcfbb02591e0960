//! Branches, tags and commits, as people name them.

use undoo_core::Kind;
use undoo_testing::git::GitServer;

use crate::support::{MANIFEST, plain};

#[test]
fn the_default_branch_comes_with_its_files_and_says_where_it_is_from() {
    let server = GitServer::public();
    let web = server.repository("web");
    web.commit(&[("one/__manifest__.py", "old")]);
    let commit = web.commit(&[("one/__manifest__.py", MANIFEST), ("run.sh", "#!/bin/sh\n")]);
    let got = plain(&web, None);
    assert_eq!(got.ok().commit, commit);
    assert_eq!(got.ok().root, got.folder.path().join("web"));
    assert_eq!(got.read("one/__manifest__.py"), MANIFEST);
    assert_eq!(got.names("web"), [".git", "one", "run.sh"]);
    let config = got.read(".git/config");
    assert!(config.contains("[remote \"origin\"]") && config.contains(&web.url), "{config}");
    assert_eq!(got.read(".git/HEAD"), "ref: refs/heads/main\n");
    assert_eq!(got.read(".git/packed-refs"), format!("{commit} refs/heads/main\n"));
    // The one before is not there.
    assert_eq!(got.read(".git/shallow").trim(), commit);
}

#[test]
fn git_itself_reads_what_was_fetched() {
    let server = GitServer::public();
    let web = server.repository("web");
    let commit = web.commit(&[("one/__manifest__.py", MANIFEST)]);
    let got = plain(&web, None);
    let root = got.ok().root.to_str().unwrap();
    assert_eq!(web.git(&["-C", root, "log", "--format=%H"]), commit);
    assert_eq!(web.git(&["-C", root, "fsck", "--strict"]), "");
    assert_eq!(web.git(&["-C", root, "remote", "get-url", "origin"]), web.url);
}

#[test]
fn a_branch_goes_before_a_tag_of_its_name_and_is_fetched_anew_when_it_has_moved() {
    let server = GitServer::public();
    let web = server.repository("web");
    let first = web.commit(&[("a", "1")]);
    web.git(&["tag", "19.0"]);
    web.git(&["checkout", "-q", "-b", "19.0"]);
    let second = web.commit(&[("a", "2")]);
    assert_eq!(plain(&web, Some("19.0")).ok().commit, second);
    assert_eq!(plain(&web, Some("refs/tags/19.0")).ok().commit, first);
    assert_eq!(plain(&web, Some("refs/heads/main")).ok().commit, first);
    let third = web.commit(&[("a", "3")]);
    let got = plain(&web, Some("19.0"));
    assert_eq!((got.ok().commit.as_str(), got.read("a").as_str()), (third.as_str(), "3"));
    assert_eq!(got.read(".git/HEAD"), "ref: refs/heads/19.0\n");
}

#[test]
fn a_tag_with_a_message_stands_for_its_commit() {
    let server = GitServer::public();
    let web = server.repository("web");
    let commit = web.commit(&[("a", "1")]);
    web.git(&["tag", "-a", "-m", "release", "v1/2"]);
    web.commit(&[("a", "2")]);
    let got = plain(&web, Some("v1/2"));
    assert_eq!((got.ok().commit.as_str(), got.read("a").as_str()), (commit.as_str(), "1"));
    assert_eq!(got.read(".git/HEAD"), format!("{commit}\n"));
}

#[test]
fn a_commit_is_fetched_by_its_name_though_no_branch_ends_there() {
    let server = GitServer::public();
    let web = server.repository("web");
    let commit = web.commit(&[("a", "1")]);
    web.commit(&[("a", "2")]);
    let got = plain(&web, Some(&commit));
    assert_eq!((got.ok().commit.as_str(), got.read("a").as_str()), (commit.as_str(), "1"));
    assert_eq!(got.read(".git/HEAD"), format!("{commit}\n"));
}

#[test]
fn what_the_repository_has_not_is_named() {
    let server = GitServer::public();
    let web = server.repository("web");
    web.commit(&[("a", "1")]);
    for reference in ["20.0", "refs/heads/20.0", "mai", "0123456789012345678901234567890123456789"] {
        let got = plain(&web, Some(reference));
        assert_eq!(got.code(), "addons_reference_missing", "{reference}: {:?}", got.fetched);
        assert!(got.message().contains(reference), "{}", got.message());
    }
    // A tree is no commit.
    let tree = web.git(&["rev-parse", "HEAD^{tree}"]);
    web.git(&["tag", "a-tree", &tree]);
    assert_eq!(plain(&web, Some("a-tree")).code(), "addons_reference_missing");
}

#[test]
fn a_repository_without_a_commit_has_nothing_to_give() {
    let server = GitServer::public();
    let got = plain(&server.repository("web"), None);
    assert_eq!(got.code(), "addons_reference_missing");
    assert_eq!(got.fetched.unwrap_err().kind, Kind::Missing);
}
