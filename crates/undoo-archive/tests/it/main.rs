//! Tests of the readers as their users call them.

mod plain;
