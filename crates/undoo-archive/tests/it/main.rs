//! Tests of the readers as their users call them.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod custom;
mod custom_craft;
mod custom_postgres;
