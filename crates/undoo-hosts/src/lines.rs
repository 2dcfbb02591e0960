//! Lines out of chunks, and the end of a log, both in bounded memory.

use undoo_core::{Kind, Problem, Result};

/// The longest line that a container of ours may write. Answers are JSON lines of a few kilobytes; a
/// manifest to be signed is the longest, 16 MiB before its quotes are escaped.
const LONGEST_LINE: usize = 32 * 1024 * 1024;

/// Collects chunks and hands out whole lines without their ends.
#[derive(Default)]
pub(crate) struct LineSplitter {
    begun: Vec<u8>,
}

impl LineSplitter {
    /// Takes a chunk and calls `on_line` for each line that it completes.
    ///
    /// # Errors
    /// `container_line_too_long`: nothing of ours writes such a line.
    pub(crate) fn push(&mut self, mut chunk: &[u8], on_line: &mut dyn FnMut(&str)) -> Result<()> {
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = chunk.split_at(end);
            self.extend(line)?;
            self.emit(on_line);
            chunk = rest.get(1..).unwrap_or_default();
        }
        self.extend(chunk)
    }

    /// Hands out what came after the last line's end.
    pub(crate) fn finish(&mut self, on_line: &mut dyn FnMut(&str)) {
        if !self.begun.is_empty() {
            self.emit(on_line);
        }
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<()> {
        if self.begun.len().saturating_add(bytes.len()) > LONGEST_LINE {
            return Err(Problem::new(
                Kind::Invalid,
                "container_line_too_long",
                format!("The container wrote a line of more than {LONGEST_LINE} bytes."),
                "Report this with the version of Undoo; nothing was changed by it.",
            ));
        }
        self.begun.extend_from_slice(bytes);
        Ok(())
    }

    fn emit(&mut self, on_line: &mut dyn FnMut(&str)) {
        let line = self.begun.strip_suffix(b"\r").unwrap_or(&self.begun);
        on_line(&String::from_utf8_lossy(line));
        self.begun.clear();
    }
}

/// The last bytes of a log.
pub(crate) struct Tail {
    kept: std::collections::VecDeque<u8>,
    limit: usize,
}

impl Tail {
    /// How much of standard error is kept for an error message.
    pub(crate) const USUAL: usize = 64 * 1024;

    pub(crate) fn new(limit: usize) -> Self {
        Self { kept: std::collections::VecDeque::new(), limit }
    }

    pub(crate) fn push(&mut self, chunk: &[u8]) {
        let chunk = chunk.get(chunk.len().saturating_sub(self.limit)..).unwrap_or_default();
        let surplus = (self.kept.len() + chunk.len()).saturating_sub(self.limit);
        self.kept.drain(..surplus.min(self.kept.len()));
        self.kept.extend(chunk);
    }

    /// As text; bytes that are no UTF-8 (also half a character at the cut) become `U+FFFD`.
    pub(crate) fn into_text(self) -> String {
        String::from_utf8_lossy(&self.kept.into_iter().collect::<Vec<_>>()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_whole_however_the_chunks_fall() {
        let text = b"one\r\n\ntwo three\nlast";
        for size in 1..text.len() {
            let mut lines = Vec::new();
            let mut splitter = LineSplitter::default();
            for chunk in text.chunks(size) {
                splitter.push(chunk, &mut |line| lines.push(line.to_owned())).unwrap();
            }
            splitter.finish(&mut |line| lines.push(line.to_owned()));
            assert_eq!(lines, ["one", "", "two three", "last"], "chunks of {size}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused_instead_of_kept() {
        let mut splitter = LineSplitter::default();
        let chunk = vec![b'x'; LONGEST_LINE];
        splitter.push(&chunk, &mut |_| ()).unwrap();
        assert_eq!(splitter.push(b"x", &mut |_| ()).unwrap_err().code, "container_line_too_long");
    }

    #[test]
    fn the_tail_keeps_the_last_bytes() {
        let mut tail = Tail::new(5);
        for chunk in ["abc", "", "defgh", "i"] {
            tail.push(chunk.as_bytes());
        }
        assert_eq!(tail.into_text(), "efghi");
    }
}
