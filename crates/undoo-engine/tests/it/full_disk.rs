//! Disks that fill up: while a pair is staged, and at every step of a cutover. Real ones, of a few
//! megabytes: mounting them takes root, as setting the machine up does.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, atomic::Ordering},
};

use undoo_core::{Finding, Kind, Move, Problem, Side, pair::parked_database};
use undoo_engine::{
    lock::{Locked, Work},
    order::{Answer, Phase, Strategy},
    pairs,
    record::State,
    restore,
};

use crate::{
    odoo::{files, fname, odoo_zip, readable, zip_of},
    server::{Server, run},
    world::{
        Crash, Recorder, World, codes, cut_over, discard, make_live, nobody, open, stage, stage_and_accept,
        stage_opened, swap,
    },
};

/// A disk of its own, gone with this.
struct Disk {
    folder: tempfile::TempDir,
    full: Mutex<bool>,
}

impl Disk {
    fn of_mib(size: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size}m,mode=755");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "undoo-test"]).arg(folder.path()));
        Self { folder, full: Mutex::new(false) }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Not a byte is free afterwards.
    fn fill(&self) {
        let mut full = self.full.lock().unwrap();
        if *full {
            return;
        }
        *full = true;
        let mut ballast = File::create(self.ballast()).unwrap();
        let mut piece = vec![1; 1 << 20];
        while !piece.is_empty() {
            if ballast.write_all(&piece).is_err() {
                piece.truncate(piece.len() / 2);
            }
        }
    }

    /// An eighth of it is free afterwards: enough for who goes on for a while, and less than must stay free.
    fn nearly_fill(&self) {
        let mut full = self.full.lock().unwrap();
        if *full {
            return;
        }
        *full = true;
        let stat = rustix::fs::statvfs(self.path()).unwrap();
        let bytes = stat.f_bavail.saturating_sub(stat.f_blocks / 8) * stat.f_frsize;
        let mut ballast = File::create(self.ballast()).unwrap();
        for _ in 0..bytes >> 20 {
            ballast.write_all(&[1; 1 << 20]).unwrap();
        }
    }

    fn make_room(&self) {
        *self.full.lock().unwrap() = false;
        std::fs::remove_file(self.ballast()).ok();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What still has a file open there (a server that this test has just stopped) lets go soon.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// A target without a database, whose filestores are on this disk.
fn world_on<'s>(server: &'s Server, disk: &Disk) -> World<'s> {
    let mut world = World::empty(server);
    world.target.filestore_root = disk.path().join("filestore");
    std::fs::create_dir(&world.target.filestore_root).unwrap();
    world
}

/// As [`world_on`], with a live pair.
fn live_on<'s>(server: &'s Server, disk: &Disk) -> World<'s> {
    let world = world_on(server, disk);
    world.make_live();
    world
}

/// A backup with megabytes of files that the live filestore does not have, and a dump that takes a moment.
fn heavy(world: &World<'_>) -> PathBuf {
    let copy = world.server.copy_of_source(
        "CREATE TABLE mail_message (id integer PRIMARY KEY, body text); \
         INSERT INTO mail_message SELECT i, repeat(md5(i::text), 8) FROM generate_series(1, 60000) i",
    );
    let mut all = files();
    all.extend((0..200_u32).map(|number| {
        let content = number.to_le_bytes().repeat(25_000);
        (fname(&content), content)
    }));
    let backup = odoo_zip(&world.path("heavy.zip"), &world.server.dump(&copy, &["--no-owner"]), &all);
    world.server.psql("postgres", &format!("DROP DATABASE {copy}"));
    backup
}

/// Fills a disk as soon as a phase begins, or rows or files have begun to arrive.
fn fills(disk: &Disk, at: Phase) -> impl Fn(Answer) + Send + Sync {
    once(at, || disk.fill())
}

