//! A data plane that remembers what is on its target, and fails, hangs or loses its caller where it is told.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::sync::Notify;
use undoo_control::plane::{
    BackupJob, CutOver, DeployStep, FetchedAddons, FoundOdoo, Location, MadeBackup, Plane, RestoreJob,
    ServerAccess, ServerFacts, StagedRestore, Watch,
};
use undoo_core::{
    EnvironmentId, Kind, Problem, RestoreId, Result, Side, Signer,
    platform::{AddonsSource, Deployment},
};
use undoo_engine::{
    order::{Answer, Failure, Intent, Parts, Phase},
    orders::{Listed, UndoPlan},
    outgoing::{Held, HeldOutgoing},
    record::{Record, State},
};
use undoo_storage::{HostKey, Options, SshAccess};

/// What happens at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trip {
    /// It fails before it has done anything.
    Fails,
    /// It waits until it is called off.
    Hangs,
    /// Its caller is lost before it has done anything.
    LostBefore,
    /// Its caller is lost half-way.
    LostWithin,
    /// Its caller is lost when it is done.
    LostAfter,
}

#[derive(Default)]
struct Target {
    records: BTreeMap<RestoreId, Record>,
    /// Restores whose mails were let go.
    released: Vec<RestoreId>,
}

#[derive(Default)]
struct Memory {
    target: Target,
    trips: HashMap<&'static str, (Trip, u32)>,
    calls: Vec<&'static str>,
    /// Environments that were made, and the step that was done last on each.
    deployed: BTreeMap<EnvironmentId, DeployStep>,
    /// Their passwords, at each step.
    passwords: BTreeMap<EnvironmentId, Vec<String>>,
    /// Where their modules were to be fetched from.
    addons: BTreeMap<EnvironmentId, Vec<AddonsSource>>,
}

#[derive(Default)]
pub struct FakePlane {
    memory: Mutex<Memory>,
    /// Told when a caller is to be lost.
    pub lost: Notify,
    /// Told when a call begins to hang.
    pub hanging: Notify,
}

impl FakePlane {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// From now on, that many times.
    pub fn trip(&self, call: &'static str, trip: Trip, times: u32) {
        self.memory.lock().unwrap().trips.insert(call, (trip, times));
    }

    pub fn calls(&self, call: &str) -> usize {
        self.memory.lock().unwrap().calls.iter().filter(|known| **known == call).count()
    }

    /// What the target says of a restore.
    pub fn state(&self, id: RestoreId) -> Option<State> {
        self.memory.lock().unwrap().target.records.get(&id).map(|record| record.state)
    }

    /// Somebody ends a restore on the server.
    pub fn end(&self, id: RestoreId, state: Option<State>) {
        match state {
            Some(state) => drop(self.set(id, state)),
            None => drop(self.memory.lock().unwrap().target.records.remove(&id)),
        }
    }

    /// Whether nothing on the target stands half-way.
    pub fn is_whole(&self) -> bool {
        let memory = self.memory.lock().unwrap();
        !memory
            .target
            .records
            .values()
            .any(|record| matches!(record.state, State::Staging | State::Staged | State::Swapping { .. }))
    }

    /// The last step that was done on an environment; `None` if nothing is there of it.
    pub fn deployed(&self, id: EnvironmentId) -> Option<DeployStep> {
        self.memory.lock().unwrap().deployed.get(&id).copied()
    }

    /// The different passwords that an environment was to be made with.
    pub fn passwords(&self, id: EnvironmentId) -> Vec<String> {
        let mut all = self.memory.lock().unwrap().passwords.get(&id).cloned().unwrap_or_default();
        all.dedup();
        all
    }

    /// The git repositories that an environment's modules were to be fetched from, with what opens them.
    pub fn addons(&self, id: EnvironmentId) -> Vec<AddonsSource> {
        self.memory.lock().unwrap().addons.get(&id).cloned().unwrap_or_default()
    }

    pub fn released(&self, id: RestoreId) -> bool {
        self.memory.lock().unwrap().target.released.contains(&id)
    }

    fn set(&self, id: RestoreId, state: State) -> Option<Record> {
        let mut memory = self.memory.lock().unwrap();
        let record = memory.target.records.get_mut(&id)?;
        match state {
            State::Live { side } => record.went_live(side),
            state => record.state = state,
        }
        Some(record.clone())
    }

