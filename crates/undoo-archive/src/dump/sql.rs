//! SQL text as PostgreSQL's lexer reads it: where a token ends, and where a statement ends.
//!
//! The loader judges a statement by its tokens and then sends its text to a server. The two must agree
//! on every quote, comment and semicolon, or a dump could smuggle a second statement past the judge in
//! what looks like a string. The rules are those of PostgreSQL's `scan.l` with
//! `standard_conforming_strings` on (turning it off is refused elsewhere) and UTF-8. This module must
//! never accept a shorter or longer token than the server would.

use memchr::{memchr, memchr2, memmem};

#[cfg(test)]
mod tests;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// An unquoted identifier or keyword; the server folds it to lower case.
    Word,
    /// `"…"`.
    QuotedName,
    /// `'…'`, also with the prefixes `N`, `B` and `X`: no backslash escapes.
    Text,
    /// `E'…'` with backslash escapes, including the parts that continue it on later lines.
    EscapeText,
    /// `$tag$…$tag$`.
    DollarText,
    /// `U&'…'` or `U&"…"`, whose meaning depends on an escape character named after it.
    Unicode,
    /// A number.
    Number,
    /// `$1`.
    Parameter,
    /// One or more operator characters.
    Operator,
    /// One of `( ) [ ] , ; : .`.
    Punctuation,
    /// A backslash outside of quotes: no SQL, but where psql sees a meta-command.
    Backslash,
    /// A character that begins no SQL token.
    Other,
    /// `-- …` up to, not including, the line's end.
    LineComment,
    /// `/* … */`, nested.
    BlockComment,
    /// A string, name or comment that the end of the text cuts off.
    Unterminated,
}

/// One token of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// See [`TokenKind`].
    pub kind: TokenKind,
    /// The token as written.
    pub text: &'a str,
    /// Byte offset in the text.
    pub at: usize,
}

impl Token<'_> {
    /// Whether this is the given keyword, unquoted, in any case.
    pub fn is_word(&self, word: &str) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(word)
    }

    /// Whether this is exactly the given punctuation or operator.
    pub fn is(&self, text: &str) -> bool {
        matches!(self.kind, TokenKind::Punctuation | TokenKind::Operator) && self.text == text
    }

    /// The identifier this token stands for: folded if unquoted, unquoted otherwise.
    pub fn name(&self) -> Option<String> {
        match self.kind {
            TokenKind::Word => Some(self.text.to_ascii_lowercase()),
            TokenKind::QuotedName => {
                let inner = self.text.strip_prefix('"')?.strip_suffix('"')?;
                Some(inner.replace("\"\"", "\""))
            }
            _ => None,
        }
    }

    /// The content of a plain or dollar-quoted string. Strings with escapes or prefixes have none:
    /// whoever needs their meaning refuses them.
    pub fn string(&self) -> Option<String> {
        match self.kind {
            TokenKind::Text => {
                let inner = self.text.strip_prefix('\'')?.strip_suffix('\'')?;
                Some(inner.replace("''", "'"))
            }
            TokenKind::DollarText => {
                let tag = self.text.get(1..)?.find('$')?.checked_add(2)?;
                self.text.get(tag..self.text.len().checked_sub(tag)?).map(str::to_owned)
            }
            _ => None,
        }
    }
}

/// The tokens of a text, without its comments.
#[derive(Debug, Clone)]
pub struct Tokens<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
}

impl<'a> Tokens<'a> {
    /// The tokens of `text`, which is taken to be complete.
    pub fn new(text: &'a str) -> Self {
        Self { text, lexer: Lexer::new(text.as_bytes(), 0, true) }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let Step::Token { kind, start, end } = self.lexer.step() else { return None };
            if matches!(kind, TokenKind::LineComment | TokenKind::BlockComment) {
                continue;
            }
            // Tokens begin and end at ASCII characters or around whole runs of non-ASCII ones.
            let text = self.text.get(start..end)?;
            return Some(Token { kind, text, at: start });
        }
    }
}

