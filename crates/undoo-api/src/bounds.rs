//! The bounds of what may be sent, where the type of a field does not say them. Each is in the schema of the
//! field too.

use std::{fmt, marker::PhantomData, ops::RangeInclusive};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::Number;
use utoipa::ToSchema;

/// Characters that a name has at most.
const MOST_OF_A_NAME: usize = 200;
/// Characters that a description has at most.
const MOST_OF_A_DESCRIPTION: usize = 2000;

/// A line of text, not empty. Blanks around it are not part of it.
#[derive(ToSchema)]
#[schema(value_type = String, min_length = 1, max_length = 200)]
#[schema(pattern = r"^[^\x00-\x1F\x7F-\x9F]*[^\s\x00-\x1F\x7F-\x9F][^\x00-\x1F\x7F-\x9F]*$")]
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
    let trimmed = name.trim();
    match name.chars().count() {
        1..=MOST_OF_A_NAME if !trimmed.is_empty() && !name.chars().any(char::is_control) => {
            Ok(trimmed.to_owned())
        }
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

/// A whole number from `LEAST` to `MOST`. `8.0` is one, as it is for JSON Schema.
pub fn number<'de, D, T, const LEAST: u64, const MOST: u64>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    whole(&Number::deserialize(deserializer)?, LEAST..=MOST).map_err(D::Error::custom)
}

/// The same, if there is one.
pub fn some_number<'de, D, T, const LEAST: u64, const MOST: u64>(
    deserializer: D,
) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    let number = Option::<Number>::deserialize(deserializer)?;
    number.map(|number| whole(&number, LEAST..=MOST)).transpose().map_err(D::Error::custom)
}

fn whole<T: TryFrom<u64>>(number: &Number, bounds: RangeInclusive<u64>) -> Result<T, String> {
    let integral =
        |float: f64| (float.fract() == 0.0 && (0.0..1e15).contains(&float)).then_some(float as u64);
    let value = number.as_u64().or_else(|| number.as_f64().and_then(integral));
    let within = value.filter(|value| bounds.contains(value)).and_then(|value| T::try_from(value).ok());
    within.ok_or_else(|| {
        format!("must be a whole number from {} to {}, not {number}", bounds.start(), bounds.end())
    })
}

/// A text of up to `MOST` characters that is not empty, if there is one.
pub fn some_text<'de, D: Deserializer<'de>, const MOST: usize>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    some_of(deserializer, MOST, "characters", |_| true)
}

/// The same of visible ASCII characters.
pub fn some_visible<'de, D: Deserializer<'de>, const MOST: usize>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    some_of(deserializer, MOST, "visible ASCII characters", |c| c.is_ascii_graphic())
}

/// The same of what names of machines and buckets are made of.
pub fn some_word<'de, D: Deserializer<'de>, const MOST: usize>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let what = "letters, digits, dots, dashes and underscores";
    some_of(deserializer, MOST, what, |c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

fn some_of<'de, D: Deserializer<'de>>(
    deserializer: D,
    most: usize,
    what: &str,
    fits: fn(char) -> bool,
) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let wrong = |text: &String| !(1..=most).contains(&text.chars().count()) || !text.chars().all(fits);
    match text {
        Some(text) if wrong(&text) => Err(D::Error::custom(format!("must be 1 to {most} {what}"))),
        text => Ok(text),
    }
}

/// An `http` or `https` address, if there is one.
pub fn some_http_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    const MOST: usize = 908;
    let address = some_visible::<_, MOST>(deserializer)?;
    let http = |address: &str| {
        let host = ["http://", "https://"].iter().find_map(|start| address.strip_prefix(start));
        host.is_some_and(|host| !host.is_empty())
    };
    match address {
        Some(address) if !http(&address) => Err(D::Error::custom("must be an address such as https://host")),
        address => Ok(address),
    }
}

/// The name of a host that may be left out, or be `null`; see [`present`].
pub fn present_domain<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<String>>, D::Error> {
    some_text::<_, 253>(deserializer).map(Some)
}

/// A number that may be left out, or be `null`; see [`present`].
pub fn present_number<'de, D, T, const LEAST: u64, const MOST: u64>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    some_number::<_, _, LEAST, MOST>(deserializer).map(Some)
}

/// A text of up to `MOST` visible ASCII characters that is not empty.
pub fn visible<'de, D: Deserializer<'de>, const MOST: usize>(deserializer: D) -> Result<String, D::Error> {
    let text = some_visible::<_, MOST>(deserializer)?;
    text.ok_or_else(|| D::Error::custom("must be a text"))
}

/// A text of up to `MOST` characters that is not empty.
pub fn text<'de, D: Deserializer<'de>, const MOST: usize>(deserializer: D) -> Result<String, D::Error> {
    let text = some_text::<_, MOST>(deserializer)?;
    text.ok_or_else(|| D::Error::custom("must be a text"))
}

/// A field that may be left out, which leaves it as it is, or be `null`, which takes it away.
pub fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// A list of up to `MOST` things.
pub fn list<'de, D, T, const MOST: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let list = Vec::deserialize(deserializer)?;
    if list.len() > MOST {
        return Err(D::Error::custom(format!("must have at most {MOST} items")));
    }
    Ok(list)
}

/// An object within another one. The library would take an array of its fields for it.
pub fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_map(Object(PhantomData))
}

/// The same, if there is one.
pub fn some_object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    deserializer.deserialize_option(SomeObject(PhantomData))
}

struct SomeObject<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for SomeObject<T> {
    type Value = Option<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object or null")
    }

    fn visit_none<E: Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        object(deserializer).map(Some)
    }
}

struct Object<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// What is done unless somebody says otherwise.
pub const fn yes() -> bool {
    true
}
