//! Repositories fetched from a real git server.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod contents;
mod references;
mod servers;
mod support;
