//! A data plane that finds one Odoo everywhere, and can do nothing with it.

use async_trait::async_trait;
use serde_json::Value;
use undoo_control::plane::{
    BackupJob, CutOver, DeployStep, FetchedAddons, FoundOdoo, HostKey, Location, MadeBackup, Plane,
    RestoreJob, ServerAccess, ServerFacts, SshAccess, StagedRestore, Watch,
};
use undoo_core::{
    Kind, Problem, RestoreId, Result, Side, Signer,
    platform::{AddonsSource, Deployment},
};
use undoo_engine::{
    order::Failure,
    orders::{Listed, UndoPlan},
    restore::Plan,
};

pub struct Elsewhere;

/// The host key of every server.
pub const HOST_KEY: &str = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";

fn out_of_reach() -> Problem {
    Problem::new(Kind::Unavailable, "out_of_reach", "the target is out of reach", "Try again.")
}

fn found(at: &Location) -> FoundOdoo {
    let container = at.target.trim_start_matches("docker:").to_owned();
    FoundOdoo {
        container,
        image: "odoo:19.0".into(),
        databases: vec!["acme".into()],
        odoo_version: Some("19.0".into()),
        postgres_version: Some("15.20".into()),
        database_container: Some("acme_db".into()),
        filestore: "/var/lib/odoo/filestore/acme".into(),
        running: true,
    }
}

#[async_trait]
impl Plane for Elsewhere {
    async fn look(&self, server: &ServerAccess) -> Result<ServerFacts> {
        if let ServerAccess::Ssh(SshAccess { host_key: None, .. }) = server {
            let shown = HostKey { fingerprint: HOST_KEY.into(), algorithm: "ssh-ed25519".into() };
            let told = Problem::new(Kind::Denied, "host_key_unknown", shown.to_string(), "Pin it.");
            return Err(told.caused_by(shown));
        }
        Ok(ServerFacts {
            docker_version: "29.0.4".into(),
            cpu_cores: 8,
            memory_gb: 16,
            disk_gb: Some(500),
            free_disk_gb: Some(400),
            ports_taken: vec![80, 443],
        })
    }

    async fn deploy(
        &self,
        _: &ServerAccess,
        _: &Deployment,
        _: DeployStep,
        _: &Watch,
    ) -> Result<(), Failure> {
        Err(out_of_reach().into())
    }

    async fn put_modules(
        &self,
        _: &RestoreJob,
        _: &Deployment,
        _: &[AddonsSource],
        _: &Watch,
    ) -> Result<Vec<FetchedAddons>, Failure> {
        Err(out_of_reach().into())
    }

    async fn discover(&self, server: &ServerAccess) -> Result<Vec<FoundOdoo>> {
        let at = Location { server: server.clone(), target: "docker:acme_odoo".into(), database: None };
        Ok(vec![found(&at)])
    }

    async fn inspect(&self, at: &Location) -> Result<FoundOdoo> {
        assert!(!at.target.ends_with("panics"), "asked to");
        Ok(found(at))
    }

    async fn plan(&self, _: &RestoreJob, _: &Watch) -> Result<Plan, Failure> {
        Err(out_of_reach().into())
    }

    async fn stage(&self, _: &RestoreJob, _: &Watch) -> Result<StagedRestore, Failure> {
        Err(out_of_reach().into())
    }

    async fn cut_over(&self, _: &RestoreJob, _: &StagedRestore, _: &Watch) -> Result<CutOver, Failure> {
        Err(out_of_reach().into())
    }

    async fn standing(&self, _: &Location, _: RestoreId) -> Result<Option<Listed>> {
        Err(out_of_reach())
    }

    async fn discard(&self, _: &Location, _: RestoreId) -> Result<()> {
        Err(out_of_reach())
    }

    async fn undo_plan(&self, _: &Location) -> Result<UndoPlan, Failure> {
        Err(out_of_reach().into())
    }

    async fn swap(
        &self,
        _: &Location,
        _: RestoreId,
        _: Side,
        _: &Signer,
        _: &Watch,
    ) -> Result<CutOver, Failure> {
        Err(out_of_reach().into())
    }

    async fn release(&self, _: &Location) -> Result<Value> {
        Err(out_of_reach())
    }

    async fn purge(&self, _: &Location, _: RestoreId) -> Result<()> {
        Err(out_of_reach())
    }

    async fn back_up(&self, _: &BackupJob, _: &Watch) -> Result<MadeBackup, Failure> {
        Err(out_of_reach().into())
    }
}
