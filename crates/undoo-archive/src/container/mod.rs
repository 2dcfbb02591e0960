//! placeholder
mod gzip;
mod name;
pub(crate) use gzip::{GZIP, Gunzip};
pub(crate) use name::{MAX_NAME, harmless, shown};
