//! placeholder
mod name;
pub(crate) use name::{harmless, shown};
