//! What the platform decides: who may do what, what a restore consists of, what is tried again.

pub mod plane;
