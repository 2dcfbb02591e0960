//! Bytes that can be read from any position, wherever they are kept.

use std::io::{self, Read};

/// A thing of known length that can be read by range: a file, an object in S3, a part of either.
///
/// Reading is blocking: parsers run on threads of their own. An implementation returns exactly the
/// bytes asked for or an error, and never bytes of a later version of the object (it pins the ETag).
pub trait RangedRead: Send + Sync {
    /// Length in bytes.
    fn size(&self) -> u64;

    /// A stream over `[offset, offset + len)`, fetched as one request where the storage allows it.
    ///
    /// # Errors
    /// When the range lies outside the object, or the storage does not answer. A stream that ends
    /// early yields [`io::ErrorKind::UnexpectedEof`], never a short end that looks like a good one.
    fn stream(&self, offset: u64, len: u64) -> io::Result<Box<dyn Read + Send>>;

    /// The bytes of `[offset, offset + len)`, for small reads such as headers.
    ///
    /// # Errors
    /// As [`RangedRead::stream`].
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.stream(offset, len as u64)?.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl RangedRead for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn stream(&self, offset: u64, len: u64) -> io::Result<Box<dyn Read + Send>> {
        let end = offset.checked_add(len).filter(|end| *end <= self.size());
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Box::new(io::Cursor::new(self[offset as usize..end as usize].to_vec())))
    }
}