/// Acts as soon as a phase begins, or rows or files have begun to arrive.
fn once(at: Phase, act: impl Fn() + Send + Sync) -> impl Fn(Answer) + Send + Sync {
    move |answer| {
        let begun = match answer {
            Answer::Phase { phase } => phase == at && at != Phase::Data,
            Answer::Progress { phase, done, .. } => phase == at && done > 0,
            _ => false,
        };
        if begun {
            act();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filestores_disk_that_fills_up_while_staging_leaves_the_live_pair_and_nothing_else() {
    let server = Server::of(17);
    let disk = Disk::of_mib(96);
    let world = live_on(server, &disk);
    let oid = world.oid(&world.target.database);
    let backup = heavy(&world);
    for at in [Phase::Prepare, Phase::Data, Phase::PostData, Phase::Verify] {
        let work = world.work();
        let opened = open(&backup).await.0;
        let failure = stage_opened(&work, "heavy", opened, &fills(&disk, at)).await.err();
        let failure = failure.unwrap_or_else(|| panic!("staged on a disk that was full from {at:?} on"));
        assert_eq!(failure.problem.kind, Kind::Unavailable, "{at:?}: {failure:?}");
        assert!(["disk_full", "disk_low"].contains(&failure.problem.code), "{at:?}: {failure:?}");
        assert!(!failure.problem.remedy.is_empty());
        // The disk is still full: taking back is what makes room on it.
        world.assert_nothing_left(&work.id);
        world.assert_untouched(&oid);
        disk.make_room();
    }
    let work = world.work();
    stage(&work, &backup).await.unwrap_or_else(|failure| panic!("with room again: {failure:?}"));
    world.assert_untouched(&oid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room_for_the_files_is_a_finding_before_anything_is_made() {
    let server = Server::of(17);
    let disk = Disk::of_mib(20);
    let world = live_on(server, &disk);
    let oid = world.oid(&world.target.database);
    let work = world.work();
    let failure = stage(&work, &heavy(&world)).await.unwrap_err();
    assert_eq!(codes(&failure), ["disk_space"], "{failure:?}");
    world.assert_nothing_left(&work.id);
    world.assert_untouched(&oid);
}

/// "Purge kept pairs" is what is recommended to someone whose disk is full.
#[tokio::test(flavor = "multi_thread")]
async fn a_kept_pair_is_purged_from_a_full_disk() {
    let server = Server::of(17);
    let disk = Disk::of_mib(96);
    let world = live_on(server, &disk);
    let work = world.work();
    stage_and_accept(&work, &heavy(&world)).await;
    cut_over(&world, &work.id, Side::Restored).await;
    disk.fill();
    let mut record = world.record(&work.id);
    pairs::purge(&world.target, &world.home(), &mut record).await.unwrap();
    assert_eq!(world.record(&work.id).state, State::Purged);
    assert!(!world.has_database(&parked_database(&work.id, Side::Replaced)));
    assert!(!world.home().parked(&work.id, Side::Replaced).exists());
}

/// The server's own disk: it may answer with an error, or fall over when its log finds no room.
#[tokio::test(flavor = "multi_thread")]
async fn a_servers_disk_that_fills_up_while_loading_is_a_clear_error_and_its_leftovers_are_swept() {
    let disk = Disk::of_mib(320);
    readable(disk.path());
    let server = Server::own_in(17, disk.path());
    let world = World::live(&server);
    let oid = world.oid(&world.target.database);
    let backup = heavy(&world);
    for at in [Phase::Data, Phase::PostData] {
        let work = world.work();
        let opened = open(&backup).await.0;
        let outcome = stage_opened(&work, "heavy", opened, &fills(&disk, at)).await;
        let failure =
            outcome.err().unwrap_or_else(|| panic!("loaded on a disk that was full from {at:?} on"));
        assert_eq!(failure.problem.kind, Kind::Unavailable, "{at:?}: {failure:?}");
        assert!(["disk_full", "database_lost"].contains(&failure.problem.code), "{at:?}: {failure:?}");
        disk.make_room();
        server.revive();
        world.assert_untouched(&oid);
        let next = world.work();
        let small = zip_of(&world.path("b.zip"), &[("dump.sql", &server.plain_dump())]);
        stage(&next, &small).await.unwrap_or_else(|failure| panic!("after {at:?}: {failure:?}"));
        world.assert_nothing_left(&work.id);
        discard(&world.target, &next.id).await.unwrap();
        world.assert_untouched(&oid);
    }
}

/// With the server's disk in sight nothing gets as far as that: what would come near a full disk is not
/// begun, and what others fill meanwhile ends the load.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_gives_way_before_a_servers_own_disk_is_full() {
    let (data, log) = (Disk::of_mib(640), Disk::of_mib(64));
    readable(data.path());
    let server = Server::own_in(17, data.path());
    let mut world = World::live(&server);
    let oid = world.oid(&world.target.database);
    let backup = heavy(&world);
    let notes = |findings: &[Finding]| findings.iter().any(|finding| finding.code == "database_disk_unknown");
    let plan = |world: &World<'_>| {
        let work = world.work();
        let backup = backup.clone();
        async move { restore::plan(&work, &open(&backup).await.0, &nobody).await.unwrap().findings }
    };
    assert!(notes(&plan(&world).await), "nobody knows where it is");
    world.target.database_disks = vec![data.path().to_owned(), log.path().to_owned()];
    assert!(!notes(&plan(&world).await));

    for (disk, name) in [(&data, "the database server's data"), (&log, "its write-ahead log")] {
        for at in [Phase::Data, Phase::PostData] {
            // Room for what the server still writes, and less than must stay free.
            let work = world.work();
            let opened = open(&backup).await.0;
            let outcome = stage_opened(&work, "heavy", opened, &once(at, || disk.nearly_fill())).await;
            let problem = outcome.err().unwrap_or_else(|| panic!("it did not give way at {at:?}")).problem;
            assert_eq!((problem.kind, problem.code), (Kind::Unavailable, "disk_low"), "{at:?}: {problem:?}");
            assert!(problem.message.contains(name), "{problem:?}");
            world.assert_nothing_left(&work.id);
            world.assert_untouched(&oid);
            if at == Phase::PostData {
                let failure = stage(&world.work(), &backup).await.unwrap_err();
                assert_eq!(codes(&failure), ["disk_space"], "{failure:?}");
                assert!(failure.findings[0].message.contains(name), "{failure:?}");
            }
            disk.make_room();
        }
    }
    stage(&world.work(), &backup).await.unwrap_or_else(|failure| panic!("with room again: {failure:?}"));
}

/// Both disks fill up at the nth checkpoint of a cutover. It ends there or it does not; with room again
/// it goes on either way to a whole pair.
#[tokio::test(flavor = "multi_thread")]
async fn disks_that_fill_up_at_any_step_of_a_cutover_end_in_a_whole_pair() {
    let (disk, servers) = (Disk::of_mib(64), Disk::of_mib(160));
    readable(servers.path());
    let server = Server::own_in(17, servers.path());
    let world = live_on(&server, &disk);
    let work = world.work();
    stage_and_accept(&work, &world.backup()).await;
    let home = world.home();
    let mut live = Side::Replaced;
    let mut broken = 0;
    for nth in 0..16 {
        for then in [Side::Restored, Side::Replaced] {
            let (services, to) = (Recorder::default(), live.other());
            let reached = Mutex::new(0);
            let filling = |step: Move, done: bool| {
                let mut reached = reached.lock().unwrap();
                if *reached == nth {
                    eprintln!("full at {step:?} {done}");
                    disk.fill();
                    servers.fill();
                }
                *reached += 1;
                Ok(())
            };
            let swap = swap(&world, &home, &services, &filling);
            let outcome = {
                let locked = Locked::take(&world.target, Work::Cutover(work.id)).await.unwrap();
                swap.make_live(&locked, &mut world.record(&work.id), to).await
            };
            if let Err(problem) = outcome {
                assert_eq!(problem.kind, Kind::Unavailable, "{nth}: {problem:?}");
                assert!(["disk_full", "database_lost"].contains(&problem.code), "{nth}: {problem:?}");
                assert!(!problem.remedy.is_empty());
                broken += 1;
            }
            servers.make_room();
            disk.make_room();
            server.revive();
            make_live(&world, &work.id, then, &services, &Crash::never())
                .await
                .unwrap_or_else(|problem| panic!("full at {nth}, then to {then:?}: {problem:?}"));
            assert_eq!(world.whole(&work.id, &services).await, then, "full at {nth}");
            live = then;
        }
    }
    assert!(broken > 8, "{broken} cutovers met a full disk");
}

/// While a cutover waits for room, Odoo waits only where no pair stands whole.
#[tokio::test(flavor = "multi_thread")]
async fn odoo_runs_on_a_whole_pair_while_a_cutover_waits_for_room() {
    let server = Server::of(17);
    let world = World::live(server);
    let work = world.work();
    stage_and_accept(&work, &world.backup()).await;
    let home = world.home();
    for (last, runs_on) in [
        (Move::StopServices, Some(Side::Replaced)),
        (Move::CloseDatabases, Some(Side::Replaced)),
        (Move::RenameDatabases, None),
        (Move::ParkDirectory, None),
        (Move::PlaceDirectory, Some(Side::Restored)),
        (Move::OpenDatabase, Some(Side::Restored)),
    ] {
        let services = Recorder::default();
        let full = |step: Move, done: bool| match step == last && done {
            true => Err(Problem::new(Kind::Unavailable, "disk_full", "no room", "make room")),
            false => Ok(()),
        };
        let problem = {
            let locked = Locked::take(&world.target, Work::Cutover(work.id)).await.unwrap();
            let mut record = world.record(&work.id);
            let swap = swap(&world, &home, &services, &full);
            swap.make_live(&locked, &mut record, Side::Restored).await.unwrap_err()
        };
        assert_eq!(problem.code, "disk_full", "{last:?}: {problem:?}");
        assert_eq!(services.running.load(Ordering::SeqCst), runs_on.is_some(), "{last:?}");
        if let Some(side) = runs_on {
            assert!(problem.message.contains(&format!("runs on the {} pair", side.word())), "{problem:?}");
            let shown = server
                .psql(&world.target.database, "SELECT count(*) FROM ir_config_parameter WHERE key = 'side'");
            assert_eq!(shown == "1", side == Side::Replaced, "{last:?}");
        }
        // It is still under way, and goes either way.
        assert_eq!(world.record(&work.id).state, State::Swapping { to: Side::Restored });
        for side in [Side::Restored, Side::Replaced] {
            make_live(&world, &work.id, side, &services, &Crash::never()).await.unwrap();
            assert_eq!(world.whole(&work.id, &services).await, side, "{last:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odoo_is_not_started_without_the_database_that_was_dropped_to_make_room() {
    let world = World::live(Server::of(17));
    let mut work = world.work();
    work.options.strategy = Strategy::StopFirst { confirmed: world.target.database.clone() };
    stage_and_accept(&work, &world.backup()).await;
    for (last, runs) in
        [(Move::StopServices, false), (Move::CloseDatabases, false), (Move::PlaceDirectory, true)]
    {
        let services = Recorder::default();
        let full = |step: Move, done: bool| match step == last && done {
            true => Err(Problem::new(Kind::Unavailable, "disk_full", "no room", "make room")),
            false => Ok(()),
        };
        let locked = Locked::take(&world.target, Work::Cutover(work.id)).await.unwrap();
        let mut record = world.record(&work.id);
        let home = world.home();
        let problem = swap(&world, &home, &services, &full)
            .make_live(&locked, &mut record, Side::Restored)
            .await
            .unwrap_err();
        assert_eq!(problem.code, "disk_full", "{last:?}: {problem:?}");
        assert_eq!(services.running.load(Ordering::SeqCst), runs, "{last:?}");
        assert_eq!(problem.message.contains("meanwhile"), runs, "{last:?}: {problem:?}");
    }
    let services = Recorder::default();
    make_live(&world, &work.id, Side::Restored, &services, &Crash::never()).await.unwrap();
    assert_eq!(world.record(&work.id).state, State::Live { side: Side::Restored });
}
