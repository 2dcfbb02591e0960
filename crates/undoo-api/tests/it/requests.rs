//! What may be sent, and what is taken for what was left out.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use undoo_api::{
    backups::{CreateBackupRequest, DownloadQuery},
    environments::EnvironmentPatch,
    identity::{CreateTokenRequest, LoginRequest},
    organisations::NameRequest,
    restores::{NewEnvironment, RestoreRequest, RestoreRequestV2, RestoreStrategy},
    servers::ServerPatch,
    storages::{StorageConfig, StorageProvider},
};
use undoo_core::{
    BackupId, EnvironmentId, ServerId,
    platform::{BackupType, EnvironmentType, RestoreMode},
};

fn read<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

fn written(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap()
}

#[test]
fn a_restore_in_place_takes_only_the_backup_and_keeps_a_safety_backup_and_the_files() {
    let backup = BackupId::generate();
    let request: RestoreRequest = read(json!({ "backup_id": backup })).unwrap();
    assert_eq!(request.backup_id, backup);
    assert_eq!(request.target_environment_id, None);
    assert!(request.create_pre_restore_backup && request.include_filestore);

    let target = EnvironmentId::generate();
    let all = json!({
        "backup_id": backup,
        "target_environment_id": target,
        "create_pre_restore_backup": false,
        "include_filestore": false,
    });
    let request: RestoreRequest = read(all.clone()).unwrap();
    assert_eq!(written(&request), all);
}

#[test]
fn the_simple_restore_is_the_other_one_with_defaults() {
    let (backup, environment) = (BackupId::generate(), EnvironmentId::generate());
    let simple: RestoreRequest = read(json!({ "backup_id": backup, "include_filestore": false })).unwrap();
    let full = RestoreRequestV2::from(simple.clone());
    assert_eq!(full, RestoreRequestV2 { include_filestore: false, ..RestoreRequestV2::new(backup) });
    assert_eq!(full.target.mode, RestoreMode::Original);

    let to = RestoreRequestV2::from(RestoreRequest { target_environment_id: Some(environment), ..simple });
    assert_eq!((to.target.mode, to.target.environment_id), (RestoreMode::Existing, Some(environment)));
}

#[test]
fn an_environment_that_is_made_needs_a_name_and_a_type_and_the_rest_is_the_backups() {
    let made = |new: Value| {
        let target = json!({ "mode": "new", "new_environment": new });
        let body = json!({ "backup_id": BackupId::generate(), "target": target });
        read::<RestoreRequestV2>(body).map(|request| request.target.new_environment.unwrap())
    };
    let least = json!({ "name": "Clone", "environment_type": "staging" });
    let new = made(least.clone()).unwrap();
    assert_eq!(new, NewEnvironment::new("Clone", EnvironmentType::Staging));
    assert_eq!(written(&new), least);

    let all = json!({ "name": "Clone", "environment_type": "staging", "server_id": ServerId::generate(),
        "domain": "clone.example.com", "odoo_image": "odoo:19.0", "postgres_image": "postgres:17-alpine",
        "http_port": 8070, "odoo_conf": { "workers": "2" } });
    assert_eq!(written(&made(all.clone()).unwrap()), all);

    for (field, value) in [
        ("http_port", json!(0)),
        ("http_port", json!(65_536)),
        ("odoo_image", json!("odoo 19")),
        ("postgres_image", json!("")),
        ("odoo_conf", json!({ "workers": 2 })),
        ("password", json!("geheim")),
    ] {
        let mut wrong = least.clone();
        wrong[field] = value;
        assert!(made(wrong).is_err(), "{field}");
    }
}

