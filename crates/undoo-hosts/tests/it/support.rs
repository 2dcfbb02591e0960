//! A corner of the Docker Engine for one test, gone when the test ends, however it ends.

use std::{collections::HashMap, future::Future};

use bollard::{
    exec::StartExecResults,
    models::{
        ContainerCreateBody, ExecConfig, HostConfig, Mount, MountType, NetworkCreateRequest,
        VolumeCreateRequest,
    },
    query_parameters::{
        CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder,
        UploadToContainerOptionsBuilder,
    },
};
use futures_util::StreamExt as _;
use libtest_mimic::{Failed, Trial};
use undoo_hosts::{Docker, DockerEndpoint};

pub(crate) const POSTGRES: &str = "postgres:15";
pub(crate) const ODOO: &str = "odoo:19.0";

/// Lists the tests of a module; one that is not listed is dead code, which the compiler tells.
macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        pub(crate) fn trials() -> Vec<libtest_mimic::Trial> {
            vec![$($crate::support::trial(concat!(module_path!(), "::", stringify!($name)), $name)),*]
        }
    };
}
pub(crate) use trials;

pub(crate) fn trial<F: Future<Output = ()> + 'static>(name: &str, test: fn(Sandbox) -> F) -> Trial {
    let name = name.trim_start_matches("it::").to_owned();
    Trial::test(name, move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| Failed::from(error.to_string()))?;
        runtime.block_on(async { test(Sandbox::new().await).await });
        Ok(())
    })
}

/// This very binary, which is static and so runs in any container.
pub(crate) fn program() -> std::path::PathBuf {
    std::env::current_exe().unwrap()
}

pub(crate) struct Sandbox {
    pub(crate) docker: Docker,
    pub(crate) prefix: String,
    made: std::sync::Mutex<Made>,
}

#[derive(Default)]
struct Made {
    containers: Vec<String>,
    networks: Vec<String>,
    volumes: Vec<String>,
}

impl Sandbox {
    async fn new() -> Self {
        let docker = Docker::connect(DockerEndpoint::Local)
            .await
            .unwrap_or_else(|problem| panic!("{problem} {} (dev/docker-engine starts one)", problem.remedy));
        Self { docker, prefix: format!("undoo-test-{:08x}", rand::random::<u32>()), made: Default::default() }
    }

    pub(crate) fn name(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.prefix)
    }

    /// A task id that no other test has.
    pub(crate) fn task(&self) -> String {
        self.name("task")
    }

    pub(crate) async fn network(&self, suffix: &str) -> String {
        let name = self.name(suffix);
        self.made.lock().unwrap().networks.push(name.clone());
        let request = NetworkCreateRequest { name: name.clone(), ..Default::default() };
        self.docker.engine().create_network(request).await.unwrap();
        name
    }

    pub(crate) async fn volume(&self, suffix: &str) -> String {
        let name = self.name(suffix);
        self.made.lock().unwrap().volumes.push(name.clone());
        let request = VolumeCreateRequest { name: Some(name.clone()), ..Default::default() };
        self.docker.engine().create_volume(request).await.unwrap();
        name
    }

    /// Creates a container and does not start it.
    pub(crate) async fn create(&self, suffix: &str, body: ContainerCreateBody) -> String {
        let name = self.name(suffix);
        self.made.lock().unwrap().containers.push(name.clone());
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        self.docker.engine().create_container(Some(options), body).await.unwrap();
        name
    }

    pub(crate) async fn start(&self, name: &str) {
        self.docker.engine().start_container(name, None).await.unwrap();
    }

    /// A running container that does nothing; it ends at once when asked to.
    pub(crate) async fn idle(&self, suffix: &str, mut body: ContainerCreateBody) -> String {
        body.image.get_or_insert_with(|| POSTGRES.into());
        body.entrypoint.get_or_insert_with(|| vec!["sleep".into(), "600".into()]);
        body.stop_signal = Some("SIGKILL".into());
        let host = body.host_config.get_or_insert_default();
        // The engine's default network is shared with everything on this machine.
        host.network_mode.get_or_insert_with(|| "none".into());
        // Else the image's volume would outlive a container that the code under test removes.
        host.mounts.get_or_insert_default().push(Mount {
            target: Some("/var/lib/postgresql/data".into()),
            typ: Some(MountType::TMPFS),
            ..Default::default()
        });
        let name = self.create(suffix, body).await;
        self.start(&name).await;
        name
    }

    /// Runs a program in a container and gives its exit code and output.
    pub(crate) async fn exec(&self, name: &str, words: &[&str]) -> (i64, String) {
        let options = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(words.iter().map(|word| (*word).to_owned()).collect()),
            ..Default::default()
        };
        let engine = self.docker.engine();
        let exec = engine.create_exec(name, options).await.unwrap().id;
        let mut text = String::new();
        if let StartExecResults::Attached { mut output, .. } = engine.start_exec(&exec, None).await.unwrap() {
            while let Some(chunk) = output.next().await {
                text.push_str(&chunk.unwrap().to_string());
            }
        }
        (engine.inspect_exec(&exec).await.unwrap().exit_code.unwrap(), text)
    }

    /// Everything that `docker inspect` shows of a container.
    pub(crate) async fn inspect_text(&self, name: &str) -> String {
        let found = self.docker.engine().inspect_container(name, None).await.unwrap();
        serde_json::to_string(&found).unwrap()
    }

    /// Makes a symbolic link in a container.
    pub(crate) async fn put_link(&self, name: &str, path: &str, to: &str) {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        archive.append_link(&mut header, path.trim_start_matches('/'), to).unwrap();
        self.extract(name, archive.into_inner().unwrap()).await;
    }

    /// Writes a file into a container as `docker cp` does.
    pub(crate) async fn put(&self, name: &str, path: &str, text: &str) {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path.trim_start_matches('/'), text.as_bytes()).unwrap();
        self.extract(name, archive.into_inner().unwrap()).await;
    }

    async fn extract(&self, name: &str, archive: Vec<u8>) {
        let options = UploadToContainerOptionsBuilder::new().path("/").build();
        let body = bollard::body_full(archive.into());
        self.docker.engine().upload_to_container(name, Some(options), body).await.unwrap();
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let made = std::mem::take(self.made.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()));
        let engine = self.docker.engine().clone();
        // A runtime of its own: the test's may be unwinding.
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                for name in made.containers {
                    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
                    let _ = engine.remove_container(&name, Some(options)).await;
                }
                for name in made.networks {
                    let _ = engine.remove_network(&name).await;
                }
                for name in made.volumes {
                    let options = RemoveVolumeOptionsBuilder::new().build();
                    let _ = engine.remove_volume(&name, Some(options)).await;
                }
            });
        });
        let _ = cleaning.join();
    }
}

pub(crate) fn words(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|word| (*word).to_owned()).collect())
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Option<HashMap<String, String>> {
    Some(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

pub(crate) fn volume_mount(volume: &str, target: &str) -> Mount {
    Mount {
        target: Some(target.into()),
        source: Some(volume.into()),
        typ: Some(MountType::VOLUME),
        ..Default::default()
    }
}

pub(crate) fn docker_socket() -> Mount {
    Mount {
        target: Some(undoo_hosts::agent::SOCKET.into()),
        source: Some(undoo_hosts::agent::SOCKET.into()),
        typ: Some(MountType::BIND),
        ..Default::default()
    }
}

pub(crate) fn host_with(network: &str, mounts: Vec<Mount>) -> Option<HostConfig> {
    Some(HostConfig { network_mode: Some(network.into()), mounts: Some(mounts), ..Default::default() })
}
