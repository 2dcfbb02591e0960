//! Which files of custom modules a backup takes, under which names, and what it says of their origin.

use std::os::unix::fs::symlink;

use super::*;

fn put(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    fs::write(path, text).expect("written");
}

#[test]
fn folders_of_the_same_name_get_names_of_their_own() {
    let paths = ["/a/addons", "/b/addons/", "/c/addons-2", "/d/addons", "/", "/e/extra"];
    let named = AddonsFolder::named(paths.map(PathBuf::from).to_vec());
    let folders: Vec<_> = named.iter().map(|named| named.folder.as_str()).collect();
    assert_eq!(folders, ["addons", "addons-2", "addons-2-2", "addons-3", "addons-4", "extra"]);
    let here = AddonsFolder::named(vec![".".into()]);
    assert_eq!(here[0].folder, "undoo-engine", "{here:?}");
}

#[test]
fn modules_are_found_with_what_they_ask_for_and_where_they_came_from() {
    let root = tempfile::tempdir().expect("a folder");
    let (addons, elsewhere) = (root.path().join("repo/addons"), root.path().join("elsewhere"));
    put(&addons, "acme/__manifest__.py", "{'version': '1.0', 'external_dependencies': {'python': ['xlrd']}}");
    put(&addons, "acme/models/a.py", "a");
    put(&addons, "acme/models/__pycache__/a.pyc", "bytes");
    put(&addons, "requirements.txt", "# packages\nrequests==2.0  # why\n-i https://u:geheim@h/simple\n\n");
    put(&addons, "wheels/xlrd-1.0-py3-none-any.whl", "PK");
    put(&addons, "wheels/notes.txt", "geheim");
    put(&addons, "lxml-1.0-py3-none-any.whl", "PK");
    put(&elsewhere, "__manifest__.py", "{'name': 'elsewhere'}");
    put(&addons, "acme/.env", "PASSWORD=geheim");
    put(&addons, "keys/id_ed25519", "geheim");
    symlink(&elsewhere, addons.join("leads_out")).expect("linked");
    symlink(addons.join("acme"), addons.join("again")).expect("linked");
    symlink(&addons, addons.join("acme/circle")).expect("linked");
    let repo = root.path().join("repo");
    put(&repo, ".git/HEAD", "ref: refs/heads/19.0\n");
    put(&repo, ".git/packed-refs", "# pack-refs\n0123456789abcdef0123456789abcdef01234567 refs/heads/19.0\n");
    put(&repo, ".git/config", "[remote \"origin\"]\n\turl = https://token@git.example/acme.git\n");
    put(&repo, "requirements.txt", "lxml\n");

    let found = collect(&[AddonsFolder { path: addons.clone(), folder: "extra".into() }]);
    let has = |name: &str| found.files.contains_key(name);
    assert!(
        has("extra/acme/__manifest__.py") && has("extra/acme/models/a.py") && has("extra/again/models/a.py")
    );
    assert!(has("extra/wheels/xlrd-1.0-py3-none-any.whl") && has("extra/lxml-1.0-py3-none-any.whl"));
    let others = ["leads_out", "notes", "pycache", ".env", "keys", "circle"];
    assert!(!found.files.keys().any(|name| others.iter().any(|other| name.contains(other))), "{found:?}");
    assert!(found.left_out.contains(&"extra/leads_out".to_owned()), "{:?}", found.left_out);
    let [folder] = found.folders.as_slice() else { panic!("{:?}", found.folders) };
    assert_eq!(folder.modules.get("acme"), Some(&Some("1.0".to_owned())));
    assert_eq!(folder.requirements, ["lxml", "requests==2.0", "xlrd"]);
    let git = folder.git.as_ref().expect("an origin");
    assert_eq!((git.url.as_str(), git.branch.as_deref()), ("https://git.example/acme.git", Some("19.0")));
    assert!(git.commit.starts_with("0123"));
}
