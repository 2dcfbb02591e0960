//! Tests against the Docker Engine of this machine, with real containers of the images that `dev/images`
//! makes.
//!
//! This binary is static and is also the program that movers and agents of these tests run: with `play`
//! and a role as arguments it plays that role instead of testing.

mod mover;
mod roles;
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
    let trials = [mover::trials(), target::trials()].into_iter().flatten().collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
