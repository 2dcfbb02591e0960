//! How answers of a server look to a person.

use comfy_table::{Table, presets};
use jiff::Timestamp;

/// A table with these columns.
pub fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns);
    table
}

/// A table of one thing: a row for each of its properties.
pub fn properties(rows: impl IntoIterator<Item = (&'static str, String)>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (name, value) in rows {
        table.add_row([name.to_owned(), value]);
    }
    table
}

/// A time, to the minute.
pub fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// A time that may not have come.
pub fn time_of(when: Option<Timestamp>) -> String {
    when.map_or_else(none, time)
}

/// What there may be.
pub fn text(value: Option<impl ToString>) -> String {
    value.map_or_else(none, |value| value.to_string())
}

/// Bytes that may be known.
pub fn size(bytes: Option<i64>) -> String {
    bytes.and_then(|bytes| u64::try_from(bytes).ok()).map_or_else(none, crate::commands::bytes)
}

/// Says that there is more than is shown.
pub fn more(shown: usize, total: u64) {
    if (shown as u64) < total {
        println!("{shown} of {total}; --limit shows more");
    }
}

fn none() -> String {
    "-".into()
}
