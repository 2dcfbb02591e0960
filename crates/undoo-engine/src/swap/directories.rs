//! The directory half of a cutover: two renames, each made durable.
//!
//! Directories are known by a marker file in them: after a crash between the two renames, the names
//! alone would not say which is which.

use std::{fs, path::PathBuf};

use undoo_core::{Place, Result, Side};

use crate::{
    filestore::Stage,
    home::{Home, Marker, at, mark, marker, sync_directory},
    order::{Parts, Target},
    record::Record,
};

fn live(target: &Target) -> PathBuf {
    target.filestore_root.join(&target.database)
}

/// Marks the live directory as the side that it is: one that Odoo made itself has no marker, and after a
/// later restore was undone it has that one's.
pub(super) fn claim_live(target: &Target, record: &Record, side: Side) -> Result<()> {
    let live = live(target);
    if !live.exists() {
        return Ok(());
    }
    mark(&live, Marker { restore: record.id, side })
}

/// Where both directories are.
pub(super) fn places(target: &Target, home: &Home, record: &Record) -> (Place, Place) {
    let live = marker(&live(target)).filter(|marker| marker.restore == record.id);
    let place = |side| {
        if live.is_some_and(|marker| marker.side == side) {
            Place::Live
        } else if home.parked(&record.id, side).exists() {
            Place::Parked
        } else {
            Place::Absent
        }
    };
    (place(Side::Restored), place(Side::Replaced))
}

/// The live directory, which belongs to `side`, to its parking place.
pub(super) fn park(target: &Target, home: &Home, record: &Record, side: Side) -> Result<()> {
    let (from, to) = (live(target), home.parked(&record.id, side));
    if record.parts == Parts::Database && side == Side::Replaced {
        // Files that were born since the tree was linked belong to both.
        let staged = home.parked(&record.id, Side::Restored);
        Stage::create(&staged, &from, target.files_owner, false)?.link_all(1)?;
    }
    fs::rename(&from, &to).map_err(at("rename", &from))?;
    sync(target, home, record)
}

/// A parked directory to the live name.
pub(super) fn place(target: &Target, home: &Home, record: &Record, side: Side) -> Result<()> {
    let (from, to) = (home.parked(&record.id, side), live(target));
    fs::rename(&from, &to).map_err(at("rename", &from))?;
    sync(target, home, record)
}

fn sync(target: &Target, home: &Home, record: &Record) -> Result<()> {
    for path in [target.filestore_root.clone(), home.restore(&record.id)] {
        sync_directory(&path).map_err(at("sync", &path))?;
    }
    Ok(())
}
