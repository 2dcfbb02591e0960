//! Backups in a storage: what a plan keeps and removes, what is believed of verifications, and backups that
//! only the holder of a key can read.

use std::{io::Write as _, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use tokio::runtime::Handle;
use undoo_archive::{
    backup::inspect,
    manifest::ours::OdooKeys,
    verify::{self, Level},
    write::{BackupWriter, Description, Settings},
};
use undoo_core::{
    BackupId, Kind, Signed, Signer,
    retention::{Policy, Reason},
};
use undoo_engine::{
    catalog::{self, Catalog, Query, Verification, keep_verification},
    encryption::{Identities, Outgoing, Recipients},
    source::BackupOrder,
};
use undoo_storage::{Access, BlockingUpload, Location, Meter, Options, Storage, StorageConfig, backup_key};
use undoo_testing::weed::{KEY, LOCKED, Weed};

struct Store {
    folder: tempfile::TempDir,
    storage: Arc<dyn Storage>,
    now: Timestamp,
}

impl Store {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let access = Access::Local { path: folder.path().to_owned() };
        let storage = access.storage(&Options::default()).unwrap();
        Self { folder, storage, now: "2026-11-22T12:00:00Z".parse().unwrap() }
    }

    /// Writes a backup that was begun so many days ago, and answers its key.
    async fn put(&self, name: &str, days: i64, encrypt_to: &[&str]) -> String {
        let key = backup_key("acme", "prod", name).unwrap();
        let upload = BlockingUpload::new(Handle::current(), self.storage.write(&key, None).unwrap());
        let keys: Vec<String> = encrypt_to.iter().map(|key| (*key).to_owned()).collect();
        let created_at = self.now - SignedDuration::from_hours(24 * days);
        tokio::task::spawn_blocking(move || write(upload, &Recipients::parse(&keys).unwrap(), created_at))
            .await
            .unwrap();
        key
    }

    fn order(&self, key: &str, identities: Identities) -> BackupOrder {
        let storage = StorageConfig::from(Access::Local { path: self.folder.path().join(key) });
        BackupOrder { storage, identities }
    }

    async fn verify(&self, key: &str, identities: Identities, signer: &Signer) {
        let opened = self.order(key, identities).open_sized(&Options::default()).await.unwrap();
        let (backup, bytes) = (opened.0, opened.1.unwrap());
        assert_eq!(bytes, self.storage.stat(key).await.unwrap().unwrap().size);
        let verification = Verification::of(&backup, key.into(), bytes, Level::Deep, self.now).unwrap();
        keep_verification(&*self.storage, &verification, signer).await.unwrap();
    }

    async fn plan(&self, query: &Query, policy: Policy) -> Catalog {
        catalog::plan(&*self.storage, query, &policy, self.now).await.unwrap()
    }

    async fn keys(&self) -> Vec<String> {
        self.storage.list("").await.unwrap().into_iter().map(|entry| entry.name).collect()
    }
}

fn write(upload: BlockingUpload, recipients: &Recipients, created_at: Timestamp) {
    let rows: String = (0..60_000).map(|row| format!("{row}\t{:x}\n", row * 2_654_435_761_u64)).collect();
    let dump = format!(
        "--\n-- PostgreSQL database dump\n--\n\nCOPY public.numbers (id, hash) FROM stdin;\n{rows}\\.\n\n\n\
         --\n-- PostgreSQL database dump complete\n--\n\n"
    );
    let out = Outgoing::new(upload, recipients).unwrap();
    let mut writer = BackupWriter::new(out, Settings { level: 1, threads: 1, created_at }).unwrap();
    writer.database(&mut dump.as_bytes()).unwrap();
    let description = Description {
        backup_id: BackupId::generate(),
        undoo_version: "0".into(),
        organisation: Some("acme".into()),
        odoo: OdooKeys { db_name: "prod".into(), ..OdooKeys::default() },
        environment: Default::default(),
        database_only: true,
        warnings: Vec::new(),
    };
    let (out, _) = writer.finish(description, None).unwrap();
    out.finish().unwrap().finish().unwrap();
}