    async fn enter(&self, call: &'static str, watch: Option<&Watch>) -> Result<Option<Trip>> {
        let trip = {
            let mut memory = self.memory.lock().unwrap();
            memory.calls.push(call);
            match memory.trips.get_mut(call) {
                Some((trip, times)) if *times > 0 => {
                    *times -= 1;
                    Some(*trip)
                }
                _ => None,
            }
        };
        match trip {
            Some(Trip::Fails) => Err(Problem::new(
                Kind::NotProven,
                "injected",
                format!("{call} was told to fail"),
                "Do not tell it to.",
            )),
            Some(Trip::Hangs) => {
                self.hanging.notify_one();
                match watch {
                    Some(watch) => watch.stop.cancelled().await,
                    None => std::future::pending().await,
                }
                Err(Problem::new(Kind::Cancelled, "cancelled", "called off", ""))
            }
            Some(Trip::LostBefore) => self.lose().await,
            other => Ok(other),
        }
    }

    async fn within(&self, trip: Option<Trip>) {
        if trip == Some(Trip::LostWithin) {
            self.lose().await
        }
    }

    async fn leave(&self, trip: Option<Trip>) {
        if trip == Some(Trip::LostAfter) {
            self.lose().await
        }
    }

    async fn lose<T>(&self) -> T {
        self.lost.notify_one();
        std::future::pending().await
    }
}

fn phases(watch: &Watch, phases: &[Phase]) {
    for phase in phases {
        watch.audience.tell(Answer::Phase { phase: *phase });
    }
}

fn held() -> HeldOutgoing {
    HeldOutgoing { mails: vec![Held { id: 1, what: "a@example.com".into() }], crons: Vec::new() }
}

fn record(job: &RestoreJob) -> Record {
    Record {
        id: job.id,
        backup: job.backup_name.clone(),
        target: job.at.target.clone(),
        database: job.at.database.clone().unwrap(),
        owner: "odoo".into(),
        parts: Parts::All,
        intent: job.intent,
        restored_oid: Some(2),
        replaced_oid: Some(1),
        state: State::Staging,
        epoch: 1,
        started: Timestamp::now(),
        swapped: None,
        undo_until: None,
        undo_window_hours: job.options.undo_window_hours,
        downtime_ms: None,
    }
}

/// The host key of every server that is reached by SSH.
pub const HOST_KEY: &str = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
/// The password of everybody there.
pub const PASSWORD: &str = "geheim";

/// An SSH server that shows its key, and then lets in who has the password.
fn answers(ssh: &SshAccess) -> Result<()> {
    let shown = HostKey { fingerprint: HOST_KEY.into(), algorithm: "ssh-ed25519".into() };
    let code = match ssh.host_key.as_deref() {
        None => Err("host_key_unknown"),
        Some(HOST_KEY) => Ok(()),
        Some(_) => Err("host_key_changed"),
    };
    code.map_err(|code| Problem::new(Kind::Denied, code, shown.to_string(), "Pin it.").caused_by(shown))?;
    let password = ssh.password.as_ref().map(|password| password.expose_secret());
    if password != Some(PASSWORD) {
        return Err(Problem::new(Kind::Denied, "wrong_login", "the server let nobody in", "Check it."));
    }
    Ok(())
}

fn missing(id: RestoreId) -> Problem {
    Problem::new(Kind::Missing, "restore_missing", format!("no restore {id}"), "")
}

