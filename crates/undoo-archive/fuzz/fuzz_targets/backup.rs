//! Any bytes as a backup of any layout: no panic from recognising, inspecting and opening its parts.
#![no_main]

use std::{io, sync::Arc};

use libfuzzer_sys::fuzz_target;
use undoo_archive::{
    Backup,
    backup::{BackupInput, inspect},
    filestore::FilestorePart,
};

fuzz_target!(|bytes: &[u8]| {
    let input = BackupInput::Single(Arc::new(bytes.to_vec()), "backup".into());
    let Ok(backup) = Backup::open(input) else { return };
    let _ = inspect(&backup);
    if let Ok(mut dump) = backup.open_dump() {
        while let Ok(Some(_)) = dump.next_event() {}
    }
    match &backup.filestore {
        FilestorePart::None => {}
        FilestorePart::Members(files) | FilestorePart::Directory(files) => {
            for file in files {
                let _ = backup.open_file(file).map(|mut content| io::copy(&mut content, &mut io::sink()));
            }
        }
        FilestorePart::Tar { .. } => {
            if let Ok(mut tar) = backup.open_filestore_tar() {
                while let Ok(Some(_)) = tar.next_file() {}
            }
        }
    }
});
