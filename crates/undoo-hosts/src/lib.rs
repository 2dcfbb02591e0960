//! Docker hosts: what runs on one, and how Undoo runs its own work there.
//!
//! A running Odoo is adopted by looking at its containers ([`target`]), a new one is deployed around a
//! restore ([`deploy`]), the data plane runs in a throw-away container beside it ([`mover`]), Odoo itself
//! boots off to the side to prove a restore ([`odoo`]), services stop and start for a cutover ([`service`]),
//! which runs as a detached container of its own ([`agent`]); what a dead task left behind is found by label
//! ([`cleanup`]).
//!
//! This crate knows Docker and Odoo's way of being configured. It must never know what a restore is,
//! never touch a container that Undoo did not create except to stop, start or connect it when asked, and
//! never put a secret where `docker inspect` shows it: arguments, environment and labels.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that panics has failed"))]

pub mod agent;
mod archive;
pub mod binary;
pub mod cleanup;
pub mod deploy;
mod docker;
pub mod host;
mod labels;
mod lines;
pub mod mover;
pub mod odoo;
mod scratch;
pub mod service;
pub mod target;

pub use docker::{Docker, DockerEndpoint, Machine};
pub use labels::{INSPECTION_TASK, LABEL_EPOCH, LABEL_ROLE, LABEL_TARGET, LABEL_TASK, Labels, Role};