#[async_trait]
impl Plane for FakePlane {
    async fn look(&self, server: &ServerAccess) -> Result<ServerFacts> {
        self.enter("look", None).await?;
        if let ServerAccess::Ssh(ssh) = server {
            answers(ssh)?;
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

    async fn put_modules(
        &self,
        job: &RestoreJob,
        deployment: &Deployment,
        sources: &[AddonsSource],
        watch: &Watch,
    ) -> Result<Vec<FetchedAddons>, Failure> {
        let trip = self.enter("addons", Some(watch)).await?;
        let id = deployment.names.environment();
        assert_eq!(self.deployed(id), Some(DeployStep::Infrastructure), "restore {}", job.id);
        self.within(trip).await;
        let fetched = sources.iter().map(|source| FetchedAddons {
            url: source.origin.url.clone(),
            commit: "0".repeat(40),
            modules: vec![source.origin.name().to_owned()],
        });
        let fetched = fetched.collect();
        self.memory.lock().unwrap().addons.insert(id, sources.to_vec());
        self.leave(trip).await;
        Ok(fetched)
    }

    async fn deploy(
        &self,
        _: &ServerAccess,
        deployment: &Deployment,
        step: DeployStep,
        watch: &Watch,
    ) -> Result<(), Failure> {
        let call = match step {
            DeployStep::Infrastructure => "infrastructure",
            DeployStep::MakeDurable => "make_durable",
            DeployStep::Release => "let_out",
            DeployStep::Redeploy => "redeploy",
            DeployStep::Start => "start",
            DeployStep::Stop => "stop",
            DeployStep::Destroy => "destroy",
        };
        let trip = self.enter(call, Some(watch)).await?;
        deployment.check()?;
        let id = deployment.names.environment();
        self.within(trip).await;
        {
            let mut memory = self.memory.lock().unwrap();
            let role = deployment.passwords.role.expose_secret().to_owned();
            memory.passwords.entry(id).or_default().push(role);
            let before = memory.deployed.get(&id).copied();
            match step {
                DeployStep::Infrastructure => {
                    assert!(matches!(before, None | Some(DeployStep::Infrastructure)))
                }
                DeployStep::MakeDurable => {
                    assert!(matches!(before, Some(DeployStep::Infrastructure | DeployStep::MakeDurable)))
                }
                DeployStep::Release => {
                    assert!(matches!(before, Some(DeployStep::MakeDurable | DeployStep::Release)));
                }
                DeployStep::Redeploy | DeployStep::Start | DeployStep::Stop => assert!(before.is_some()),
                DeployStep::Destroy => {}
            }
            if step == DeployStep::Destroy {
                memory.deployed.remove(&id);
            } else {
                memory.deployed.insert(id, step);
            }
        }
        self.leave(trip).await;
        Ok(())
    }

    async fn discover(&self, server: &ServerAccess) -> Result<Vec<FoundOdoo>> {
        let at = Location { server: server.clone(), target: "docker:acme_odoo".into(), database: None };
        Ok(vec![self.inspect(&at).await?])
    }

    async fn inspect(&self, at: &Location) -> Result<FoundOdoo> {
        self.enter("inspect", None).await?;
        if let ServerAccess::Ssh(ssh) = &at.server {
            answers(ssh)?;
        }
        let container = at.target.strip_prefix("docker:").unwrap().to_owned();
        Ok(FoundOdoo {
            databases: vec!["acme".into()],
            image: "odoo:19.0".into(),
            odoo_version: Some("19.0".into()),
            postgres_version: Some("17.2".into()),
            database_container: None,
            filestore: "/var/lib/odoo/filestore".into(),
            running: true,
            container,
        })
    }

    async fn plan(&self, _: &RestoreJob, watch: &Watch) -> Result<undoo_engine::restore::Plan, Failure> {
        let trip = self.enter("plan", Some(watch)).await?;
        phases(watch, &[Phase::Inspect, Phase::Preflight]);
        self.leave(trip).await;
        let plan = json!({
            "backup": {
                "layout": "odoo_zip",
                "database": null,
                "odoo": { "version": "19.0", "modules": 1 },
                "filestore": { "form": "members", "files": 1, "bytes": 1 },
                "findings": [],
            },
            "cluster": {
                "major": 17, "version": "17.2", "superuser": true, "create_db": true, "create_role": true,
                "owner_exists": true, "owner_member": true, "available_extensions": [], "live": null,
            },
            "findings": [],
        });
        Ok(serde_json::from_value(plan).unwrap())
    }

    async fn stage(&self, job: &RestoreJob, watch: &Watch) -> Result<StagedRestore, Failure> {
        let trip = self.enter("stage", Some(watch)).await?;
        self.memory.lock().unwrap().target.records.insert(job.id, record(job));
        phases(watch, &[Phase::Prepare, Phase::Data]);
        self.within(trip).await;
        phases(watch, &[Phase::PostData, Phase::Filestore, Phase::Verify, Phase::Boot]);
        self.set(job.id, State::Staged);
        self.leave(trip).await;
        Ok(StagedRestore {
            intent: job.intent.unwrap_or(Intent::Copy),
            neutralized: job.neutralize,
            held: held(),
            findings: Vec::new(),
            booted_ms: Some(10),
            report: json!({ "rows": 1 }),
        })
    }

    async fn cut_over(&self, job: &RestoreJob, _: &StagedRestore, watch: &Watch) -> Result<CutOver, Failure> {
        let trip = self.enter("cut_over", None).await?;
        assert_eq!(self.state(job.id), Some(State::Staged), "only what was staged is swapped in");
        phases(watch, &[Phase::Cutover, Phase::HealthCheck]);
        self.set(job.id, State::Swapping { to: Side::Restored });
        self.within(trip).await;
        let record = self.set(job.id, State::Live { side: Side::Restored }).unwrap();
        self.leave(trip).await;
        Ok(CutOver { record, report: Some(json!({ "signed": true })) })
    }

    async fn standing(&self, _: &Location, id: RestoreId) -> Result<Option<Listed>> {
        self.enter("standing", None).await?;
        let record = self.memory.lock().unwrap().target.records.get(&id).cloned();
        Ok(record.map(|record| Listed { record, held: held(), can_be_undone: true }))
    }

    async fn discard(&self, _: &Location, id: RestoreId) -> Result<()> {
        let trip = self.enter("discard", None).await?;
        let state = self.state(id);
        if matches!(state, Some(State::Live { .. } | State::Swapping { .. } | State::Purged)) {
            return Err(Problem::new(Kind::Conflict, "not_staged", "it has gone live", ""));
        }
        self.memory.lock().unwrap().target.records.remove(&id);
        self.leave(trip).await;
        Ok(())
    }

    async fn undo_plan(&self, _: &Location) -> Result<UndoPlan, Failure> {
        self.enter("undo_plan", None).await?;
        let record = self.memory.lock().unwrap().target.records.values().next_back().cloned();
        let record = record.ok_or_else(|| Problem::new(Kind::Missing, "nothing_to_undo", "none", ""))?;
        Ok(UndoPlan { record, to: Side::Replaced, written: Vec::new() })
    }

    async fn swap(
        &self,
        _: &Location,
        id: RestoreId,
        to: Side,
        _: &Signer,
        _: &Watch,
    ) -> Result<CutOver, Failure> {
        let trip = self.enter("swap", None).await?;
        let state = self.state(id).ok_or_else(|| missing(id))?;
        assert!(matches!(state, State::Live { .. } | State::Swapping { .. }), "{state:?} cannot be swapped");
        self.set(id, State::Swapping { to });
        self.within(trip).await;
        let record = self.set(id, State::Live { side: to }).unwrap();
        self.leave(trip).await;
        Ok(CutOver { record, report: None })
    }

    async fn release(&self, _: &Location) -> Result<Value> {
        let trip = self.enter("release", None).await?;
        {
            let mut memory = self.memory.lock().unwrap();
            let newest = memory.target.records.keys().next_back().copied();
            memory.target.released.extend(newest);
        }
        self.leave(trip).await;
        Ok(json!({ "mails": 1, "crons": 0 }))
    }

    async fn purge(&self, _: &Location, id: RestoreId) -> Result<()> {
        let trip = self.enter("purge", None).await?;
        self.set(id, State::Purged);
        self.leave(trip).await;
        Ok(())
    }

    async fn back_up(&self, job: &BackupJob, watch: &Watch) -> Result<MadeBackup, Failure> {
        let call = if job.kept.is_some() { "back_up_kept" } else { "back_up" };
        let trip = self.enter(call, Some(watch)).await?;
        phases(watch, &[Phase::Snapshot, Phase::Dump]);
        self.within(trip).await;
        let storage = job.storage.storage(&Options::default())?;
        let mut upload = storage.write(&job.key, None)?;
        upload.write(b"a backup").await?;
        upload.finish().await?;
        self.leave(trip).await;
        Ok(MadeBackup {
            size_bytes: 8,
            database_size_bytes: 5,
            filestore_size_bytes: (!job.database_only).then_some(3),
            verified: true,
            environment_snapshot: json!({ "odoo_version": "19.0" }),
        })
    }
}

/// Long enough for anything here, far too short for a person.
pub const SOON: Duration = Duration::from_secs(30);

/// A time that is so many hours away.
pub fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}
