//! Repositories fetched from a real git server.

mod contents;
mod references;
mod servers;
mod support;
