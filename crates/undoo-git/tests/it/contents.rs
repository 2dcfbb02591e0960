//! What repositories have in them, also those that mean harm.

use std::{fs, path::PathBuf};

use undoo_core::platform::AddonsOrigin;
use undoo_git::Limits;
use undoo_testing::git::{GitServer, Repository};

use crate::support::{Got, LIMITS, MANIFEST, fetch, origin, plain};

fn paths(of: &[&str]) -> Vec<PathBuf> {
    of.iter().map(PathBuf::from).collect()
}

fn in_folder(repository: &Repository, folder: &str) -> Got {
    let origin = AddonsOrigin { folder: Some(folder.to_owned()), ..origin(repository, None) };
    fetch(origin, None, LIMITS)
}

#[test]
fn modules_are_found_wherever_they_lie_and_not_in_each_other() {
    let server = GitServer::public();
    let web = server.repository("web");
    web.commit(&[
        ("one/__manifest__.py", MANIFEST),
        ("one/inner/__manifest__.py", MANIFEST),
        ("old/two/__openerp__.py", MANIFEST),
        ("a/b/c/d/e/six/__manifest__.py", MANIFEST),
        ("a/b/c/d/e/f/seven/__manifest__.py", MANIFEST),
        (".github/three/__manifest__.py", MANIFEST),
        ("docs/__manifest__.py/note", "a folder of that name"),
        ("docs/page/text", "none"),
    ]);
    let got = plain(&web, None);
    assert_eq!(got.folders().unwrap(), paths(&["", "a/b/c/d/e", "old"]));
}

#[test]
fn a_folder_of_the_repository_is_looked_into_alone() {
    let server = GitServer::public();
    let web = server.repository("web");
    web.commit(&[("one/__manifest__.py", MANIFEST), ("addons/19/two/__manifest__.py", MANIFEST)]);
    assert_eq!(in_folder(&web, "addons/19/").folders().unwrap(), paths(&["addons/19"]));
    assert_eq!(in_folder(&web, "addons").folders().unwrap(), paths(&["addons/19"]));
    assert_eq!(in_folder(&web, "addons/19/two").folders().unwrap(), paths(&["addons/19/two"]));
    for missing in ["addons/20", "one/__manifest__.py", ".git"] {
        let problem = in_folder(&web, missing).folders().unwrap_err();
        assert_eq!(problem.code, "addons_folder_missing");
        assert!(problem.message.contains(missing) && problem.message.contains(&web.url), "{problem}");
    }
}

#[test]
fn a_repository_may_be_one_module_and_one_without_any_is_told() {
    let server = GitServer::public();
    let (web, docs) = (server.repository("web"), server.repository("docs"));
    web.commit(&[("__manifest__.py", MANIFEST), ("sub/__manifest__.py", MANIFEST)]);
    docs.commit(&[("README.md", "words")]);
    assert_eq!(plain(&web, None).folders().unwrap(), paths(&[""]));
    assert_eq!(plain(&docs, None).folders().unwrap_err().code, "addons_origin_empty");
}

#[test]
fn submodules_are_named_and_not_fetched() {
    let server = GitServer::public();
    let (web, other) = (server.repository("web"), server.repository("other"));
    let commit = other.commit(&[("two/__manifest__.py", MANIFEST)]);
    web.commit(&[("one/__manifest__.py", MANIFEST), (".gitmodules", "[submodule]")]);
    web.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},third/party")]);
    web.git(&["commit", "-q", "-m", "a submodule"]);
    let got = plain(&web, None);
    assert_eq!(got.ok().submodules(), ["third/party"]);
    assert_eq!(got.names("web/third/party"), Vec::<String>::new());
    assert_eq!(got.folders().unwrap(), paths(&[""]));
    assert!(server.seen().iter().all(|seen| !seen.line.contains("other")));
}

#[test]
fn a_link_out_of_the_repository_is_kept_as_a_link_and_never_followed() {
    let server = GitServer::public();
    let web = server.repository("web");
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir_all(outside.path().join("secret")).unwrap();
    fs::write(outside.path().join("secret/__manifest__.py"), MANIFEST).unwrap();
    std::os::unix::fs::symlink(outside.path(), web.folder.join("out")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), web.folder.join("module")).unwrap();
    web.commit(&[("mine/one/__manifest__.py", MANIFEST)]);
    let got = plain(&web, None);
    assert_eq!(fs::read_link(got.ok().root.join("out")).unwrap(), outside.path());
    assert_eq!(got.folders().unwrap(), paths(&["mine"]));
    assert_eq!(in_folder(&web, "out").folders().unwrap_err().code, "addons_folder_missing");
}

