//! The binary itself, as far as it needs neither Docker nor an Odoo: those are in `e2e`.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod output;
mod users;

use std::process::Command;

/// The program, with no settings of whoever runs the tests.
fn undoo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_undoo"));
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in ours.filter(|name| name.to_string_lossy().starts_with("UNDOO_")) {
        command.env_remove(name);
    }
    command
}
