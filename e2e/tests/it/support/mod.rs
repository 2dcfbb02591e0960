//! What the tests share: the binary, an instance, a user of Odoo, and backups.

pub(crate) mod backup;
pub(crate) mod docker;
pub(crate) mod instance;
pub(crate) mod link;
pub(crate) mod mail;
pub(crate) mod platform;
pub(crate) mod second;
pub(crate) mod site;
pub(crate) mod undoo;
pub(crate) mod web;
pub(crate) mod weed;

pub(crate) use backup::Made;
pub(crate) use instance::{Instance, Kind};
pub(crate) use undoo::Undoo;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// The project's folder.
pub(crate) fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The cache that `dev` uses too.
pub(crate) fn cache() -> PathBuf {
    let base = std::env::var_os("UNDOO_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/undoo")
    });
    let cache = base.join("e2e");
    std::fs::create_dir_all(&cache).unwrap();
    cache
}

/// Waits until `probe` has an answer.
pub(crate) fn wait_for<T>(what: &str, patience: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(began.elapsed() < patience, "{what} did not happen within {patience:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Bytes that do not compress and are the same each time.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// SHA-1 as Odoo writes it.
pub(crate) fn sha1(bytes: &[u8]) -> String {
    use sha1::Digest as _;
    hex::encode(sha1::Sha1::digest(bytes))
}
