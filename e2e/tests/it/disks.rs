//! A database server with a disk of its own, which the mover cannot read and has to watch.

use std::{fs, path::PathBuf, process::Command};

use crate::support::{
    Instance, Kind, Made, Undoo,
    docker::{docker, succeed},
};

/// A small disk in memory in the place of the server's volume.
struct Disk(PathBuf);

impl Disk {
    /// Moves the server's data there; so many MiB are free afterwards.
    fn under(live: &Instance, free_mib: u64) -> Self {
        let volume = format!("{}_db_data", live.name);
        let path = PathBuf::from(docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &volume]));
        docker(&["stop", &live.db()]);
        let aside = tempfile::tempdir().unwrap();
        let copy = |from: &PathBuf, to: &PathBuf| {
            succeed(Command::new("cp").args(["-a", "-T"]).args([from, to]), b"");
        };
        let kept = aside.path().join("data");
        copy(&path, &kept);
        succeed(Command::new("mount").args(["-t", "tmpfs", "-o", "size=2g", "undoo-test"]).arg(&path), b"");
        let disk = Self(path);
        copy(&kept, &disk.0);
        docker(&["start", &live.db()]);
        // Odoo makes new sessions; what it had written is on the disk by then.
        live.web();
        let used = succeed(Command::new("du").args(["-sm"]).arg(&disk.0), b"");
        let used: u64 = String::from_utf8(used).unwrap().split_whitespace().next().unwrap().parse().unwrap();
        disk.resize(used + free_mib);
        disk
    }

    fn resize(&self, mib: u64) {
        let options = format!("remount,size={mib}m");
        succeed(Command::new("mount").args(["-o", &options]).arg(&self.0), b"");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The server, which still has files open there, goes next.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_server_whose_own_disk_is_small_is_not_filled_by_a_restore() {
    let undoo = Undoo::ready();
    let backup = Made::of(Kind::ODOO_19);
    let live = Instance::up(Kind::ODOO_19);
    live.is_origin_of(backup.uuid());
    let disk = Disk::under(&live, 48);
    let zip = backup.zip();
    let target = live.target();
    let restore = ["restore", &zip, "--into", &target, "--yes", "--json"];

    let run = undoo.run(&restore).ends(4);
    assert_eq!(run.findings(), ["disk_space"]);
    let said = run.json()["findings"][0]["message"].as_str().unwrap().to_owned();
    assert!(said.starts_with("the disk of the database server's data has 4"), "{said}");
    assert_eq!(live.staged(), [""; 0]);
    assert_eq!(live.leftovers(), [""; 0]);

    disk.resize(2048);
    let run = undoo.run(&restore).ends(0);
    assert!(!run.all().contains("database_disk_unknown"), "it was seen");
    backup.is_live_on(&live, &live.name);
    assert!(fs::read_dir(disk.0.join("base")).unwrap().count() > 4, "and written to");
}
