//! Gzip, with its errors told apart from the storage's.

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use undoo_core::{Kind, Problem};

use crate::error::{carry, problem_of};

/// What every gzip file starts with: its magic and the only method there is.
pub(crate) const GZIP: &[u8] = b"\x1f\x8b\x08";

/// The content of a gzip file of one or more members; trailers are checked, and a file that ends early
/// is an error. Errors carry their [`Problem`].
pub(crate) struct Gunzip {
    inner: MultiGzDecoder<BufReader<Marked>>,
    what: String,
}

impl Gunzip {
    /// `what` names the file for messages.
    pub(crate) fn new(input: Box<dyn Read + Send>, what: impl Into<String>) -> Self {
        let inner = MultiGzDecoder::new(BufReader::with_capacity(64 * 1024, Marked(input)));
        Self { inner, what: what.into() }
    }
}

impl Read for Gunzip {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.inner.read(out).map_err(|error| {
            if error.get_ref().is_some_and(|inner| inner.is::<Problem>()) {
                return error;
            }
            let (code, message) = match error.kind() {
                io::ErrorKind::UnexpectedEof => ("gzip_truncated", "ends before the end of its compressed data"),
                _ => ("gzip_damaged", "is damaged: its compressed data or its checksum is wrong"),
            };
            carry(
                Problem::new(
                    Kind::Invalid,
                    code,
                    format!("{} {message}", self.what),
                    "Download or copy the backup again and compare its size with the original; if it stays so, use another backup.",
                )
                .caused_by(error),
            )
        })
    }
}

/// Marks the errors of the input as such, by making them carry a problem: what does not carry one was
/// found wrong by a decoder.
pub(crate) struct Marked(pub(crate) Box<dyn Read + Send>);

impl Read for Marked {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            _ => carry(problem_of(error)),
        })
    }
}
