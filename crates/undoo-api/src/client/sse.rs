//! Server-Sent Events out of bytes (HTML, "Interpreting an event stream"): no more of one is kept than
//! [`MOST`] bytes, whatever comes.

/// Bytes that one event has at most.
const MOST: usize = 1024 * 1024;

/// What a stream has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its name; `message` where it has none.
    pub name: String,
    /// Its data; `None` where only the place in the stream or the pause was told.
    pub data: Option<String>,
    /// The place in the stream, where one was ever told.
    pub id: Option<String>,
    /// Milliseconds to wait before coming back, where that was told.
    pub retry: Option<u64>,
}

/// An event that is longer than any should be.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

/// What was read of a stream so far.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    after_cr: bool,
    begun: bool,
    name: String,
    data: Option<String>,
    id: Option<String>,
    id_told: bool,
    retry: Option<u64>,
}

impl Parser {
    /// Takes bytes, and answers what they completed.
    ///
    /// # Errors
    /// When an event is too long.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Message>, TooLong> {
        let mut messages = Vec::new();
        for &byte in bytes {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                // The second half of a line's end.
                b'\n' if after_cr => {}
                b'\n' | b'\r' => messages.extend(self.end_line()),
                byte => self.line.push(byte),
            }
            if self.line.len() + self.data.as_ref().map_or(0, String::len) > MOST {
                return Err(TooLong);
            }
        }
        Ok(messages)
    }

    fn end_line(&mut self) -> Option<Message> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let line = if std::mem::replace(&mut self.begun, true) {
            line.as_ref()
        } else {
            line.trim_start_matches('\u{feff}')
        };
        if line.is_empty() {
            return self.end_event();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => {
                self.id = (!value.is_empty()).then(|| value.to_owned());
                self.id_told = true;
            }
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => self.retry = value.parse().ok(),
            // A comment, or what a later version says.
            _ => {}
        }
        None
    }

    fn end_event(&mut self) -> Option<Message> {
        let name = std::mem::take(&mut self.name);
        let name = if name.is_empty() { "message".to_owned() } else { name };
        let (data, retry) = (self.data.take(), self.retry.take());
        let told = std::mem::take(&mut self.id_told) || data.is_some() || retry.is_some();
        told.then(|| Message { name, data, id: self.id.clone(), retry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, size: usize) -> Vec<Message> {
        let mut parser = Parser::default();
        text.as_bytes().chunks(size).flat_map(|piece| parser.push(piece).unwrap()).collect()
    }

    #[test]
    fn events_are_the_same_however_they_are_cut_and_their_lines_end() {
        let text = "\u{feff}: hello\nretry: 2000\nid: 7\n\nevent: restore.progress\ndata: {\"a\":\ndata: \"ü\"}\n\n\
                    data\n\nid\ndata:x\n\nunfinished";
        let message = |name: &str, data: Option<&str>, id: Option<&str>, retry| Message {
            name: name.into(),
            data: data.map(Into::into),
            id: id.map(Into::into),
            retry,
        };
        let expected = [
            message("message", None, Some("7"), Some(2000)),
            message("restore.progress", Some("{\"a\":\n\"ü\"}"), Some("7"), None),
            message("message", Some(""), Some("7"), None),
            message("message", Some("x"), None, None),
        ];
        for size in [1, 2, 3, 7, 1000] {
            for end in ["\n", "\r", "\r\n"] {
                assert_eq!(parsed(&text.replace('\n', end), size), expected, "{size} {end:?}");
            }
        }
    }

    #[test]
    fn an_event_without_end_is_given_up() {
        let mut parser = Parser::default();
        let line = format!("data: {}\n", "x".repeat(1000));
        let mut pushed = 0;
        while parser.push(line.as_bytes()).is_ok() {
            pushed += line.len();
            assert!(pushed < 2 * MOST);
        }
        let mut parser = Parser::default();
        assert_eq!(parser.push(&vec![b'x'; MOST + 1]), Err(TooLong));
    }
}
