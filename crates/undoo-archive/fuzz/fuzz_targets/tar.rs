//! Any bytes as a tar, compressed or not: no panic, and every entry has the bytes that it declares.
#![no_main]

use std::io::{Cursor, Read};

use libfuzzer_sys::fuzz_target;
use undoo_archive::tar::TarReader;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut tar) = TarReader::open(Box::new(Cursor::new(bytes.to_vec())), "the archive") else { return };
    let mut read_it = true;
    while let Ok(Some(entry)) = tar.next_entry() {
        assert!(!entry.path.starts_with('/') && entry.path.split('/').all(|part| part != ".."));
        // Every other entry is skipped instead.
        if read_it {
            let mut content = Vec::new();
            if tar.read_to_end(&mut content).is_ok() {
                assert_eq!(content.len() as u64, entry.size);
            }
        }
        read_it = !read_it;
    }
});
