//! Environments are shown as they are: running, stopped, or not to be reached.

use undoo_core::{
    Result,
    platform::{Environment, EnvironmentStatus},
};
use undoo_store::{Page, environments};

use crate::{Control, environments::location_of};

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
    let Ok(at) = location_of(&seen) else { return Ok(()) };
    let found = control.plane.inspect(&at).await;
    let status = match &found {
        Ok(found) if found.running => EnvironmentStatus::Running,
        Ok(_) => EnvironmentStatus::Stopped,
        Err(problem) => {
            tracing::debug!(%problem, environment = %seen.id, "not to be reached");
            EnvironmentStatus::Unreachable
        }
    };
    let tx = control.store.begin().await?;
    // It may have been changed or deleted while it was looked at.
    let now = environments::locked(&tx, seen.id).await?;
    let Some(mut environment) = now.filter(|now| now.deleted_at.is_none()) else { return Ok(()) };
    let before = environment.clone();
    environment.status = status;
    if let Ok(found) = found {
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
