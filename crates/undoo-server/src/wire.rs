//! From what use cases answer to what travels, where `undoo-api` cannot know the former.

use serde::{Serialize, de::DeserializeOwned};
use undoo_control::Caller;
use undoo_core::{Kind, OrganisationId, Problem};

use crate::failure::{Failure, Result};

/// A value of a type that is written just like it.
///
/// # Errors
/// An internal one where the two types have grown apart.
pub fn answered<T: DeserializeOwned>(value: &impl Serialize) -> Result<T> {
    let read = serde_json::to_value(value).and_then(serde_json::from_value);
    read.map_err(|error| {
        let what = std::any::type_name::<T>();
        let message = format!("an answer does not have the shape of {what}");
        Problem::new(Kind::Internal, "answer_shape", message, "").caused_by(error).into()
    })
}

/// A part of a request as a use case knows it: what the two types make of it may differ in bounds.
///
/// # Errors
/// `invalid_fields`, naming a field within that part.
pub fn asked<T: DeserializeOwned>(field: &str, value: &impl Serialize) -> Result<T> {
    let value = serde_json::to_value(value).map_err(|error| Failure::of_field(field, error.to_string()))?;
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let place = if path == "." { field.to_owned() } else { format!("{field}.{path}") };
        Failure::of_field(place, error.into_inner().to_string())
    })
}

/// The organisation that is meant: the one that was named, or the only one of the caller.
///
/// # Errors
/// `invalid_fields` where it has to be named.
pub fn organization(caller: &Caller, named: Option<OrganisationId>) -> Result<OrganisationId> {
    match (named, caller.grants.organisations().as_deref()) {
        (Some(named), _) => Ok(named),
        (None, Some([only])) => Ok(*only),
        (None, _) => Err(Failure::of_field(
            "organization_id",
            "is required, since there are several that could be meant",
        )),
    }
}
