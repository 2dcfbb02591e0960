//! Backup formats as pure readers: ZIP, tar, plain and custom PostgreSQL dumps, Odoo's manifest.
//!
//! Every byte here may come from an attacker. Readers take bytes through [`RangedRead`] or
//! [`std::io::Read`], hold bounded memory, and answer a [`undoo_core::Problem`] for whatever they do not
//! understand; they never guess, never panic, and never touch a file, a socket or a clock.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that panics has failed"))]

pub mod addons;
pub mod attachments;
pub mod backup;
pub mod bytes;
pub mod container;
pub mod convert;
pub mod dump;
pub mod error;
pub mod filestore;
pub mod layout;
pub mod manifest;
pub mod tar;
pub mod verify;
pub mod write;
pub mod zip;

pub use backup::Backup;
pub use bytes::RangedRead;
