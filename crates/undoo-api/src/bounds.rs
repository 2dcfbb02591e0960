//! The bounds of what may be sent, where the type of a field does not say them. Each is in the schema of the
//! field too.

use std::{fmt::Display, ops::RangeInclusive};

use serde::{Deserialize, Deserializer, de::Error};
use utoipa::ToSchema;

/// Characters that a name has at most.
const MOST_OF_A_NAME: usize = 200;
/// Characters that a description has at most.
const MOST_OF_A_DESCRIPTION: usize = 2000;
/// Hours for which a replaced pair may be kept: up to a year.
const UNDO_WINDOW_HOURS: RangeInclusive<u32> = 1..=720;
/// Days for which a token may hold: up to ten years.
const EXPIRES_IN_DAYS: RangeInclusive<u32> = 1..=3650;

/// A line of text, not empty. Blanks around it are not part of it.
#[derive(ToSchema)]
#[schema(value_type = String, min_length = 1, max_length = 200)]
#[schema(pattern = r"^[^\x00-\x1F\x7F-\x9F]*\S[^\x00-\x1F\x7F-\x9F]*$")]
pub struct Name(#[allow(dead_code, reason = "it stands for its schema")] String);

/// A password that somebody chooses.
#[derive(ToSchema)]
#[schema(value_type = String, format = Password, min_length = 10, max_length = 1024)]
pub struct NewPassword(#[allow(dead_code, reason = "it stands for its schema")] String);

/// See [`Name`].
pub fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    named(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// A name that may be left as it is.
pub fn some_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?;
    name.as_deref().map(named).transpose().map_err(D::Error::custom)
}

fn named(name: &str) -> Result<String, String> {
    let name = name.trim();
    match name.chars().count() {
        1..=MOST_OF_A_NAME if !name.chars().any(char::is_control) => Ok(name.to_owned()),
        _ => Err(format!("a name is a line of 1 to {MOST_OF_A_NAME} characters")),
    }
}

/// A description, if there is one.
pub fn some_description<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let description = Option::<String>::deserialize(deserializer)?;
    match description.as_deref().map_or(0, |text| text.chars().count()) {
        0..=MOST_OF_A_DESCRIPTION => Ok(description),
        length => Err(D::Error::custom(format!(
            "a description has at most {MOST_OF_A_DESCRIPTION} characters, not {length}"
        ))),
    }
}

/// See [`UNDO_WINDOW_HOURS`].
pub fn undo_window_hours<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let hours = u32::deserialize(deserializer)?;
    within(hours, &UNDO_WINDOW_HOURS, "an undo window", "hours").map_err(D::Error::custom)
}

/// See [`EXPIRES_IN_DAYS`].
pub fn expires_in_days<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let days = Option::<u32>::deserialize(deserializer)?;
    let within = |days| within(days, &EXPIRES_IN_DAYS, "a token", "days");
    days.map(within).transpose().map_err(D::Error::custom)
}

fn within<T: PartialOrd + Display>(
    value: T,
    bounds: &RangeInclusive<T>,
    what: &str,
    unit: &str,
) -> Result<T, String> {
    match bounds.contains(&value) {
        true => Ok(value),
        false => Err(format!("{what} holds for {} to {} {unit}, not {value}", bounds.start(), bounds.end())),
    }
}

/// A field that may be left out, which leaves it as it is, or be `null`, which takes it away.
pub fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// What is done unless somebody says otherwise.
pub const fn yes() -> bool {
    true
}
