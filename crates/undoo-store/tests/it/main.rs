//! The store against real SQLite files and real PostgreSQL servers: the same promises on both.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod audit;
mod environments;
mod events;
mod idempotency;
mod opening;
mod people;
mod queue;
mod queue_ends;
mod restores;
mod world;
