//! Tests against the Docker Engine of this machine, with real containers of the images that `dev/images`
//! makes.
//!
//! This binary is static and is also the program that movers and agents of these tests run: with `play`
//! and a role as arguments it plays that role instead of testing.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod agent;
mod breaks;
mod cleanup;
mod deploy;
mod mover;
mod odoo;
mod packages;
mod roles;
mod service;
mod support;
mod target;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if let [_, play, role, rest @ ..] = words.as_slice()
        && play == "play"
    {
        return roles::play(role, rest);
    }
    let arguments = libtest_mimic::Arguments::from_args();
    let trials = [
        agent::trials(),
        breaks::trials(),
        cleanup::trials(),
        deploy::trials(),
        mover::trials(),
        odoo::trials(),
        packages::trials(),
        service::trials(),
        target::trials(),
    ];
    let trials = trials.into_iter().flatten().collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
