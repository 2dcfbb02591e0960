//! Tests of the readers as their users call them.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod custom_postgres;
