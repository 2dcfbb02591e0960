//! The wire types against the source document's examples, and the client against servers that behave and
//! that do not.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod client;
mod following;
mod requests;
mod responses;
mod server;