#[test]
fn an_array_is_not_taken_for_an_object_within_another_one() {
    let backup = BackupId::generate();
    for target in [json!([]), json!(["existing", EnvironmentId::generate()])] {
        let refused = read::<RestoreRequestV2>(json!({ "backup_id": backup, "target": target }));
        assert!(refused.unwrap_err().contains("expected an object"));
    }
    let target = json!({ "mode": "new", "new_environment": ["Clone", "staging"] });
    assert!(read::<RestoreRequestV2>(json!({ "backup_id": backup, "target": target })).is_err());
    assert!(read::<ServerPatch>(json!({ "ssh": [null, null] })).is_err());
    assert!(read::<ServerPatch>(json!({ "ssh": null })).unwrap().ssh.is_none());
    assert!(read::<ServerPatch>(json!({ "ssh": { "user": "root" } })).unwrap().ssh.is_some());
}

#[test]
fn a_restore_with_options_takes_for_what_is_left_out_what_the_document_says() {
    let backup = BackupId::generate();
    let request: RestoreRequestV2 = read(json!({ "backup_id": backup })).unwrap();
    assert_eq!(request, RestoreRequestV2::new(backup));
    assert_eq!(request.target.mode, RestoreMode::Original);
    assert!(request.create_pre_restore_backup && request.include_filestore && request.include_database);
    assert!(request.auto_rollback && !request.dry_run);
    assert_eq!(request.strategy, RestoreStrategy::Beside);
    assert_eq!(request.undo_window_hours, 24);
    assert_eq!((request.intent, request.neutralize, request.hold_outgoing), (None, None, None));
    assert!(request.accept.is_empty());
    assert_eq!(read::<RestoreRequestV2>(written(&request)).unwrap(), request);
}

#[test]
fn the_documents_restore_to_another_server_is_understood() {
    let (backup, server) = (BackupId::generate(), ServerId::generate());
    let request: RestoreRequestV2 = read(json!({
        "backup_id": backup,
        "target": {
            "mode": "cross_server",
            "new_environment": {
                "name": "Migrated Production",
                "environment_type": "production",
                "server_id": server,
            }
        },
        "create_pre_restore_backup": false,
        "include_filestore": true
    }))
    .unwrap();
    let new = request.target.new_environment.unwrap();
    assert_eq!(request.target.mode, RestoreMode::CrossServer);
    assert_eq!((new.name.as_str(), new.server_id), ("Migrated Production", Some(server)));
    assert_eq!(new.environment_type, EnvironmentType::Production);
    assert!(!request.create_pre_restore_backup);
}

#[test]
fn a_misspelt_field_is_refused_and_not_overlooked() {
    let backup = BackupId::generate();
    let refused = |value: Value| read::<RestoreRequest>(value).unwrap_err();
    let error = refused(json!({ "backup_id": backup, "create_prerestore_backup": true }));
    assert!(error.contains("create_prerestore_backup"), "{error}");
    let nested = json!({ "backup_id": backup, "target": { "enviroment_id": backup } });
    assert!(read::<RestoreRequestV2>(nested).unwrap_err().contains("enviroment_id"));
    assert!(read::<CreateBackupRequest>(json!({ "includefilestore": false })).is_err());
    assert!(read::<CreateTokenRequest>(json!({ "name": "ci", "scope": [] })).is_err());
    assert!(read::<StorageConfig>(json!({ "provider": "aws_s3", "bukket": "b" })).is_err());
}

#[test]
fn the_documents_backup_is_understood_and_one_without_a_word_is_manual_with_files() {
    let request: CreateBackupRequest =
        read(json!({ "backup_type": "manual", "description": "Pre-upgrade safety backup" })).unwrap();
    assert_eq!(request.description.as_deref(), Some("Pre-upgrade safety backup"));
    assert_eq!(read::<CreateBackupRequest>(json!({})).unwrap(), CreateBackupRequest::default());
    let request = CreateBackupRequest::default();
    assert_eq!((request.backup_type, request.include_filestore), (BackupType::Manual, true));
    assert!(read::<CreateBackupRequest>(json!({ "description": "x".repeat(2001) })).is_err());
}

