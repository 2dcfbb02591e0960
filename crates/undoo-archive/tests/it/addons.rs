//! Custom modules of a backup: put together as Odoo finds them, and only as the manifest stands for them.

use std::{collections::BTreeMap, io};

use undoo_archive::{
    Backup,
    addons::Modules,
    manifest::ours::Addons,
    write::{BackupWriter, Description},
};
use undoo_core::Kind;

use crate::{
    verify::rebuilt,
    write_craft::{description, dump, open, settings, signer},
};

/// A folder of modules, one that has a module of the same name, and a module that was named by itself.
const FILES: [(&str, &str); 8] = [
    ("zeta/shop/__manifest__.py", "{'version': '2'}"),
    ("zeta/shop/models/x.py", "first"),
    ("zeta/requirements.txt", "xlrd"),
    ("zeta/wheels/a-1-py3-none-any.whl", "wheel a"),
    ("alpha/shop/__manifest__.py", "{'version': '1'}"),
    ("alpha/club/__manifest__.py", "{}"),
    ("alpha/wheels/b-1-py3-none-any.whl", "wheel b"),
    ("lone/__manifest__.py", "{'name': 'lone'}"),
];

fn backup(files: &[(&str, &str)], signed: bool) -> Vec<u8> {
    let mut writer = BackupWriter::new(Vec::new(), settings(6, 1)).unwrap();
    writer.database(&mut &dump(&[10], &[])[..]).unwrap();
    for (path, content) in files {
        writer.addon(path, &mut content.as_bytes()).unwrap();
    }
    let folder = |folder: &str, lines: &[&str]| Addons {
        folder: folder.into(),
        requirements: lines.iter().map(|line| (*line).to_owned()).collect(),
        ..Addons::default()
    };
    let mut environment = description().environment;
    environment.addons = vec![folder("zeta", &["xlrd"]), folder("alpha", &["num2words", "xlrd"])];
    let signer = signer();
    let signer = signed.then_some(&signer as _);
    writer.finish(Description { environment, ..description() }, signer).unwrap().0
}

fn put(backup: &Backup) -> undoo_core::Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    Modules::of(backup).unwrap().read(backup, &mut |path, size, content| {
        let text = io::read_to_string(content)?;
        assert_eq!(text.len() as u64, size, "{path}");
        assert!(all.insert(path.to_owned(), text).is_none(), "{path} is put twice");
        Ok(())
    })?;
    Ok(all)
}

#[test]
fn modules_of_several_folders_become_one_and_the_first_of_a_name_counts() {
    let backup = open(&backup(&FILES, true));
    let modules = Modules::of(&backup).unwrap();
    assert_eq!(modules.names().collect::<Vec<_>>(), ["club", "lone", "shop"]);
    assert_eq!(modules.requirements().collect::<Vec<_>>(), ["xlrd", "num2words", "xlrd"]);
    assert_eq!(modules.signed_by(), Some(signer().public_key().as_str()));
    let expected = [
        ("club/__manifest__.py", "{}"),
        ("lone/__manifest__.py", "{'name': 'lone'}"),
        ("shop/__manifest__.py", "{'version': '2'}"),
        ("shop/models/x.py", "first"),
        ("wheels/a-1-py3-none-any.whl", "wheel a"),
        ("wheels/b-1-py3-none-any.whl", "wheel b"),
    ];
    let expected = expected.map(|(path, text)| (path.to_owned(), text.to_owned()));
    assert_eq!(put(&backup).unwrap(), BTreeMap::from(expected));
}

#[test]
fn what_comes_from_elsewhere_is_left_out_with_what_only_it_asks_for_and_is_read_all_the_same() {
    let whole = backup(&FILES, true);
    let without = |bytes: &[u8], names: &[&str]| {
        let modules = Modules::of(&open(bytes)).unwrap();
        modules.without(&names.iter().map(|name| (*name).to_owned()).collect())
    };
    let modules = without(&whole, &["shop", "lone", "not-there"]).unwrap();
    assert_eq!(modules.names().collect::<Vec<_>>(), ["club"]);
    assert_eq!(modules.requirements().collect::<Vec<_>>(), ["num2words", "xlrd"], "of zeta nothing is left");
    let mut paths = Vec::new();
    let mut put = |path: &str, _: u64, _: &mut dyn io::Read| {
        paths.push(path.to_owned());
        Ok(())
    };
    modules.read(&open(&whole), &mut put).unwrap();
    assert_eq!(paths, ["club/__manifest__.py", "wheels/b-1-py3-none-any.whl", "wheels/a-1-py3-none-any.whl"]);
    let modules = without(&whole, &["club"]).unwrap();
    assert_eq!(
        modules.requirements().collect::<Vec<_>>(),
        ["xlrd"],
        "the shop of alpha is hidden by that of zeta"
    );
    assert!(without(&whole, &["shop", "lone", "club"]).is_none());
    // It stands for all of it or for nothing.
    let changed = rebuilt(&whole, |member, content| {
        if member == "addons/zeta/shop/models/x.py" { Some(b"import os".to_vec()) } else { Some(content) }
    });
    let left = Modules::of(&changed).unwrap().without(&["shop".to_owned()].into()).unwrap();
    assert_eq!(left.read(&changed, &mut |_, _, _| Ok(())).unwrap_err().code, "addons_changed");
}

#[test]
fn a_backup_without_modules_has_none_and_one_that_nobody_signed_says_so() {
    assert!(Modules::of(&open(&backup(&[], true))).is_none());
    let unsigned = open(&backup(&FILES, false));
    assert_eq!(Modules::of(&unsigned).unwrap().signed_by(), None);
    assert_eq!(put(&unsigned).unwrap().len(), 6);
}

#[test]
fn modules_that_were_changed_added_or_taken_out_are_refused() {
    let whole = backup(&FILES, true);
    // Also where another one hides it.
    for name in ["addons/zeta/shop/models/x.py", "addons/alpha/shop/__manifest__.py"] {
        let change = |changed: Option<&[u8]>| {
            rebuilt(
                &whole,
                |member, content| {
                    if member == name { changed.map(<[u8]>::to_vec) } else { Some(content) }
                },
            )
        };
        for changed in [change(Some(b"import os")), change(None)] {
            let problem = put(&changed).unwrap_err();
            assert_eq!((problem.kind, problem.code), (Kind::Refused, "addons_changed"), "{name}");
        }
    }
    let none = rebuilt(&whole, |member, content| (!member.starts_with("addons/")).then_some(content));
    assert_eq!(put(&none).unwrap_err().code, "addons_changed");
}

#[test]
fn what_cannot_be_put_ends_the_reading() {
    let backup = open(&backup(&FILES, true));
    let full =
        Modules::of(&backup).unwrap().read(&backup, &mut |_, _, _| Err(io::ErrorKind::StorageFull.into()));
    assert_eq!(full.unwrap_err().kind, Kind::Unavailable);
}
