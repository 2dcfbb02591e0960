//! A dump that was signed, read as any other, and at its end found to be that one or not.
//!
//! Whatever was done with its events until then was done with bytes that nobody has spoken for yet.

use std::{
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
};

use sha2::{Digest, Sha256};
use undoo_core::{Kind, Problem, Result};

use crate::{
    dump::{DumpEvent, DumpHeader, DumpStream},
    error::problem_of,
};

/// Has a dump read whose bytes must have this SHA-256, hexadecimal.
///
/// # Errors
/// Those of `read`.
pub(super) fn hold(
    input: Box<dyn Read + Send>,
    sha256: &str,
    read: impl FnOnce(Box<dyn Read + Send>) -> Result<Box<dyn DumpStream>>,
) -> Result<Box<dyn DumpStream>> {
    let bytes = Hashed(Arc::new(Mutex::new((input, Sha256::new()))));
    let dump = read(Box::new(bytes.clone()))?;
    Ok(Box::new(Held { dump, bytes, sha256: sha256.to_owned() }))
}

struct Held {
    dump: Box<dyn DumpStream>,
    bytes: Hashed,
    sha256: String,
}

impl DumpStream for Held {
    fn header(&self) -> &DumpHeader {
        self.dump.header()
    }

    fn next_event(&mut self) -> Result<Option<DumpEvent>> {
        let event = self.dump.next_event()?;
        if event.is_none() {
            // A reader may end before the bytes do.
            io::copy(&mut self.bytes, &mut io::sink()).map_err(problem_of)?;
            if self.bytes.sha256() != self.sha256 {
                return Err(Problem::new(
                    Kind::Refused,
                    "dump_not_as_signed",
                    "the dump is not the one that the backup's signed manifest describes: it was changed after it \
                     was signed",
                    "Find out who changed this backup, and use another one.",
                ));
            }
        }
        Ok(event)
    }
}

/// Bytes that are read by someone else, hashed as they pass.
#[derive(Clone)]
struct Hashed(Arc<Mutex<(Box<dyn Read + Send>, Sha256)>>);

impl Hashed {
    /// Of what was read so far, hexadecimal.
    fn sha256(&self) -> String {
        hex::encode(self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clone().finalize())
    }
}

impl Read for Hashed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let len = inner.0.read(out)?;
        inner.1.update(out.get(..len).unwrap_or_default());
        Ok(len)
    }
}
