//! The engine against real PostgreSQL servers and real directories: everything that a restore promises.

mod crashes;
mod cutover;
mod fidelity;
mod odoo;
mod server;
mod world;
