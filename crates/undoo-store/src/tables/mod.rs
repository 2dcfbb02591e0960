//! Rows of every table, and the one place for each where they become what `undoo-core` calls them.
//!
//! Nothing here asks or writes: the repositories do.

#![allow(missing_docs, reason = "columns are what the entities' documentation says")]

mod access;
mod addons;
mod audit;
mod backups;
mod deployments;
mod environments;
mod events;
mod kept;
mod migrations;
mod people;
mod recovery_plans;
mod restores;
mod servers;
mod tasks;

pub(crate) use access::{link, session, token};
pub(crate) use addons::addons_origins;
pub(crate) use audit::{entry, head};
pub(crate) use backups::backup;
pub(crate) use deployments::deployment;
pub(crate) use environments::{environment, storage};
pub(crate) use events::{event, sequence};
pub(crate) use kept::{request, setting};
pub(crate) use migrations::migration;
pub(crate) use people::{organisation, organisation_member, project, project_member, user};
pub(crate) use recovery_plans::recovery_plan;
pub(crate) use restores::restore_point;
pub(crate) use servers::server;
pub(crate) use tasks::{step, task};
