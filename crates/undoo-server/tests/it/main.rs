//! The server as its callers see it: in process or listening, over a real store, with nothing behind the port.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod answers;
mod browser;
mod contract;
mod curl;
mod deployed;
mod documented;
mod events;
mod matrix;
mod openapi;
mod place;
mod plane;
mod platform;
mod sessions;
