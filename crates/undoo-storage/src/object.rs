//! One backup file, opened: its length, its version, and its bytes by range.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures_util::{
    StreamExt,
    stream::{BoxStream, try_unfold},
};

use crate::{
    folder::{Folder, blocking},
    local::{CHUNK, LocalFile, check_range},
    options::Options,
    resume::{Remote, Source, Version},
};

/// Bytes of an object in order. It yields every byte that was asked for or an error; errors carry a
/// problem, see [`crate::problem_of`].
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// What lies at a location.
pub enum Opened {
    /// One file.
    File(Arc<Object>),
    /// A folder of files.
    Folder(Arc<Folder>),
}

/// An opened file, pinned to the version first seen.
pub struct Object(Inner);

enum Inner {
    Local { file: LocalFile, place: String, version: String },
    Remote(Arc<Remote>),
}

impl Object {
    pub(crate) fn local(file: LocalFile) -> Self {
        let (place, version) = (file.path().display().to_string(), file.version());
        Self(Inner::Local { file, place, version })
    }

    pub(crate) fn remote(
        place: String,
        version: Version,
        source: Box<dyn Source>,
        options: &Options,
    ) -> Self {
        Self(Inner::Remote(Arc::new(Remote { place, version, source, options: options.clone() })))
    }

    /// Its address, without secrets.
    pub fn place(&self) -> &str {
        match &self.0 {
            Inner::Local { place, .. } => place,
            Inner::Remote(remote) => &remote.place,
        }
    }

    /// Length in bytes.
    pub fn size(&self) -> u64 {
        match &self.0 {
            Inner::Local { file, .. } => file.size(),
            Inner::Remote(remote) => remote.version.size,
        }
    }

    /// What tells this version from others: the ETag, else the time of change; none where a server sends
    /// neither. Only ever compared, never parsed.
    pub fn version(&self) -> Option<&str> {
        match &self.0 {
            Inner::Local { version, .. } => Some(version),
            Inner::Remote(remote) => {
                remote.version.etag.as_deref().or(remote.version.last_modified.as_deref())
            }
        }
    }

    /// The file, when it is on this machine.
    pub fn as_local(&self) -> Option<&LocalFile> {
        match &self.0 {
            Inner::Local { file, .. } => Some(file),
            Inner::Remote(_) => None,
        }
    }

    /// The bytes `[offset, offset + len)` in one request, resumed where it breaks.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the range does not lie within the object. While reading, see
    /// [`ByteStream`]; the problem `backup_changed_while_read` says that another version lies there now.
    pub fn read(&self, offset: u64, len: u64) -> io::Result<ByteStream> {
        let end = check_range(offset, len, self.size())?;
        match &self.0 {
            Inner::Local { file, .. } => Ok(read_local(file.clone(), offset, end)),
            Inner::Remote(remote) => Ok(remote.read(offset, len)),
        }
    }
}

fn read_local(file: LocalFile, offset: u64, end: u64) -> ByteStream {
    file.options().meter.add_request();
    try_unfold((file, offset), move |(file, position)| async move {
        let left = usize::try_from(end - position).unwrap_or(CHUNK).min(CHUNK);
        if left == 0 {
            return Ok(None);
        }
        let reader = file.clone();
        let bytes = blocking(move || {
            let mut buffer = vec![0; left];
            Ok(reader.read_at(&mut buffer, position).map(|read| {
                buffer.truncate(read);
                Bytes::from(buffer)
            }))
        });
        let bytes = bytes.await.map_err(io::Error::other)??;
        if let Some(bandwidth) = &file.options().bandwidth {
            tokio::time::sleep(bandwidth.take(bytes.len())).await;
        }
        let next = position + bytes.len() as u64;
        Ok(Some((bytes, (file, next))))
    })
    .boxed()
}
