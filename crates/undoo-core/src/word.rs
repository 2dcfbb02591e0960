//! A value's name in a sentence is its name on the wire, so that neither needs a list of its own.

/// The word that a value is in JSON; empty for one that is not a word there.
pub fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
