//! Problems that travel through [`std::io::Read`].
//!
//! A reader that checks what it hands out finds a wrong checksum in the middle of someone else's
//! `read`. The problem then rides inside the [`io::Error`], and whoever called the reader gets it back
//! whole with [`problem_of`]. Nothing here words a problem of its own except for errors of the storage.

use std::io;

use undoo_core::{Kind, Problem};

/// An I/O error that carries a problem.
pub fn carry(problem: Problem) -> io::Error {
    let kind = match problem.kind {
        Kind::Unavailable => io::ErrorKind::Other,
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, problem)
}

/// The problem that an I/O error carries; for an error of the storage itself, one that says so.
pub fn problem_of(error: io::Error) -> Problem {
    let error = match error.downcast::<Problem>() {
        Ok(problem) => return problem,
        Err(error) => error,
    };
    let (code, message) = match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            ("read_broke_off", "the storage ended the backup's bytes before all that were asked for had come")
        }
        _ => ("read_failed", "the backup's bytes could not be read from the storage"),
    };
    Problem::new(
        Kind::Unavailable,
        code,
        message,
        "Try again; if it stays so, check that the storage answers and that the backup still has its full size there.",
    )
    .caused_by(error)
}

/// The problem that a reader was given by the reader beneath it, where the upper one has only told that
/// reading failed; otherwise the problem itself.
pub(crate) fn innermost(mut problem: Problem) -> Problem {
    let Some(source) = problem.source.take() else { return problem };
    match source.downcast::<io::Error>() {
        Ok(error) if error.get_ref().is_some_and(|inner| inner.is::<Problem>()) => problem_of(*error),
        Ok(error) => problem.caused_by(error),
        Err(source) => problem.caused_by(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_comes_out_of_an_io_error_as_it_went_in() {
        let problem = problem_of(carry(Problem::new(Kind::Refused, "some_code", "a message", "a remedy")));
        assert_eq!((problem.kind, problem.code), (Kind::Refused, "some_code"));
    }

    #[test]
    fn an_error_of_the_storage_is_worth_trying_again_and_keeps_its_cause() {
        let problem = problem_of(io::Error::other("connection reset"));
        assert_eq!(problem.kind, Kind::Unavailable);
        assert_eq!(problem.source.map(|s| s.to_string()).as_deref(), Some("connection reset"));
    }
}
