//! What stands in a path or a query.

use axum::{
    extract::{
        FromRequestParts, Path, Query,
        path::ErrorKind,
        rejection::{PathRejection, QueryRejection},
    },
    http::request::Parts,
};
use serde::de::DeserializeOwned;

use crate::failure::{Failure, Result};

/// The ids in a path.
#[derive(Debug)]
pub struct At<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for At<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(refused(rejection)),
        }
    }
}

fn refused(rejection: PathRejection) -> Failure {
    let PathRejection::FailedToDeserializePathParams(failed) = rejection else {
        return Failure::of_field("path", "is not understood");
    };
    match failed.into_kind() {
        ErrorKind::DeserializeError { key, message, .. } => Failure::of_field(key, message),
        ErrorKind::ParseErrorAtKey { key, expected_type, .. } => {
            Failure::of_field(key, format!("must be a {expected_type}"))
        }
        ErrorKind::InvalidUtf8InPathParam { key } => Failure::of_field(key, "is not UTF-8"),
        other => Failure::of_field("path", other.to_string()),
    }
}

/// The parameters of a query.
#[derive(Debug)]
pub struct Asked<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(refused_query(&rejection)),
        }
    }
}

/// Why a query was not understood; the library names the parameter before a colon.
pub fn refused_query(rejection: &QueryRejection) -> Failure {
    let text = rejection.body_text();
    let said = text.rsplit_once("query string: ").map_or(text.as_str(), |(_, said)| said);
    let (field, message) = said.split_once(": ").unwrap_or(("query", said));
    Failure::of_field(field, message)
}