/// Splits a text into its statements, each with its semicolon. Comments and white space between
/// statements are dropped, those within are kept. A last statement without a semicolon is returned as
/// it stands. Semicolons in parentheses (rules with several actions) and in `BEGIN ATOMIC … END`
/// bodies end nothing.
pub fn split_statements(text: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut bounds = Bounds::default();
    let mut start = None;
    let mut last = 0;
    for token in Tokens::new(text) {
        let begin = *start.get_or_insert(token.at);
        last = token.at + token.text.len();
        if bounds.push(token.kind, token.text.as_bytes()) {
            if !bounds.is_empty_statement() {
                statements.extend(text.get(begin..last).map(str::to_owned));
            }
            start = None;
            bounds = Bounds::default();
        }
    }
    if let Some(begin) = start {
        statements.extend(text.get(begin..last).map(str::to_owned));
    }
    statements
}

/// Whether a text is exactly one statement with its semicolon, beyond doubt: the server would not find
/// a second one in it.
pub fn is_single_statement(text: &str) -> bool {
    let mut bounds = Bounds::default();
    let mut ended = false;
    for token in Tokens::new(text) {
        if ended || token.kind == TokenKind::Unterminated {
            return false;
        }
        ended = bounds.push(token.kind, token.text.as_bytes());
    }
    ended && !bounds.doubtful && !bounds.is_empty_statement()
}

/// Finds the end of a statement from its tokens.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bounds {
    tokens: usize,
    head: Head,
    parentheses: usize,
    after_begin: bool,
    /// Open `CASE`s within a `BEGIN ATOMIC` body.
    body: Option<usize>,
    /// A semicolon stood where the grammar has none, so that the server may see an end that we do not.
    pub(crate) doubtful: bool,
}

/// How much of `CREATE [OR REPLACE] {FUNCTION | PROCEDURE | RULE}` has been seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Head {
    #[default]
    Start,
    Create,
    Or,
    Routine,
    Rule,
    Different,
}

impl Bounds {
    /// Takes the next token (not a comment) and tells whether the statement ends with it.
    pub(crate) fn push(&mut self, kind: TokenKind, text: &[u8]) -> bool {
        self.tokens += 1;
        let word = |word: &str| kind == TokenKind::Word && text.eq_ignore_ascii_case(word.as_bytes());
        self.head = match self.head {
            Head::Start if word("create") => Head::Create,
            Head::Create if word("or") => Head::Or,
            Head::Or if word("replace") => Head::Create,
            Head::Create if word("function") || word("procedure") => Head::Routine,
            Head::Create if word("rule") => Head::Rule,
            Head::Routine => Head::Routine,
            Head::Rule => Head::Rule,
            _ => Head::Different,
        };
        let after_begin = std::mem::replace(&mut self.after_begin, word("begin"));
        match kind {
            TokenKind::Punctuation => match text {
                b"(" => self.parentheses += 1,
                b")" => self.parentheses = self.parentheses.saturating_sub(1),
                b";" => return self.semicolon(),
                _ => {}
            },
            TokenKind::Word => match &mut self.body {
                None if after_begin
                    && word("atomic")
                    && self.head == Head::Routine
                    && self.parentheses == 0 =>
                {
                    self.body = Some(0);
                }
                None => {}
                Some(cases) if word("case") => *cases += 1,
                Some(0) if word("end") => self.body = None,
                Some(cases) if word("end") => *cases -= 1,
                Some(_) => self.doubtful |= word("begin"),
            },
            TokenKind::Backslash | TokenKind::Other | TokenKind::Unterminated => self.doubtful = true,
            _ => {}
        }
        false
    }

    fn semicolon(&mut self) -> bool {
        match self.body {
            // A CASE never contains a semicolon: what we took for one was a column's label.
            Some(cases) => {
                self.doubtful |= cases > 0 || self.parentheses > 0;
                false
            }
            None if self.parentheses == 0 => true,
            None => {
                self.doubtful |= self.head != Head::Rule;
                false
            }
        }
    }

    /// Whether nothing but the semicolon has been seen.
    pub(crate) fn is_empty_statement(&self) -> bool {
        self.tokens <= 1
    }
}

