//! `undoo keys rotate`: every secret sealed with the first key, so that the others can go.
//!
//! At any moment the file of keys opens whatever the database holds: a new key is written before it seals
//! anything, and an old one goes when nothing is sealed with it any more.

use undoo_core::{Kind, Problem, Result};

use super::{
    config::{Config, Database, KeySource},
    control, keys, print, store,
};

pub(super) async fn run(config: &Config) -> Result<()> {
    let mut keys = keys(config).await?;
    // First, so that nobody else works with the keys that are about to change.
    let store = store(config).await?;
    let file = match &config.keys {
        KeySource::File(path) | KeySource::Own(path) => Some(path),
        KeySource::Given(_) | KeySource::Command(_) => None,
    };
    if keys.count() == 1 {
        match (file, &config.database) {
            (Some(path), Database::Sqlite(_)) => {
                keys = keys.with_a_new_one()?;
                keys.write(path)?;
            }
            _ => return Err(no_new_key()),
        }
    }
    let rotated = control(config, store, keys.sealer()).secrets_rotate().await?;
    let count =
        rotated.storages + rotated.servers + rotated.deployments + rotated.addons + rotated.signing_keys;
    print(&format!("{count} secrets were sealed anew\n"))?;
    match (file, &config.database) {
        (Some(path), Database::Sqlite(_)) => {
            keys.current().write(path)?;
            print(&format!("{} has one key now: keep a copy of it\n", path.display()))
        }
        _ => print("All but the first key can be taken away now\n"),
    }
}

fn no_new_key() -> Problem {
    Problem::new(
        Kind::Invalid,
        "sealing_key_alone",
        "there is one key, and nothing to seal with instead",
        "put a new key (openssl rand -hex 32) before it for every process of the platform, restart them one \
         after another, and run this again",
    )
}
