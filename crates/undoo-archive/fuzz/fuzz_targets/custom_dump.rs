//! Any bytes as a custom dump: no panic, and the events come in the order that the loader relies on.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use undoo_archive::dump::{DumpEvent, DumpStream, custom::CustomDump};

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut dump) = CustomDump::open(Box::new(Cursor::new(bytes.to_vec()))) else { return };
    let (mut in_rows, mut in_object) = (false, false);
    while let Ok(Some(event)) = dump.next_event() {
        match event {
            DumpEvent::Statement(_) => assert!(!in_rows && !in_object),
            DumpEvent::CopyStart(_) => {
                assert!(!in_rows && !in_object);
                in_rows = true;
            }
            DumpEvent::CopyRows { bytes, rows, ends_row } => {
                assert!(in_rows && !bytes.is_empty());
                assert_eq!(rows, bytes.iter().filter(|byte| **byte == b'\n').count() as u64);
                assert_eq!(ends_row, bytes.ends_with(b"\n"));
            }
            DumpEvent::CopyEnd => assert!(std::mem::replace(&mut in_rows, false)),
            DumpEvent::LargeObjectStart { .. } => {
                assert!(!in_rows && !in_object);
                in_object = true;
            }
            DumpEvent::LargeObjectData(_) => assert!(in_object),
            DumpEvent::LargeObjectEnd => assert!(std::mem::replace(&mut in_object, false)),
        }
    }
});
