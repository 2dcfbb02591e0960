//! Where backups are kept, and how their bytes get there and back.
//!
//! A [`Location`] is an address as a person types it; with credentials it becomes an [`Access`], which a
//! [`StorageOrder`] carries to a mover on another server. Opened to be read, it gives an [`Object`] or a
//! [`Folder`]; as a place to keep things in, a [`Storage`]. Parsers are blocking, so [`BlockingObject`],
//! [`BlockingFolder`] and [`BlockingUpload`] take the bytes to and from them, a little ahead.
//!
//! This crate must never know what the bytes mean, never hold more of an object than a small read-ahead or
//! a few parts, never return bytes of two versions of one object (whatever is opened is pinned to the
//! version first seen), and never let a part of an object be seen under its key.

mod access;
mod blocking;
mod check;
mod client;
mod environment;
mod fault;
mod folder;
mod ftp;
mod http_source;
mod local;
mod local_storage;
mod location;
mod lock;
mod meter;
mod object;
mod options;
mod order;
mod reach;
mod resume;
mod s3;
mod same_server;
mod sftp;
pub mod ssh;
mod storage;
mod tcp;
mod upload;
pub mod web;

pub use access::{
    Access, FtpAccess, FtpTls, HttpAccess, Provider, S3Access, S3Credentials, SftpAccess, SshAccess,
};
pub use blocking::{BlockingFolder, BlockingObject, BlockingUpload};
pub use check::{Outcome, Report, Step, StepName, test};
pub use fault::{HostKey, host_key_in, problem_among, problem_in, problem_of};
pub use folder::{Entry, Folder};
pub use local::{LocalFile, LocalFolder};
pub use location::Location;
pub use lock::{LockMode, ObjectLock};
pub use meter::{Bandwidth, Meter};
pub use object::{ByteStream, Object, Opened};
pub use options::{Options, Retry};
pub use order::{Limits, Redacted, StorageConfig, StorageOrder};
pub use reach::Reach;
pub use storage::{BACKUPS, Stat, Storage, Unfinished, backup_key, backup_parts, backup_prefix};
pub use tokio_util::sync::CancellationToken;
pub use upload::Upload;
