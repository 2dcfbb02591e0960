//! Lines on standard output, for the whole program. Who reads them may stop (`undoo list … | head -1`): then
//! nobody is told any more, and what was begun goes on to its end. The standard macro would panic.

use std::io::{self, Write as _};

use undoo_core::{Kind, Problem, Result};

/// Shadows the standard macro in this program.
macro_rules! println {
    () => {
        println!("")
    };
    ($($text:tt)*) => {{
        let line = format_args!($($text)*);
        let _ = std::io::Write::write_fmt(&mut std::io::stdout().lock(), format_args!("{line}\n"));
    }};
}

/// A whole text.
///
/// # Errors
/// `output` (`Unavailable`) where it cannot be written, though somebody wants it.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let message = "standard output cannot be written to";
            Err(Problem::new(Kind::Unavailable, "output", message, "").caused_by(error))
        }
        _ => Ok(()),
    }
}
