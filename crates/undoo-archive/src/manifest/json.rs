//! JSON as Python's `json.dump(…, indent=4)` writes it, which is what Odoo does, except that what lies
//! deep is kept on one line: an index has thousands of numbers.

use std::io::{self, Write};

use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

/// Depth from which on a container is on one line.
const ONE_LINE: usize = 4;

/// The formatter.
pub(super) struct Indented {
    /// How many containers are open.
    depth: usize,
    pretty: PrettyFormatter<'static>,
}

impl Indented {
    pub(super) fn new() -> Self {
        Self { depth: 0, pretty: PrettyFormatter::with_indent(b"    ") }
    }
}

/// Has a step done in the way of the container that it belongs to.
macro_rules! step {
    ($self:ident, $depth:expr, $step:ident($($argument:expr),*)) => {
        if $depth < ONE_LINE { $self.pretty.$step($($argument),*) } else { CompactFormatter.$step($($argument),*) }
    };
}

impl Formatter for Indented {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth += 1;
        step!(self, self.depth - 1, begin_array(out))
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth -= 1;
        step!(self, self.depth, end_array(out))
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        step!(self, self.depth - 1, begin_array_value(out, first))
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        step!(self, self.depth - 1, end_array_value(out))
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth += 1;
        step!(self, self.depth - 1, begin_object(out))
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth -= 1;
        step!(self, self.depth, end_object(out))
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        step!(self, self.depth - 1, begin_object_key(out, first))
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        step!(self, self.depth - 1, begin_object_value(out))
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        step!(self, self.depth - 1, end_object_value(out))
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde_json::{Serializer, json};

    use super::Indented;

    #[test]
    fn shallow_values_are_as_python_writes_them_and_deep_ones_on_one_line() {
        let value = json!({"a": [1, "x"], "b": {"c": {"d": {"e": [1, 2]}}}, "f": {}});
        let mut out = Vec::new();
        value.serialize(&mut Serializer::with_formatter(&mut out, Indented::new())).unwrap();
        let text = "{\n    \"a\": [\n        1,\n        \"x\"\n    ],\n    \"b\": {\n        \"c\": {\n            \"d\": {\n                \"e\": [1,2]\n            }\n        }\n    },\n    \"f\": {}\n}";
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
}
