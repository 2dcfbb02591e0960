//! Storages: where those who do not administer the platform may have backups go, and within which limits.

use serde_json::{Value, json};
use undoo_control::{Caller, Control, NewStorage, Sealer, Settings};
use undoo_core::platform::OrgRole;

use crate::world::{World, caller, on_both};

on_both!(a_storage_does_not_lead_back_into_the_platforms_server, limits_that_would_take_a_worker_are_refused);

fn minio(endpoint: &str, more: Value) -> Value {
    let mut config = json!({ "provider": "minio", "bucket": "b", "access_key": "k", "secret_key": "s",
        "endpoint": endpoint, "attempts": 1, "connect_timeout": 1 });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

impl World {
    async fn adds(&self, control: &Control, by: &Caller, config: Value) -> &'static str {
        let new = NewStorage {
            organisation_id: self.organisation,
            name: config.to_string().chars().take(200).collect(),
            config: serde_json::from_value(config).unwrap(),
            is_default: false,
        };
        let tested = control.storage_test(by, self.organisation, &new.config).await;
        let added = control.storage_create(by, new).await.map_or_else(|problem| problem.code, |_| "fine");
        assert_eq!(tested.map_or_else(|problem| problem.code, |_| "fine"), added);
        added
    }
}

async fn a_storage_does_not_lead_back_into_the_platforms_server(world: World) {
    let (session, _) = world.member("adam@example.com", OrgRole::Admin).await;
    let adam = caller(&world.control, &session).await;
    let none = json!({});
    let ftp = |host: &str| json!({ "provider": "ftp", "host": host, "port": 1, "attempts": 1 });
    let sftp = json!({ "provider": "sftp", "host": "0.0.0.0", "port": 1, "username": "u", "password": "p" });
    let region = json!({ "provider": "aws_s3", "bucket": "b", "access_key": "k", "secret_key": "s",
        "region": "x@127.0.0.1:1/", "attempts": 1 });
    for config in [
        minio("http://127.0.0.1:1", none.clone()),
        minio("http://localhost:1", none.clone()),
        minio("http://localhost:1", json!({ "path_style": false })),
        minio("http://[::1]:1", none.clone()),
        minio("http://169.254.169.254", none.clone()),
        minio("http://2130706433:1", none.clone()),
        ftp("localhost"),
        ftp("fe80::1"),
        sftp,
    ] {
        let said = world.adds(&world.control, &adam, config.clone()).await;
        assert_eq!(said, "storage_host_refused", "{config}");
    }
    // The region does not choose the server.
    let said = world.adds(&world.control, &adam, region).await;
    assert!(["storage_host_refused", "storage_settings"].contains(&said), "{said}");
    // A server in one's own network, which does not have to be there; and the platform's own for its admins.
    let unreachable = json!({ "stall_timeout": 1 });
    assert_eq!(world.adds(&world.control, &adam, minio("http://10.255.255.1:1", unreachable)).await, "fine");
    let own = minio("http://127.0.0.1:1", none.clone());
    assert_eq!(world.adds(&world.control, &world.admin, own).await, "fine");
    // Or where the platform's settings name it.
    let settings = Settings { storage_hosts: vec!["LOCALHOST".into()], ..Settings::default() };
    let store = world.control.store().clone();
    let control = Control::new(store, world.plane.clone(), Sealer::new(&[7; 32], &[]), settings);
    assert_eq!(world.adds(&control, &adam, minio("http://localhost:1", none)).await, "fine");
}

async fn limits_that_would_take_a_worker_are_refused(world: World) {
    for limit in [
        json!({ "part_size": u64::MAX }),
        json!({ "part_size": 268_435_456, "concurrency": 32 }),
        json!({ "stall_timeout": u64::MAX }),
        json!({ "bandwidth_limit": 0 }),
    ] {
        let config = minio("http://127.0.0.1:1", limit);
        assert_eq!(world.adds(&world.control, &world.admin, config).await, "storage_limit_invalid");
    }
}
