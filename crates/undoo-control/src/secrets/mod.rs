//! What must not be read by whoever gets hold of the database: sealed secrets, hashed passwords, tokens.
//!
//! Nothing here is ever logged. What comes out of a function as text that someone types or sends is a
//! `SecretString`; what goes into the database is sealed or hashed.

mod opaque;
mod password;
mod seal;

pub(crate) use opaque::Opaque;
pub(crate) use password::{check as check_password, hash as hash_password, holds as password_holds};
pub use seal::Sealer;
