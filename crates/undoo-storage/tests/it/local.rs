//! What is particular to files of this machine.

use std::{fs, io::Read, os::unix::fs::symlink, process::Command};

use undoo_core::Kind;
use undoo_storage::{LocalFile, LocalFolder, Options, problem_in};

use crate::sample;

#[test]
fn a_file_replaced_by_renaming_reads_on_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, new) = (folder.path().join("b.zip"), folder.path().join("new"));
    fs::write(&path, sample(1000)).expect("written");
    let file = LocalFile::open(&path, &Options::default()).expect("opens");
    fs::write(&new, [0; 1000]).expect("written");
    fs::rename(&new, &path).expect("renamed");
    let mut found = Vec::new();
    file.stream(0, 1000).and_then(|mut stream| stream.read_to_end(&mut found)).expect("reads");
    assert_eq!(found, sample(1000));
}

#[test]
fn a_file_cut_while_it_is_read_is_a_conflict_not_a_short_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("b.zip");
    fs::write(&path, sample(1_000_000)).expect("written");
    let file = LocalFile::open(&path, &Options::default()).expect("opens");
    let mut stream = file.stream(0, 1_000_000).expect("within it");
    stream.read_exact(&mut [0; 10]).expect("reads");
    fs::File::options().write(true).open(&path).and_then(|file| file.set_len(500_000)).expect("cut");
    let error = stream.read_to_end(&mut Vec::new()).expect_err("it changed");
    assert_eq!(problem_in(&error).expect("a problem").code, "backup_changed_while_read");
}

#[test]
fn links_within_a_folder_are_refused_and_the_folder_itself_may_be_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("daily");
    fs::create_dir_all(root.join("filestore")).expect("a folder");
    fs::write(root.join("filestore/a"), b"a").expect("written");
    symlink("daily", folder.path().join("latest")).expect("linked");
    let options = Options::default();
    let opened = LocalFolder::open(folder.path().join("latest"), &options).expect("opens");
    assert_eq!(opened.list().expect("lists").len(), 1);
    opened.open_file("filestore/a").expect("opens");

    symlink("/etc", root.join("etc")).expect("linked");
    symlink("/etc/passwd", root.join("passwd")).expect("linked");
    for name in ["etc/passwd", "passwd"] {
        let problem = opened.open_file(name).expect_err("leads out");
        assert_eq!((problem.kind, problem.code), (Kind::Refused, "link_in_backup"), "{name}");
    }
    assert_eq!(opened.list().expect_err("has links").code, "link_in_backup");
}

#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let problem = LocalFile::open(&pipe, &Options::default()).expect_err("no file");
    assert_eq!(problem.code, "not_a_file");
}
