//! The engine against real PostgreSQL servers and real directories: everything that a restore promises.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod backup;
mod crashes;
mod cutover;
mod fidelity;
mod filestore;
mod findings;
mod full_disk;
mod kept;
mod leftovers;
mod lock;
mod odoo;
mod outgoing;
mod pace;
mod rights;
mod server;
mod tls;
mod world;
