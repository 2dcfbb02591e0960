//! Any bytes as a ZIP: no panic, and no member yields more than it declares.
#![no_main]

use std::{io::Read, sync::Arc};

use libfuzzer_sys::fuzz_target;
use undoo_archive::zip::ZipArchive;

fuzz_target!(|bytes: &[u8]| {
    let Ok(archive) = ZipArchive::open(Arc::new(bytes.to_vec())) else { return };
    for member in archive.members() {
        assert!(archive.find(&member.name).is_some());
        let Ok(mut content) = archive.read(member) else { continue };
        let (mut buffer, mut total) = ([0; 4096], 0);
        let whole = loop {
            match content.read(&mut buffer) {
                Ok(0) => break true,
                Ok(len) => total += len as u64,
                Err(_) => break false,
            }
        };
        assert!(total <= member.size && (!whole || total == member.size));
    }
});
