//! An environment that is made around a restore at one go, without a platform: infrastructure, the backup's modules,
//! the restore, what makes it safe against crashes, and only then the Odoo that can be reached (decision 0025).
//!
//! Whatever ends it before the last step, all of it is taken away again. What was there before is never touched: a
//! name that is taken ends it before anything is made.

mod value;

use undoo_archive::{Backup, backup::Inspection, manifest::ours::SignatureState};
use undoo_control::plane::{DeployStep, FetchedAddons};
use undoo_core::{Finding, Kind, Problem, Result, platform::Deployment};
use undoo_engine::{order::Failure, source::BackupOrder};
use undoo_hosts::{
    Docker, DockerEndpoint,
    deploy::{self, LABEL_ENVIRONMENT},
    host,
};

use self::value::Told;
pub use self::value::Words;
use super::{
    checkouts::Checkouts,
    deploy::step,
    modules::{self, Trust},
};
use crate::{
    caller::{Caller, Stop},
    docker::{DockerPlace, fitting},
    place::Place,
};

/// An environment that is to be made, and the server that it is to be on.
pub struct New {
    endpoint: DockerEndpoint,
    docker: Docker,
    deployment: Deployment,
    /// What there is to say of it before anything is made.
    findings: Vec<Finding>,
    /// Modules of git repositories that it is to have.
    checkouts: Checkouts,
    /// Names of the backup's modules that come with it.
    modules: Vec<String>,
}

impl New {
    /// What would be made of a backup on a server, where nothing is in its way. Nothing is made yet.
    ///
    /// # Errors
    /// Those of the server; `name_taken`, `port_taken`, `server_architecture`, and as [`value::deployment`].
    pub async fn find(
        endpoint: DockerEndpoint,
        (backup, inspection): (&Backup, &Inspection),
        words: &Words<'_>,
        checkouts: Checkouts,
        trust: Trust<'_>,
    ) -> Result<Self> {
        let manifest = backup.manifest.as_ref();
        let signed = manifest.filter(|manifest| manifest.signature == SignatureState::Valid);
        let key = signed.and_then(|manifest| manifest.undoo.as_ref()?.public_key.as_ref());
        let told = Told {
            is_trusted: key.is_some_and(|key| trust.keys.contains(key)),
            environment: manifest.and_then(|manifest| Some(&manifest.undoo.as_ref()?.environment)),
            odoo_version: inspection.odoo.version.as_deref(),
            postgres_version: inspection
                .database
                .as_ref()
                .and_then(|database| database.server_version.as_deref()),
        };
        let docker = Docker::connect(endpoint.clone()).await?;
        if let Some(server) = docker.server() {
            fitting(server, docker.machine().await?)?;
        }
        let host = host::look(&docker, !docker.is_remote()).await?;
        let (deployment, mut findings) = value::deployment(&told, words, host.cores)?;
        deploy::refuse_taken(&docker, &deployment.names).await?;
        if let Some(port) = deployment.http_port.filter(|port| host.ports_taken.contains(port)) {
            return Err(port_taken(port));
        }
        let modules = modules::besides(backup, &checkouts);
        findings.extend(modules.iter().flat_map(|modules| modules::untrusted(modules, trust)));
        let modules = modules.iter().flat_map(|modules| modules.names().map(str::to_owned)).collect();
        Ok(Self { endpoint, docker, deployment, findings, checkouts, modules })
    }

    /// What is to be made.
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// What there is to say of it before anything is made.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// What was fetched for it.
    pub fn fetched(&self) -> &[FetchedAddons] {
        self.checkouts.fetched()
    }

    /// Names of the backup's modules that come with it.
    pub fn modules(&self) -> &[String] {
        &self.modules
    }

    /// The server in words.
    pub fn server(&self) -> &str {
        self.docker.server().unwrap_or("this machine")
    }

    /// Which of its images are on the server already: Odoo's and PostgreSQL's.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn has_images(&self) -> Result<[(&str, bool); 2]> {
        let Deployment { odoo_image, postgres_image, .. } = &self.deployment;
        Ok([
            (odoo_image, deploy::is_present(&self.docker, odoo_image).await?),
            (postgres_image, deploy::is_present(&self.docker, postgres_image).await?),
        ])
    }

    /// The target that it is, from when it has its infrastructure.
    pub fn target(&self) -> String {
        format!("docker:{}", self.deployment.names.odoo())
    }

    /// Where people find it; `None`: nowhere but on its server.
    pub fn address(&self) -> Option<String> {
        let host = match &self.endpoint {
            DockerEndpoint::Ssh(access) => access.host.as_str(),
            DockerEndpoint::Local | DockerEndpoint::Socket(_) => "localhost",
        };
        let by_port = || Some(format!("http://{host}:{}", self.deployment.http_port?));
        self.deployment.domain.as_ref().map(|domain| format!("https://{domain}")).or_else(by_port)
    }

    /// The file on the server that has its configuration, with Odoo's master password as `admin_passwd`.
    pub fn configuration(&self) -> String {
        format!("{}/odoo.conf", self.deployment.names.folder())
    }

    /// Makes it, with `restore` in the middle, which is to leave the place with a database that is live.
    ///
    /// # Errors
    /// Those of the steps and of `restore`; all of it is taken away again then, and the message says so.
    pub async fn around<T>(
        &self,
        backup: &BackupOrder,
        trust: Trust<'_>,
        caller: Caller<'_>,
        restore: impl AsyncFnOnce(&Place) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (docker, deployment) = (&self.docker, &self.deployment);
        let made = async {
            step(docker, deployment, DeployStep::Infrastructure, caller).await?;
            modules::put(docker, deployment, &self.checkouts, backup, trust, caller).await?;
            let database = Some(deployment.database.as_str());
            let place = DockerPlace::find(self.endpoint.clone(), &self.target(), database, caller).await?;
            let place = Place::Docker(Box::new(place));
            let restored = restore(&place).await;
            // Its mover has nothing to do any more, and what comes next stops its database.
            if let Err(left) = place.close().await {
                tracing::warn!(%left, "a mover could not be ended");
            }
            let restored = restored?;
            step(docker, deployment, DeployStep::MakeDurable, caller).await?;
            step(docker, deployment, DeployStep::Release, caller).await?;
            Ok(restored)
        };
        match made.await {
            Ok(restored) => Ok(restored),
            Err(failure) => Err(self.taken_away(failure, caller).await),
        }
    }

    /// Takes all of it away; says of a failure what is left.
    async fn taken_away(&self, mut failure: Failure, caller: Caller<'_>) -> Failure {
        let never = Stop::never();
        let caller = Caller { stop: &never, ..caller };
        let (name, id) = (self.deployment.names.name(), self.deployment.names.environment());
        let said = match step(&self.docker, &self.deployment, DeployStep::Destroy, caller).await {
            Ok(()) => format!("Nothing of \"{name}\" is left on {}", self.server()),
            Err(left) => format!(
                "What was made of \"{name}\" could not all be taken away from {}: {left} It has the label \
                 {LABEL_ENVIRONMENT}={id}, and its folder is {}",
                self.server(),
                self.deployment.names.folder()
            ),
        };
        let message = failure.problem.message.trim_end().trim_end_matches('.');
        // The end of a log is on lines of its own.
        let between = if message.contains('\n') { "\n" } else { ". " };
        failure.problem.message = format!("{message}{between}{said}");
        failure
    }
}

fn port_taken(port: u16) -> Problem {
    Problem::new(
        Kind::Conflict,
        "port_taken",
        format!("a container of the server has taken the port {port}"),
        "Choose another port (--http-port), or stop what listens on it.",
    )
}
