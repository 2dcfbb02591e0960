//! Environments: adopted under the right name, and gone once they are.

use std::time::Duration;

use undoo_control::{Adopt, EnvironmentChange};
use undoo_core::platform::EnvironmentType;
use undoo_store::environments;

use crate::world::{FIRST, World, on_both};

on_both!(
    a_mistyped_database_is_noticed_when_it_is_adopted,
    a_change_does_not_bring_back_what_is_deleted_meanwhile,
);

async fn a_mistyped_database_is_noticed_when_it_is_adopted(world: World) {
    let servers = world.control.server_list(&world.admin, world.organisation, FIRST).await.unwrap();
    let adopt = |database: &str| Adopt {
        project_id: world.project,
        name: "Typo".into(),
        environment_type: EnvironmentType::Staging,
        server_id: servers.items[0].id,
        container: "typo_odoo".into(),
        database_name: Some(database.into()),
        domain: None,
        storage_id: None,
    };
    let refused = world.control.environment_adopt(&world.admin, adopt("acne")).await.unwrap_err();
    assert_eq!(refused.code, "database_missing");
    assert!(refused.message.contains("it has: acme"), "{}", refused.message);
    world.control.environment_adopt(&world.admin, adopt("acme")).await.unwrap();
}

async fn a_change_does_not_bring_back_what_is_deleted_meanwhile(world: World) {
    let (control, id) = (world.control.clone(), world.staging.id);
    let tx = control.store().begin().await.unwrap();
    let mut deleted = environments::locked(&tx, id).await.unwrap().unwrap();
    deleted.deleted_at = Some(deleted.created_at);
    environments::update(&tx, &deleted).await.unwrap();
    let (changing, admin) = (control.clone(), world.admin.clone());
    let change = EnvironmentChange { name: Some("Renamed".into()), ..EnvironmentChange::default() };
    let change = tokio::spawn(async move { changing.environment_update(&admin, id, change).await });
    // Long enough for it to have read what it is about to write.
    tokio::time::sleep(Duration::from_millis(300)).await;
    tx.commit().await.unwrap();
    assert_eq!(change.await.unwrap().unwrap_err().code, "not_found");
    let kept = environments::get(control.store(), id).await.unwrap().unwrap();
    assert_eq!(kept, deleted);
}
