//! A module's manifest is a Python literal. It is read here, and never run: what is no literal is passed over.

use std::{iter::Peekable, str::CharIndices};

/// Deeper ones are no manifests.
const DEEPEST: usize = 32;

/// What a backup notes of a module.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) version: Option<String>,
    /// `external_dependencies["python"]`.
    pub(super) python: Vec<String>,
}

impl Manifest {
    /// Whatever can be read of it.
    pub(super) fn read(text: &str) -> Self {
        let Some(Value::Map(entries)) = Reader::of(text).whole() else { return Self::default() };
        let mut manifest = Self::default();
        for (key, value) in entries {
            match (key.as_str(), value) {
                ("version", Value::Text(version)) => manifest.version = Some(version),
                ("external_dependencies", Value::Map(kinds)) => {
                    let python = kinds.into_iter().filter(|(kind, _)| kind == "python");
                    manifest.python = python.flat_map(|(_, names)| names.texts()).collect();
                }
                _ => {}
            }
        }
        manifest
    }
}

enum Value {
    Text(String),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
    Other,
}

impl Value {
    fn texts(self) -> Vec<String> {
        let Self::List(items) = self else { return Vec::new() };
        let text = |item| if let Self::Text(text) = item { Some(text) } else { None };
        items.into_iter().filter_map(text).collect()
    }
}

struct Reader<'a> {
    chars: Peekable<CharIndices<'a>>,
    text: &'a str,
}

impl<'a> Reader<'a> {
    fn of(text: &'a str) -> Self {
        Self { chars: text.char_indices().peekable(), text }
    }

    /// The first map of the file: before it there may be comments and a docstring.
    fn whole(mut self) -> Option<Value> {
        loop {
            self.skip_space();
            match self.peek()? {
                '{' => return self.value(0),
                '"' | '\'' => drop(self.string()?),
                _ => _ = self.chars.next(),
            }
        }
    }

    fn peek(&mut self) -> Option<char> {
        self.chars.peek().map(|(_, c)| *c)
    }

    fn rest(&mut self) -> &'a str {
        let at = self.chars.peek().map_or(self.text.len(), |(at, _)| *at);
        self.text.get(at..).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        while let Some(c) = self.peek() {
            match c {
                '#' => while self.chars.next_if(|(_, c)| *c != '\n').is_some() {},
                c if c.is_whitespace() || c == '\\' => _ = self.chars.next(),
                _ => break,
            }
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > DEEPEST {
            return None;
        }
        self.skip_space();
        let value = match self.peek()? {
            '{' => self.map(depth)?,
            '[' => self.list(']', depth)?,
            '(' => self.list(')', depth)?,
            '"' | '\'' => Value::Text(self.string()?),
            _ => self.word()?,
        };
        // What is added or called is worth nothing here, but has to be passed.
        self.skip_space();
        match self.peek() {
            Some(',' | '}' | ']' | ')' | ':') | None => Some(value),
            Some(_) => {
                while !matches!(self.peek(), Some(',' | '}' | ']' | ')' | ':') | None) {
                    self.value(depth + 1)?;
                }
                Some(Value::Other)
            }
        }
    }

    fn map(&mut self, depth: usize) -> Option<Value> {
        self.chars.next();
        let mut entries = Vec::new();
        loop {
            self.skip_space();
            if self.chars.next_if(|(_, c)| *c == '}').is_some() {
                return Some(Value::Map(entries));
            }
            let key = self.value(depth + 1)?;
            self.skip_space();
            if self.chars.next_if(|(_, c)| *c == ':').is_some() {
                let value = self.value(depth + 1)?;
                if let Value::Text(key) = key {
                    entries.push((key, value));
                }
            }
            self.comma('}')?;
        }
    }

    fn list(&mut self, end: char, depth: usize) -> Option<Value> {
        self.chars.next();
        let mut items = Vec::new();
        loop {
            self.skip_space();
            if self.chars.next_if(|(_, c)| *c == end).is_some() {
                // Brackets around one value are no list.
                return Some(if end == ')' && items.len() == 1 {
                    items.remove(0)
                } else {
                    Value::List(items)
                });
            }
            items.push(self.value(depth + 1)?);
            self.comma(end)?;
        }
    }

    /// A comma, unless the end comes next.
    fn comma(&mut self, end: char) -> Option<()> {
        self.skip_space();
        match self.peek()? {
            ',' => _ = self.chars.next(),
            c if c == end => {}
            _ => return None,
        }
        Some(())
    }

    /// A string, and those that follow it and belong to it.
    fn string(&mut self) -> Option<String> {
        let mut text = String::new();
        while matches!(self.peek(), Some('"' | '\'')) {
            self.literal(&mut text)?;
            self.skip_space();
        }
        Some(text)
    }

    fn literal(&mut self, text: &mut String) -> Option<()> {
        let quote = self.peek()?;
        let triple: String = [quote; 3].iter().collect();
        let end = if self.rest().starts_with(&triple) { triple } else { quote.to_string() };
        self.skip(end.len());
        loop {
            if self.rest().starts_with(&end) {
                self.skip(end.len());
                return Some(());
            }
            match self.chars.next()?.1 {
                '\\' => match self.chars.next()?.1 {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    '\n' => {}
                    other => text.push(other),
                },
                c => text.push(c),
            }
        }
    }

    fn skip(&mut self, chars: usize) {
        for _ in 0..chars {
            self.chars.next();
        }
    }

    /// A number, a constant, a prefix of a string, or an operator.
    fn word(&mut self) -> Option<Value> {
        let mut word = String::new();
        while let Some((_, c)) = self.chars.next_if(|(_, c)| c.is_alphanumeric() || matches!(c, '_' | '.')) {
            word.push(c);
        }
        match self.peek() {
            Some('"' | '\'') if word.len() < 3 && word.chars().all(|c| "rRuUbBfF".contains(c)) => {
                Some(Value::Text(self.string()?))
            }
            // Some other sign.
            _ if word.is_empty() => self.chars.next().map(|_| Value::Other),
            _ => Some(Value::Other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<String>, Vec<String>) {
        let Manifest { version, python } = Manifest::read(text);
        (version, python)
    }

    #[test]
    fn version_and_python_packages_are_read_as_python_would() {
        let text = "# -*- coding: utf-8 -*-\n\"\"\"A module.\"\"\"\n{\n  'name': u'Acme {it\\'s}', # a comment {\n  \
            'version': '19.0.' \"1.2\",\n  'depends': ['base', 'web',],\n  'price': -9.99, 'auto_install': True,\n  \
            'description': \"\"\"Two\nlines with ' and \" in them\"\"\",\n  'summary': ('long'\n     ' text'),\n  \
            'external_dependencies': {'python': ['xlrd', \"pyOpenSSL\"], 'bin': ['wkhtmltopdf']},\n  \
            'data': [x for x in ()] + ['a.xml'],\n}\n";
        assert_eq!(read(text), (Some("19.0.1.2".into()), vec!["xlrd".into(), "pyOpenSSL".into()]));
    }

    #[test]
    fn what_is_no_literal_gives_nothing_and_does_not_hang() {
        for text in
            ["", "{", "{'version'", "{'version': '1", "import os\nos.exit()", "{{{{{{", "{'a': ]}", "'''"]
        {
            assert_eq!(read(text), (None, Vec::new()), "{text}");
        }
        assert_eq!(read(&"{'a':[".repeat(10_000)), (None, Vec::new()));
        assert_eq!(read("{'version': version(), 'external_dependencies': []}"), (None, Vec::new()));
    }
}
