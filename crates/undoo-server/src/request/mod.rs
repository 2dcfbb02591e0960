//! What handlers take out of a request. Whatever is wrong with it becomes a failure that names the field.

pub mod body;
pub mod caller;
pub mod fields;
pub mod id;
pub mod page;
