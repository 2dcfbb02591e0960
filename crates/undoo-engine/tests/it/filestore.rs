//! Attachment files: linked where they are, fetched where they are not, and never trusted.

use std::{fs, os::unix::fs::MetadataExt};

use undoo_core::Side;
use undoo_engine::{files, live, order::Parts};

use crate::{
    odoo::{
        FILES, click_odoo_folder, content, files as source_files, fname, odoo_zip, write_filestore, zip_of,
    },
    server::{Server, run},
    world::{
        BORN_LATER, World, codes, cut_over, discard, lock, nobody, open, stage, stage_and_accept,
        stage_opened,
    },
};

fn inode(path: &std::path::Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_the_backup_lacks_is_linked_from_the_live_filestore_when_it_is_whole_there() {
    let world = World::live(Server::of(17));
    let mut offered = source_files();
    let (healed, lost) = (offered.remove(0).0, offered.remove(0).0);
    let spoilt = world.live_directory().join(&lost);
    fs::write(&spoilt, vec![0; fs::metadata(&spoilt).unwrap().len() as usize]).unwrap();
    let backup = odoo_zip(&world.path("b.zip"), &world.server.plain_dump(), &offered);
    let mut work = world.work();
    let failure = stage(&work, &backup).await.unwrap_err();
    assert_eq!(codes(&failure), ["missing_files"]);
    assert!(failure.findings[0].message.starts_with("1 attachment"), "{:?}", failure.findings);
    work = world.work();
    work.options.accept.push("missing_files".into());
    let report = stage_and_accept(&work, &backup).await;
    assert_eq!(report.attachments.unwrap().missing.len(), 1);
    let before = inode(&world.live_directory().join(&healed));
    cut_over(&world, &work.id, Side::Restored).await;
    assert_eq!(inode(&world.live_directory().join(&healed)), before);
    assert!(!world.live_directory().join(&lost).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_file_of_the_right_size_and_wrong_content_is_replaced_and_kept_as_it_was() {
    let world = World::live(Server::of(17));
    let spoilt = fname(&content(5));
    let path = world.live_directory().join(&spoilt);
    let other: Vec<u8> = content(5).iter().map(|byte| byte ^ 1).collect();
    fs::write(&path, &other).unwrap();
    let work = world.work();
    let report = stage_and_accept(&work, &world.backup()).await;
    let staged = report.filestore.unwrap();
    assert_eq!(staged.live_corrupt, std::slice::from_ref(&spoilt));
    assert_eq!((staged.fetched, staged.linked), (1, FILES as u64 - 1));
    cut_over(&world, &work.id, Side::Restored).await;
    assert_eq!(fs::read(&path).unwrap(), content(5));
    cut_over(&world, &work.id, Side::Replaced).await;
    assert_eq!(fs::read(&path).unwrap(), other);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nearly_all_files_present_hardly_a_byte_of_them_is_fetched() {
    let world = World::live(Server::of(17));
    // A filestore that outweighs the dump by far; one file of a hundred is not there.
    let large: Vec<_> = (0..100_u32)
        .map(|number| {
            let bytes: Vec<u8> = (0..200_000_u32)
                .map(|at| (at.wrapping_mul(2_654_435_761) >> (number % 24)) as u8 ^ number as u8)
                .collect();
            (fname(&bytes), bytes)
        })
        .collect();
    write_filestore(&world.live_directory(), &large[1..]);
    let mut all = source_files();
    all.extend(large.clone());
    let bytes: u64 = all.iter().map(|(_, content)| content.len() as u64).sum();
    let dump = world.server.dump(crate::odoo::SOURCE, &["-Fc"]);
    let folder = click_odoo_folder(&world.path("b"), &dump, &all);
    let zip = odoo_zip(&world.path("b.zip"), &dump, &all);
    for backup in [folder, zip] {
        let (opened, meter) = open(&backup).await;
        let work = world.work();
        let report = stage_opened(&work, "b", opened, &nobody).await.unwrap();
        let staged = report.filestore.unwrap();
        assert_eq!((staged.fetched, staged.fetched_bytes), (1, 200_000));
        // Everything that was read, from opening on. A dump of this size is read twice: to say what it
        // is, and to load it.
        let beside = meter.bytes().saturating_sub(2 * dump.len() as u64);
        assert!(beside * 50 <= bytes, "{beside} of {bytes} bytes, and a dump of {}", dump.len());
        discard(&world.target, &work.id).await.unwrap();
    }
}

/// The second entry claims the first one's name with another size: written in place, it would go through
/// the hard link into the live file.
#[tokio::test(flavor = "multi_thread")]
async fn a_tar_that_has_a_file_twice_leaves_the_live_one_alone() {
    let world = World::live(Server::of(17));
    let oid = world.oid(&world.target.database);
    let folder = world.path("tar");
    write_filestore(&folder.join("filestore"), &source_files());
    let tar = folder.join("filestore.tar");
    run(std::process::Command::new("tar").arg("-C").arg(&folder).arg("-cf").arg(&tar).arg("filestore"));
    let hostile = (fname(&content(9)), b"something else".to_vec());
    write_filestore(&folder.join("filestore"), std::slice::from_ref(&hostile));
    run(std::process::Command::new("tar")
        .arg("-C")
        .arg(&folder)
        .arg("-rf")
        .arg(&tar)
        .arg(format!("filestore/{}", hostile.0)));
    let dump = world.server.plain_dump();
    let backup =
        zip_of(&world.path("b.zip"), &[("dump.sql", &dump), ("filestore.tar", &fs::read(&tar).unwrap())]);
    let work = world.work();
    let outcome = stage(&work, &backup).await;
    world.assert_untouched(&oid);
    let report = outcome.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert!(report.attachments.unwrap().is_exact());
    assert_eq!(fs::read(world.home().parked(&work.id, Side::Restored).join(&hostile.0)).unwrap(), content(9));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_alone_are_added_and_nothing_newer_is_removed() {
    let world = World::live(Server::of(17));
    let oid = world.oid(&world.target.database);
    let live = world.live_directory();
    std::os::unix::fs::chown(&live, Some(4711), Some(4712)).unwrap();
    let (lost, spoilt) = (fname(&content(1)), fname(&content(2)));
    fs::remove_dir_all(live.join(&lost[..2])).unwrap();
    write_filestore(
        &live,
        &source_files()
            .into_iter()
            .filter(|(name, _)| name[..2] == lost[..2] && *name != lost)
            .collect::<Vec<_>>(),
    );
    fs::remove_dir(live.join(&lost[..2])).ok();
    fs::write(live.join(&spoilt), b"spoilt").unwrap();
    let mut work = world.work();
    work.options.parts = Parts::Filestore;
    let mut offered = source_files();
    offered[20].1.push(b'x');
    let folder = world.path("files");
    write_filestore(&folder.join("filestore"), &offered);
    fs::write(folder.join("db.dump"), world.server.dump(crate::odoo::SOURCE, &["-Fc"])).unwrap();
    let added = files::add(&lock(&work).await.unwrap(), &work, open(&folder).await.0, &nobody).await.unwrap();
    assert_eq!((added.added, added.replaced.as_slice()), (1, [spoilt.clone()].as_slice()));
    assert_eq!(added.present, FILES as u64 - 2);
    assert!(added.corrupt.is_empty(), "it is whole in the live filestore");
    for (name, content) in source_files() {
        assert!(fs::read(live.join(&name)).unwrap() == content, "{name}");
    }
    world.assert_untouched(&oid);
    assert_eq!(fs::read(live.join(fname(BORN_LATER))).unwrap(), BORN_LATER);
    // Odoo, which runs as another user, must be able to write there.
    for path in [live.join(&lost[..2]), live.join(&lost)] {
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (4711, 4712), "{}", path.display());
    }
    // What was moved aside outlives the same work done again, its being taken back, and the next restore.
    let aside = world.home().restore(&work.id).join("aside").join(&spoilt);
    let again = files::add(&lock(&work).await.unwrap(), &work, open(&folder).await.0, &nobody).await.unwrap();
    assert_eq!((again.added, again.replaced.len()), (0, 0));
    discard(&world.target, &work.id).await.unwrap();
    let next = world.work();
    stage(&next, &world.backup()).await.unwrap();
    assert_eq!(fs::read(aside).unwrap(), b"spoilt");
}

#[tokio::test(flavor = "multi_thread")]
async fn staged_files_belong_to_whom_the_live_ones_belong() {
    let world = World::live(Server::of(17));
    std::os::unix::fs::chown(world.live_directory(), Some(4711), Some(4712)).unwrap();
    fs::remove_file(world.live_directory().join(fname(&content(7)))).unwrap();
    let work = world.work();
    stage_and_accept(&work, &world.backup()).await;
    cut_over(&world, &work.id, Side::Restored).await;
    let name = fname(&content(7));
    for path in
        [world.live_directory(), world.live_directory().join(&name[..2]), world.live_directory().join(&name)]
    {
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (4711, 4712), "{}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_are_trusted_only_on_request_and_the_report_says_so() {
    let world = World::live(Server::of(17));
    let spoilt = fname(&content(5));
    let other: Vec<u8> = content(5).iter().map(|byte| byte ^ 1).collect();
    fs::write(world.live_directory().join(&spoilt), &other).unwrap();
    let mut work = world.work();
    work.options.trust_size = true;
    let report = stage(&work, &world.backup()).await.unwrap();
    let staged = report.filestore.unwrap();
    assert!(staged.trusted_size && staged.fetched == 0 && staged.live_corrupt.is_empty());
}

/// The live files stay, and so would one that is broken: nobody has another.
#[tokio::test(flavor = "multi_thread")]
async fn where_the_live_files_stay_a_broken_one_is_named_and_has_to_be_accepted() {
    let world = World::live(Server::of(17));
    let oid = world.oid(&world.target.database);
    let spoilt = fname(&content(5));
    let other: Vec<u8> = content(5).iter().map(|byte| byte ^ 1).collect();
    fs::write(world.live_directory().join(&spoilt), &other).unwrap();
    let without_files = zip_of(&world.path("no.zip"), &[("dump.sql", &world.server.plain_dump())]);
    for (parts, backup) in [(Parts::Database, world.backup()), (Parts::All, without_files)] {
        let mut work = world.work();
        work.options.parts = parts;
        let failure = stage(&work, &backup).await.unwrap_err();
        assert_eq!(codes(&failure), ["corrupt_files"], "{failure:?}");
        assert!(failure.findings[0].message.contains(&spoilt), "{failure:?}");
        world.assert_nothing_left(&work.id);
        world.assert_untouched_but(&oid, &spoilt);

        let mut work = world.work();
        work.options.parts = parts;
        work.options.accept.push("corrupt_files".into());
        let report = stage(&work, &backup).await.unwrap();
        let found = report.attachments.unwrap();
        assert_eq!(found.corrupt.len(), 1);
        assert_eq!(found.corrupt[0].store_fname, spoilt);
        assert!(found.corrupt[0].reason.contains("live filestore"), "{:?}", found.corrupt);
        assert_eq!((found.matched, found.missing.len()), (FILES as u64 - 1, 0));
        assert_eq!(report.filestore.unwrap().linked, FILES as u64);
        let staged = world.home().parked(&work.id, Side::Restored);
        assert!(!staged.join(&spoilt).exists(), "Odoo could never write the right content there");
        assert_eq!(fs::read(world.live_directory().join(&spoilt)).unwrap(), other);

        let mut work = world.work();
        work.options.parts = parts;
        work.options.trust_size = true;
        let report = stage(&work, &backup).await.unwrap();
        assert!(report.filestore.is_some_and(|staged| staged.trusted_size && staged.corrupt.is_empty()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_system_is_matched_with_its_files() {
    let world = World::live(Server::of(17));
    assert!(live::verify(&world.target).await.unwrap().is_exact());
    fs::remove_file(world.live_directory().join(fname(&content(1)))).unwrap();
    fs::write(world.live_directory().join(fname(&content(2))), b"x").unwrap();
    let found = live::verify(&world.target).await.unwrap();
    assert_eq!((found.missing.len(), found.corrupt.len(), found.matched), (1, 1, FILES as u64 - 2));
    assert_eq!(found.orphans, [fname(BORN_LATER)]);
}