#[test]
fn addresses_of_a_download_hold_for_an_hour_and_at_most_a_day() {
    let seconds = |value| read::<DownloadQuery>(value).map(|query| u32::from(query.expires_in));
    assert_eq!(seconds(json!({})).unwrap(), 3600);
    assert_eq!(seconds(json!({ "expires_in": 86_400 })).unwrap(), 86_400);
    assert!(seconds(json!({ "expires_in": 86_401 })).is_err());
    assert!(seconds(json!({ "expires_in": 0 })).is_err());
}

#[test]
fn an_undo_window_is_an_hour_to_a_year() {
    let window = |hours: u32| {
        read::<RestoreRequestV2>(json!({ "backup_id": BackupId::generate(), "undo_window_hours": hours }))
    };
    assert_eq!(window(1).unwrap().undo_window_hours, 1);
    assert_eq!(window(720).unwrap().undo_window_hours, 720);
    assert!(window(0).is_err() && window(721).is_err());
}

#[test]
fn a_name_is_a_line_of_text_without_the_blanks_around_it() {
    let name = |name: &str| read::<NameRequest>(json!({ "name": name })).map(|request| request.name);
    assert_eq!(name(" Acme ").unwrap(), "Acme");
    assert_eq!(name(&"ü".repeat(200)).unwrap(), "ü".repeat(200));
    for wrong in ["", "  ", "a\nb", "Acme\n", &"x".repeat(201)] {
        assert!(name(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn what_is_not_sent_stays_and_null_takes_it_away() {
    let patch: EnvironmentPatch = read(json!({ "domain": null })).unwrap();
    assert_eq!((patch.domain.clone(), patch.storage_id), (Some(None), None));
    assert_eq!(written(&patch), json!({ "domain": null }));
    assert_eq!(written(&EnvironmentPatch::default()), json!({}));
}

#[test]
fn a_storage_has_the_fields_of_its_provider_and_no_others() {
    let s3 = json!({ "bucket": "b", "access_key": "k", "secret_key": "s", "endpoint": "https://h", "region": "r" });
    let configs = [
        ("local", json!({ "path": "/srv/backups" })),
        ("aws_s3", s3.clone()),
        ("cloudflare_r2", s3.clone()),
        ("backblaze_b2", s3.clone()),
        ("minio", s3),
        ("ftp", json!({ "host": "h" })),
        ("sftp", json!({ "host": "h", "username": "u" })),
    ];
    let read = |provider: &str, mut config: Value| {
        config["provider"] = provider.into();
        read::<StorageConfig>(config)
    };
    for ((provider, config), expected) in configs.into_iter().zip(StorageProvider::ALL) {
        assert_eq!(read(provider, config.clone()).unwrap().provider, expected);
        let error = read(provider, json!({ "attempts": 1 })).unwrap_err();
        assert!(error.contains("missing field"), "{provider}: {error}");
        let other = if provider == "sftp" { "bucket" } else { "host_key" };
        let mut config = config;
        config[other] = "b".into();
        let error = read(provider, config).unwrap_err();
        assert!(error.contains(other), "{provider}: {error}");
    }
}

#[test]
fn what_a_storage_may_take_of_the_machine_has_bounds() {
    let limit = |name: &str, value: u64| {
        read::<StorageConfig>(json!({ "provider": "local", "path": "/srv", name: value })).is_ok()
    };
    for (name, least, most) in
        [("part_size", 5 << 20, 512 << 20), ("concurrency", 1, 64), ("attempts", 1, 100)]
    {
        assert!(limit(name, least) && limit(name, most), "{name}");
        assert!(!limit(name, least - 1) && !limit(name, most + 1), "{name}");
    }
}

#[test]
fn passwords_and_keys_are_sent_and_never_shown() {
    let login: LoginRequest = read(json!({ "email": "a@example.com", "password": "geheim" })).unwrap();
    assert_eq!(written(&login)["password"], "geheim");
    assert!(!format!("{login:?}").contains("geheim"));
    let config: StorageConfig =
        read(json!({ "provider": "ftp", "host": "h", "password": "geheim" })).unwrap();
    assert_eq!(written(&config)["password"], "geheim");
    assert!(!format!("{config:?}").contains("geheim"));
}