/// What the lexer answers at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Token {
        kind: TokenKind,
        start: usize,
        end: usize,
    },
    /// The token that begins at this offset may go on beyond the bytes at hand.
    More(usize),
    /// No token is left.
    End,
}

/// The lexer proper, over a window of bytes that may be the front of a longer text.
#[derive(Debug, Clone)]
pub(crate) struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Whether the text ends with the window.
    complete: bool,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(bytes: &'a [u8], at: usize, complete: bool) -> Self {
        Self { bytes, at, complete }
    }

    /// The next token, comments included. A token that touches the end of an incomplete window is not
    /// reported; lexing resumes at its start when there are more bytes.
    pub(crate) fn step(&mut self) -> Step {
        while self.peek(0).is_some_and(is_space) {
            self.at += 1;
        }
        let start = self.at;
        let Some(first) = self.peek(0) else { return Step::End };
        let (kind, end) = self.token(first);
        match end {
            Some(end) if end < self.bytes.len() || self.complete => {
                self.at = end;
                Step::Token { kind, start, end }
            }
            None if self.complete => {
                self.at = self.bytes.len();
                Step::Token { kind: TokenKind::Unterminated, start, end: self.at }
            }
            _ => Step::More(start),
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    /// Kind and end of the token at hand; no end where it is cut off.
    fn token(&self, first: u8) -> (TokenKind, Option<usize>) {
        use TokenKind as K;
        let (at, next) = (self.at, self.peek(1));
        match first {
            b'-' if next == Some(b'-') => (K::LineComment, Some(self.line_comment_end(at))),
            b'/' if next == Some(b'*') => (K::BlockComment, self.block_comment_end()),
            b'\'' => (K::Text, self.quoted_end(at + 1, b'\'')),
            b'"' => (K::QuotedName, self.quoted_end(at + 1, b'"')),
            b'$' => self.dollar(),
            b'\\' => (K::Backslash, Some(at + 1)),
            b'(' | b')' | b'[' | b']' | b',' | b';' | b':' => (K::Punctuation, Some(at + 1)),
            b'.' if !next.is_some_and(|b| b.is_ascii_digit()) => (K::Punctuation, Some(at + 1)),
            b'0'..=b'9' | b'.' => (K::Number, Some(self.number_end())),
            _ if is_name_start(first) => self.word(),
            _ if is_operator(first) => (K::Operator, Some(self.operator_end())),
            _ => (K::Other, Some(at + 1)),
        }
    }

    fn word(&self) -> (TokenKind, Option<usize>) {
        use TokenKind as K;
        let rest = &self.bytes[self.at..];
        let len = rest.iter().position(|b| !is_name_part(*b)).unwrap_or(rest.len());
        let after = self.at + len;
        let single = if len == 1 { rest[0].to_ascii_lowercase() } else { 0 };
        match (single, rest.get(len).copied(), rest.get(len + 1).copied()) {
            (b'e', Some(b'\''), _) => (K::EscapeText, self.escape_text_end(after + 1)),
            (b'n' | b'b' | b'x', Some(b'\''), _) => (K::Text, self.quoted_end(after + 1, b'\'')),
            // The byte after `&` decides, and it may not have been read yet.
            (b'u', Some(b'&'), None) if !self.complete => (K::Unicode, None),
            (b'u', Some(b'&'), Some(quote @ (b'\'' | b'"'))) => {
                (K::Unicode, self.quoted_end(after + 2, quote))
            }
            _ => (K::Word, Some(after)),
        }
    }

    /// The end of a quoted text whose content begins at `from`, doubled quotes being content.
    fn quoted_end(&self, mut from: usize, quote: u8) -> Option<usize> {
        loop {
            let close = from + memchr(quote, self.bytes.get(from..)?)?;
            match self.bytes.get(close + 1) {
                Some(b) if *b == quote => from = close + 2,
                _ => return Some(close + 1),
            }
        }
    }

    /// The end of `E'…'`. A quote that follows after white space with a line feed continues it, and
    /// backslashes go on to be escapes in there.
    fn escape_text_end(&self, mut from: usize) -> Option<usize> {
        loop {
            let found = from + memchr2(b'\'', b'\\', self.bytes.get(from..)?)?;
            if self.bytes[found] == b'\\' || self.bytes.get(found + 1) == Some(&b'\'') {
                from = found + 2;
                continue;
            }
            match self.continuation(found + 1)? {
                Some(content) => from = content,
                None => return Some(found + 1),
            }
        }
    }

    /// `Some(Some(content))` where another quote continues the string closed before `from`, `None`
    /// where the window ends before that is known.
    fn continuation(&self, from: usize) -> Option<Option<usize>> {
        let (mut at, mut newline) = (from, false);
        loop {
            match self.bytes.get(at) {
                Some(b'\'') if newline => return Some(Some(at + 1)),
                Some(b) if is_space(*b) => {
                    newline |= matches!(b, b'\n' | b'\r');
                    at += 1;
                }
                Some(b'-') if self.bytes.get(at + 1) == Some(&b'-') => at = self.line_comment_end(at),
                Some(b'-') if at + 1 == self.bytes.len() && !self.complete => return None,
                None if !self.complete => return None,
                _ => return Some(None),
            }
        }
    }

    /// PostgreSQL ends a line comment at a carriage return too.
    fn line_comment_end(&self, at: usize) -> usize {
        memchr2(b'\n', b'\r', &self.bytes[at..]).map_or(self.bytes.len(), |len| at + len)
    }

    fn block_comment_end(&self) -> Option<usize> {
        let (mut at, mut depth) = (self.at + 2, 1_usize);
        while depth > 0 {
            at += memchr2(b'*', b'/', self.bytes.get(at..)?)?;
            match (self.bytes[at], self.bytes.get(at + 1)?) {
                (b'*', b'/') => (depth, at) = (depth - 1, at + 2),
                (b'/', b'*') => (depth, at) = (depth + 1, at + 2),
                _ => at += 1,
            }
        }
        Some(at)
    }

    /// A parameter, a dollar-quoted string, or a dollar sign that is neither.
    fn dollar(&self) -> (TokenKind, Option<usize>) {
        let rest = &self.bytes[self.at..];
        let digits = rest[1..].iter().take_while(|b| b.is_ascii_digit()).count();
        if digits > 0 {
            return (TokenKind::Parameter, Some(self.at + 1 + digits));
        }
        let tag = rest[1..].iter().take_while(|b| is_name_part(**b) && **b != b'$').count();
        match rest.get(tag + 1) {
            Some(b'$') => {
                let (delimiter, content) = rest.split_at(tag + 2);
                let end = memmem::find(content, delimiter).map(|len| self.at + len + 2 * delimiter.len());
                (TokenKind::DollarText, end)
            }
            None if !self.complete => (TokenKind::DollarText, None),
            _ => (TokenKind::Other, Some(self.at + 1)),
        }
    }

    fn number_end(&self) -> usize {
        let digits = |from: usize| {
            self.bytes.get(from..).map_or(0, |rest| rest.iter().take_while(|b| b.is_ascii_digit()).count())
        };
        let mut end = self.at + digits(self.at);
        // `1..10` is a range of PL/pgSQL, not `1.` and `.10`.
        if self.bytes.get(end) == Some(&b'.') && self.bytes.get(end + 1) != Some(&b'.') {
            end += 1 + digits(end + 1);
        }
        if matches!(self.bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(self.bytes.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits(end + 1 + sign);
            if exponent > 0 {
                end += 1 + sign + exponent;
            }
        }
        end
    }

    /// Operators end before a comment.
    fn operator_end(&self) -> usize {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().take_while(|b| is_operator(**b)).count();
        let comment = (1..len).find(|i| matches!(rest.get(*i..*i + 2), Some(b"--" | b"/*")));
        self.at + comment.unwrap_or(len)
    }
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn is_name_start(b: u8) -> bool {
    b.is_ascii_alphabetic() || b == b'_' || b >= 0x80
}

fn is_name_part(b: u8) -> bool {
    is_name_start(b) || b.is_ascii_digit() || b == b'$'
}

fn is_operator(b: u8) -> bool {
    b"~!@#^&|`?+-*/%<>=".contains(&b)
}
