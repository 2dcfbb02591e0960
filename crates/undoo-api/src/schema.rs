//! What schemas become where a value has to be there, or is left out. It knows no field by name.

use utoipa::openapi::{
    RefOr, Schema,
    schema::{OneOf, SchemaType, Type},
};

/// The same schema without `null`.
pub fn without_null(schema: RefOr<Schema>) -> RefOr<Schema> {
    match schema {
        RefOr::T(Schema::Object(mut object)) => {
            if let SchemaType::Array(types) = &object.schema_type
                && let Some(one) = types.iter().find(|one| **one != Type::Null)
            {
                object.schema_type = SchemaType::Type(one.clone());
            }
            RefOr::T(Schema::Object(object))
        }
        RefOr::T(Schema::OneOf(OneOf { items, description, .. })) if items.iter().any(is_null) => {
            let value = items.into_iter().find(|item| !is_null(item)).unwrap_or_default();
            match value {
                RefOr::Ref(mut reference) => {
                    reference.description = description.unwrap_or_default();
                    RefOr::Ref(reference)
                }
                value => value,
            }
        }
        other => other,
    }
}

fn is_null(schema: &RefOr<Schema>) -> bool {
    let RefOr::T(Schema::Object(object)) = schema else { return false };
    object.schema_type == SchemaType::Type(Type::Null)
}
