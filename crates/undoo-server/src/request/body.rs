//! Bodies: JSON whatever the content type says, as `curl -d` says something else, and no body is `{}`.
//!
//! That JSON in a form's content type is taken opens no door to other sites' forms: a request that is
//! signed in by cookie has to prove its origin, and so does one that signs in (`caller.rs`).

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode},
};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use undoo_control::Once;

use crate::failure::{Failure, Result};

/// Header that makes a request which is sent twice be carried out once.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
const LONGEST_KEY: usize = 255;

/// What was sent.
#[derive(Debug)]
pub struct Sent<T> {
    /// The body.
    pub body: T,
    /// What it is known by if it is sent again.
    pub once: Option<Once>,
}

/// A body that holds nothing but what is optional.
#[derive(Debug, serde::Deserialize)]
pub struct Nothing {}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Sent<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        let place = format!("{} {}\n", request.method(), request.uri().path());
        let key = key(request.headers())?;
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| unread(&rejection))?;
        let body = parse(if bytes.trim_ascii().is_empty() { b"{}" } else { &bytes })?;
        let once = key.map(|key| {
            let mut hash = Sha256::new_with_prefix(place);
            hash.update(&bytes);
            Once { key, request_hash: hash.finalize().into() }
        });
        Ok(Self { body, once })
    }
}

fn unread(rejection: &axum::extract::rejection::BytesRejection) -> Failure {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Failure::with_status(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            "the body is larger than any request needs",
            "Send a smaller one.",
        ),
        _ => Failure::with_status(
            StatusCode::BAD_REQUEST,
            "body_broken_off",
            "the body could not be read to its end",
            "Send the request again.",
        ),
    }
}

fn key(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    match value.to_str() {
        Ok(key) if (1..=LONGEST_KEY).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => Err(Failure::of_field(
            "Idempotency-Key",
            format!("must be 1 to {LONGEST_KEY} visible ASCII characters"),
        )),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    // The library would take an array of the fields for the object.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(Failure::of_field("body", "must be a JSON object"));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let body = serde_path_to_error::deserialize(&mut json).map_err(|error| refused(&error))?;
    json.end().map_err(|error| no_json(&error))?;
    no_nul(bytes)?;
    Ok(body)
}

fn refused(error: &serde_path_to_error::Error<serde_json::Error>) -> Failure {
    let inner = error.inner();
    if !inner.is_data() {
        return no_json(inner);
    }
    let text = inner.to_string();
    let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    let path = error.path().to_string();
    let path = if path == "." { "" } else { path.as_str() };
    match named(message) {
        Some(("missing field", field)) => {
            Failure::of_field(join(path, field), "is required and was not sent")
        }
        Some(("unknown field", _)) => Failure::of_field(path, message),
        _ => Failure::of_field(if path.is_empty() { "body" } else { path }, message),
    }
}

/// A message of serde that is about a field: what about it, and its name.
fn named(message: &str) -> Option<(&str, &str)> {
    let (what, rest) = message.split_once(" `")?;
    Some((what, rest.split_once('`')?.0))
}

fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

fn no_json(error: &serde_json::Error) -> Failure {
    Failure::with_status(
        StatusCode::BAD_REQUEST,
        "invalid_json",
        &format!("the body is not JSON (line {}, column {})", error.line(), error.column()),
        "Send a JSON object.",
    )
}

/// A text with a NUL is one for JSON and none for PostgreSQL, so there is no such text.
fn no_nul(bytes: &[u8]) -> Result<()> {
    fn holds(value: &serde_json::Value) -> bool {
        use serde_json::Value;
        match value {
            Value::String(text) => text.contains('\0'),
            Value::Array(values) => values.iter().any(holds),
            Value::Object(map) => map.iter().any(|(key, value)| key.contains('\0') || holds(value)),
            _ => false,
        }
    }
    let written = bytes.windows(6).any(|six| six == br"\u0000");
    let value =
        if written { serde_json::from_slice(bytes).unwrap_or_default() } else { serde_json::Value::Null };
    if holds(&value) {
        return Err(Failure::of_field("body", "a text holds a NUL character"));
    }
    Ok(())
}
