//! Tests of the readers against archives and dumps made by the real tools, and by hand where the real
//! tools refuse to make them.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod addons;
mod convert;
mod custom;
mod custom_craft;
mod custom_postgres;
mod layout;
mod layout_craft;
mod plain;
mod seek;
mod tar;
mod verify;
mod write;
mod write_craft;
mod zip;
mod zip_craft;
mod zip_hostile;
mod zip_large;
