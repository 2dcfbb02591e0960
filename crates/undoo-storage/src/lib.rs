//! Where backups are kept, and how their bytes are read from there.
//!
//! A [`Location`] is an address as a person types it; with credentials it becomes an [`Access`], which a
//! [`StorageOrder`] carries to a mover on another server; opening it gives an [`Object`] or a [`Folder`].
//! Parsers are blocking, so [`BlockingObject`] and [`BlockingFolder`] bring the bytes to them, fetched a
//! little ahead.
//!
//! This crate must never know what the bytes mean, never write to disk, never hold more of an object than
//! a small read-ahead, and never return bytes of two versions of one object: whatever is opened is pinned
//! to the version first seen.

mod access;
mod blocking;
mod client;
mod fault;
mod folder;
mod http_source;
mod local;
mod location;
mod meter;
mod object;
mod options;
mod resume;
mod s3_source;

pub use access::{Access, HttpAccess, S3Access, S3Credentials, StorageOrder};
pub use blocking::{BlockingFolder, BlockingObject};
pub use fault::{problem_in, problem_of};
pub use folder::{Entry, Folder};
pub use local::{LocalFile, LocalFolder};
pub use location::Location;
pub use meter::{Bandwidth, Meter};
pub use object::{ByteStream, Object, Opened};
pub use options::{Options, Retry};
