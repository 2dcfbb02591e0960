//! Environments are shown as they are: running, stopped, or not to be reached.

use undoo_core::{
    Result,
    platform::{Environment, EnvironmentStatus, ServerStatus},
};
use undoo_store::{Page, environments, servers};

use crate::{Control, environments::place_of, plane::FoundOdoo};

pub(super) async fn reconcile(control: &Control) -> Result<()> {
    let mut page = Page { page: 1, size: 100 };
    loop {
        let listed = environments::list(&control.store, None, None, page).await?;
        let full = listed.items.len() as u64 >= page.size;
        for environment in listed.items {
            look(control, environment).await?;
        }
        if !full {
            return Ok(());
        }
        page.page += 1;
    }
}

async fn look(control: &Control, seen: Environment) -> Result<()> {
    // One that is being made is not to be shown as anything else before it is.
    if seen.status == EnvironmentStatus::Pending {
        return Ok(());
    }
    let Ok((server, _)) = place_of(&seen) else { return Ok(()) };
    let server = servers::get(&control.store, server).await?;
    let found = if server.is_some_and(|server| server.status == ServerStatus::Offline) {
        // Whoever looks after servers waits for it already.
        None
    } else {
        inspected(control, &seen).await
    };
    let status = match &found {
        Some(found) if found.running => EnvironmentStatus::Running,
        Some(_) => EnvironmentStatus::Stopped,
        None => EnvironmentStatus::Unreachable,
    };
    let tx = control.store.begin().await?;
    // It may have been changed or deleted while it was looked at.
    let now = environments::locked(&tx, seen.id).await?;
    let Some(mut environment) = now.filter(|now| now.deleted_at.is_none()) else { return Ok(()) };
    let before = environment.clone();
    environment.status = status;
    if let Some(found) = found {
        environment.odoo_version = found.odoo_version.or(environment.odoo_version);
        environment.postgres_version = found.postgres_version.or(environment.postgres_version);
        environment.odoo_image = Some(found.image);
    }
    if environment == before {
        return Ok(());
    }
    environments::update(&tx, &environment).await?;
    tx.commit().await
}

async fn inspected(control: &Control, environment: &Environment) -> Option<FoundOdoo> {
    let found = match control.location_of(environment).await {
        Ok(at) => control.plane.inspect(&at).await,
        Err(problem) => Err(problem),
    };
    if let Err(problem) = &found {
        tracing::debug!(%problem, environment = %environment.id, "not to be reached");
    }
    found.ok()
}