fn signer() -> Signer {
    Signer::from_seed(&[7; 32])
}

/// Believes [`signer`].
fn query() -> Query {
    Query { trusted: vec![signer().public_key()], ..Query::default() }
}

fn last(keep_last: u32) -> Policy {
    Policy { keep_last, ..Policy::default() }
}

/// Names of the backups that stay, or of those that go.
fn names(catalog: &Catalog, stay: bool) -> Vec<String> {
    let all = catalog.environments.iter().flat_map(|environment| &environment.backups);
    let found = all.filter(|backup| backup.is_kept() == stay);
    found.map(|backup| backup.key.replace("backups/acme/prod/", "")).collect()
}

/// A new key: its public half, its secret one, and that as it is read from a file.
fn key() -> (String, String, Identities) {
    let identity = age::x25519::Identity::generate();
    let secret = identity.to_string().expose_secret().to_owned();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &secret).unwrap();
    (identity.to_public().to_string(), secret, Identities::read([file.path()]).unwrap())
}

#[tokio::test]
async fn what_no_rule_keeps_goes_with_its_verification_and_what_is_not_known_stays() {
    let store = Store::new();
    for (name, days) in [("a.zip", 9), ("b.zip", 5), ("c.zip", 2), ("d.zip", 1)] {
        store.put(name, days, &[]).await;
    }
    for name in ["a.zip", "c.zip"] {
        let key = backup_key("acme", "prod", name).unwrap();
        store.verify(&key, Identities::default(), &signer()).await;
    }
    let strange = [
        ("backups/acme/prod/note.txt", "a note"),
        ("backups/acme/prod/gone.zip.verified.json", "{}"),
        ("backups/acme/prod/deep/x.zip", "x"),
        ("backups/readme", "y"),
        ("other/z", "z"),
    ];
    for (key, content) in strange {
        let path = store.folder.path().join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let catalog = store.plan(&query(), last(1)).await;
    // c.zip is the newest verified one.
    assert_eq!(names(&catalog, false), ["b.zip", "a.zip"]);
    assert_eq!(names(&catalog, true), ["d.zip", "c.zip"]);
    assert_eq!(catalog.environments[0].findings, []);
    let mut unknown: Vec<&str> = catalog.unknown.iter().map(|unknown| unknown.key.as_str()).collect();
    unknown.sort_unstable();
    let mut expected: Vec<&str> = strange[..4].iter().map(|(key, _)| *key).collect();
    expected.sort_unstable();
    assert_eq!(unknown, expected);

    for backup in catalog.environments[0].backups.iter().filter(|backup| !backup.is_kept()) {
        catalog::remove(&*store.storage, backup).await.unwrap();
    }
    let mut left: Vec<String> = strange.iter().map(|(key, _)| (*key).to_owned()).collect();
    left.extend(["c.zip", "c.zip.verified.json", "d.zip"].map(|name| format!("backups/acme/prod/{name}")));
    left.sort_unstable();
    assert_eq!(store.keys().await, left);
}

#[tokio::test]
async fn without_a_verification_that_is_believed_nothing_goes_unasked() {
    let store = Store::new();
    let old = store.put("old.zip", 3, &[]).await;
    store.put("new.zip", 1, &[]).await;
    let finding = async |query: &Query| {
        let catalog = store.plan(query, last(1)).await;
        assert_eq!(names(&catalog, false).is_empty(), catalog.environments[0].backups[1].verified.is_some());
        catalog.environments[0].findings.first().map(|finding| finding.code.clone())
    };
    assert_eq!(finding(&query()).await.as_deref(), Some("none_verified"));
    let stranger = Signer::from_seed(&[8; 32]);
    store.verify(&old, Identities::default(), &stranger).await;
    assert_eq!(finding(&query()).await.as_deref(), Some("none_verified"));
    let trusting = Query { trusted: vec![stranger.public_key()], ..Query::default() };
    assert_eq!(finding(&trusting).await, None);

    // What was said of another object, was changed, or was signed as something else is not believed either.
    let path = store.folder.path().join(format!("{old}.verified.json"));
    let text = std::fs::read_to_string(&path).unwrap();
    let signed: Signed = serde_json::from_str(&text).unwrap();
    let said: serde_json::Value = serde_json::from_str(&signed.report).unwrap();
    let resigned = |kind: &[u8], said: &serde_json::Value| {
        serde_json::to_string(&Signed::new(kind, said, &stranger).unwrap()).unwrap()
    };
    let (mut key, mut bytes) = (said.clone(), said.clone());
    key["key"] = "backups/acme/prod/new.zip".into();
    bytes["bytes"] = 1.into();
    let kind = b"undoo verification 1\n";
    for wrong in [
        text.replace("deep", "DEEP"),
        resigned(b"undoo report 1\n", &said),
        resigned(b"", &said),
        resigned(kind, &key),
        resigned(kind, &bytes),
    ] {
        std::fs::write(&path, &wrong).unwrap();
        assert_eq!(finding(&trusting).await.as_deref(), Some("none_verified"), "{wrong}");
    }
    std::fs::write(&path, resigned(kind, &said)).unwrap();
    assert_eq!(finding(&trusting).await, None);
    let backup = store.folder.path().join(&old);
    std::fs::OpenOptions::new().append(true).open(&backup).unwrap().write_all(b"x").unwrap();
    let catalog = store.plan(&trusting, last(1)).await;
    assert_eq!(catalog.unknown.len(), 1, "a ZIP with something behind it is none");
}

#[tokio::test]
async fn a_copy_beside_the_newest_verified_backup_takes_no_guard_from_it() {
    let store = Store::new();
    let old = store.put("old.zip", 3, &[]).await;
    store.put("new.zip", 1, &[]).await;
    store.verify(&old, Identities::default(), &signer()).await;
    for copy in ["a-copy.zip", "z-copy.zip"] {
        let copy = backup_key("acme", "prod", copy).unwrap();
        std::fs::copy(store.folder.path().join(&old), store.folder.path().join(copy)).unwrap();
    }
    assert_eq!(names(&store.plan(&query(), last(1)).await, false), [""; 0]);
}

#[tokio::test]
async fn a_backup_that_is_read_or_was_replaced_meanwhile_stays() {
    let store = Store::new();
    let old = store.put("old.zip", 3, &[]).await;
    let new = store.put("new.zip", 1, &[]).await;
    store.verify(&new, Identities::default(), &signer()).await;
    let reading = Query { in_use: vec![format!("s3://bucket/{old}")], ..query() };
    assert_eq!(names(&store.plan(&reading, last(1)).await, false), [""; 0]);
    let catalog = store.plan(&query(), last(1)).await;
    assert_eq!(names(&catalog, false), ["old.zip"]);
    std::fs::write(store.folder.path().join(&old), "something else").unwrap();
    let problem = catalog::remove(&*store.storage, &catalog.environments[0].backups[1]).await.unwrap_err();
    assert_eq!(problem.kind, Kind::Conflict);
    assert!(store.keys().await.contains(&old));
}

#[tokio::test]
async fn other_environments_are_not_looked_at_when_one_is_named() {
    let store = Store::new();
    store.put("a.zip", 1, &[]).await;
    let stray = backup_key("acme", "test", "x.txt").unwrap();
    let mut upload = store.storage.write(&stray, None).unwrap();
    upload.write(b"x").await.unwrap();
    upload.finish().await.unwrap();
    let count = async |organisation: Option<&str>, environment: Option<&str>| {
        let (organisation, environment) = (organisation.map(Into::into), environment.map(Into::into));
        let catalog = store.plan(&Query { organisation, environment, ..query() }, last(1)).await;
        (catalog.environments.len(), catalog.unknown.len())
    };
    assert_eq!(count(None, None).await, (1, 1));
    assert_eq!(count(Some("acme"), Some("prod")).await, (1, 0));
    assert_eq!(count(None, Some("test")).await, (0, 1));
    assert_eq!(count(Some("other"), None).await, (0, 0));
}

#[tokio::test]
async fn an_encrypted_backup_is_read_by_range_and_pruned_without_its_key() {
    let store = Store::new();
    let (public, _, identities) = key();
    let old = store.put("old.zip.age", 3, &[&public]).await;
    let new = store.put("new.zip.age", 1, &[&public]).await;
    let stored = std::fs::read(store.folder.path().join(&old)).unwrap();
    assert!(
        stored.starts_with(b"age-encryption.org/v1\n") && !stored.windows(4).any(|it| it == b"PK\x05\x06")
    );

    let problem = store.order(&old, Identities::default()).open(&Options::default()).await.err().unwrap();
    assert_eq!((problem.kind, problem.code), (Kind::Denied, "encrypted"));
    let meter = Meter::default();
    let options = Options { meter: meter.clone(), ..Options::default() };
    let backup = store.order(&old, identities.clone()).open(&options).await.unwrap();
    let seen = tokio::task::spawn_blocking(move || {
        let seen = inspect(&backup).unwrap();
        let report = verify::verify(
            &backup,
            &verify::Options { level: Level::Deep, jobs: 2 },
            Arc::new(|_, _| Ok(())),
        );
        assert!(report.unwrap().is_whole());
        seen
    });
    let seen = seen.await.unwrap();
    assert_eq!(seen.findings.iter().filter(|finding| finding.code == "encrypted").count(), 1);
    assert!(meter.bytes() > stored.len() as u64, "all of it was read");

    // Nothing is known of them without the key, so that they stay.
    assert_eq!(store.plan(&query(), last(1)).await.unknown.len(), 2);
    store.verify(&old, identities.clone(), &signer()).await;
    store.verify(&new, identities, &signer()).await;
    let catalog = store.plan(&query(), last(1)).await;
    assert_eq!(names(&catalog, false), ["old.zip.age"]);
    assert_eq!(names(&catalog, true), ["new.zip.age"]);
}

#[tokio::test]
async fn what_object_lock_holds_stays_and_is_named() {
    let weed = tokio::task::spawn_blocking(|| Weed::shared(env!("CARGO_TARGET_TMPDIR"))).await.unwrap();
    let root = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    let address = format!("s3://{LOCKED}/{root}?lock=governance:1d");
    let endpoint = format!("http://127.0.0.1:{}", weed.s3);
    let set = |name: &str| match name {
        "AWS_ACCESS_KEY_ID" => Some(KEY.0.into()),
        "AWS_SECRET_ACCESS_KEY" => Some(KEY.1.into()),
        "AWS_ENDPOINT_URL" => Some(endpoint.clone()),
        _ => None,
    };
    let access = Location::parse(&address).unwrap().with_variables(set).unwrap();
    let storage = access.storage(&Options::default()).unwrap();
    let store = Store { storage, ..Store::new() };
    for (name, days) in [("old.zip", 3), ("new.zip", 1)] {
        store.put(name, days, &[]).await;
    }
    let catalog = store.plan(&query(), last(1)).await;
    assert_eq!(names(&catalog, true), ["new.zip", "old.zip"]);
    let because = &catalog.environments[0].backups[1].kept_because;
    assert!(matches!(because[..], [Reason::Locked { .. }]), "{because:?}");
}

#[test]
fn an_order_carries_its_keys_and_shows_none() {
    let (_, secret, identities) = key();
    let access = Location::parse("/srv/b.zip").unwrap().with_environment().unwrap();
    let order = BackupOrder { storage: access.into(), identities };
    assert!(!format!("{order:?}").contains("AGE-SECRET-KEY"));
    let text = serde_json::to_string(&order).unwrap();
    assert!(text.contains(&secret));
    let again: BackupOrder = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), text);
    let without: BackupOrder =
        serde_json::from_str(r#"{"provider": "local", "path": "/srv/b.zip"}"#).unwrap();
    assert_eq!(without.storage.access().to_string(), "/srv/b.zip");
}