/// Makes the branch `main` point to a commit of a tree that `git add` would not make.
fn forge(repository: &Repository, entries: &[(&str, &str, &str)]) {
    let mut tree = Vec::new();
    for (mode, name, id) in entries {
        tree.extend_from_slice(format!("{mode} {name}\0").as_bytes());
        let digits = (0..40).step_by(2).map(|at| u8::from_str_radix(&id[at..at + 2], 16).unwrap());
        tree.extend(digits);
    }
    let path = repository.folder.join(".git/forged");
    fs::write(&path, tree).unwrap();
    let path = path.to_str().unwrap();
    let tree = repository.git(&["hash-object", "-t", "tree", "-w", "--literally", path]);
    let commit = repository.git(&["commit-tree", "-m", "forged", &tree]);
    repository.git(&["update-ref", "refs/heads/main", &commit]);
}

#[test]
fn names_that_would_lead_elsewhere_are_refused() {
    let server = GitServer::public();
    for (index, name) in ["..", ".git", ".GIT", ".git ", "a/b"].iter().enumerate() {
        let web = server.repository(&format!("web{index}"));
        web.commit(&[("sub/config", "[core]\n\tfsmonitor = evil\n")]);
        let tree = web.git(&["rev-parse", "HEAD:sub"]);
        forge(&web, &[("40000", name, &tree)]);
        assert_eq!(plain(&web, None).code(), "addons_origin_unsafe", "{name}");
    }
}

#[test]
fn nothing_is_written_through_a_link_of_the_same_tree() {
    let server = GitServer::public();
    let web = server.repository("web");
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), web.folder.join("link")).unwrap();
    web.commit(&[("sub/file", "evil")]);
    let (link, tree) = (web.git(&["rev-parse", "HEAD:link"]), web.git(&["rev-parse", "HEAD:sub"]));
    forge(&web, &[("120000", "a", &link), ("40000", "a", &tree)]);
    assert_eq!(plain(&web, None).code(), "addons_origin_unsafe");
    assert!(fs::read_dir(outside.path()).unwrap().next().is_none());
}

#[test]
fn attributes_change_no_byte() {
    let server = GitServer::public();
    let web = server.repository("web");
    web.commit(&[("a.py", "x = '$Id$'\n"), (".gitattributes", "*.py filter=lfs ident eol=crlf\n")]);
    assert_eq!(plain(&web, None).read("a.py"), "x = '$Id$'\n");
}

#[test]
fn what_is_too_large_is_refused_by_what_comes_and_by_what_it_becomes() {
    let server = GitServer::public();
    let (noise, zeros) = (server.repository("noise"), server.repository("zeros"));
    let mut state = 1_u64;
    let random: String = (0..200_000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b' ' + u8::try_from(state >> 58).unwrap())
        })
        .collect();
    noise.commit(&[("big", &random)]);
    zeros.commit(&[("big", &"0".repeat(200_000)), ("copy", &"0".repeat(200_000))]);
    let limits = |bytes| Limits { bytes, ..LIMITS };
    let got = fetch(origin(&noise, None), None, limits(100_000));
    assert_eq!(got.code(), "addons_origin_too_large");
    assert!(got.message().contains("come from its server"), "{}", got.message());
    let got = fetch(origin(&zeros, None), None, limits(300_000));
    assert_eq!(got.code(), "addons_origin_too_large");
    assert!(got.message().contains("its files"), "{}", got.message());
    assert_eq!(fetch(origin(&zeros, None), None, limits(400_000)).read("copy").len(), 200_000);
    let got = fetch(origin(&zeros, None), None, Limits { file: 100_000, ..LIMITS });
    assert_eq!(got.code(), "addons_origin_too_large");
    assert!(got.message().contains("a file of more than"), "{}", got.message());
}

#[test]
fn many_folders_out_of_few_bytes_end_before_the_disk_does() {
    let server = GitServer::public();
    let web = server.repository("web");
    web.commit(&[("file", "x")]);
    let mut id = web.git(&["rev-parse", "HEAD:file"]);
    let mut mode = "100644";
    // Ten to the eighth files.
    for _ in 0..8 {
        let names: Vec<String> = (0..10).map(|name| format!("f{name}")).collect();
        let entries: Vec<_> = names.iter().map(|name| (mode, name.as_str(), id.as_str())).collect();
        forge(&web, &entries);
        id = web.git(&["rev-parse", "refs/heads/main^{tree}"]);
        mode = "40000";
    }
    let limits = Limits { bytes: 2_000, ..LIMITS };
    assert_eq!(fetch(origin(&web, None), None, limits).code(), "addons_origin_too_large");
}
