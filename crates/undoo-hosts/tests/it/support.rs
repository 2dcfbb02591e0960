//! A corner of the Docker Engine for one test, gone when the test ends, however it ends.

use std::{collections::HashMap, future::Future};

use bollard::{
    models::{ContainerCreateBody, HostConfig, Mount, MountType, NetworkCreateRequest, VolumeCreateRequest},
    query_parameters::{
        CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder,
        UploadToContainerOptionsBuilder,
    },
};
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

pub(crate) fn trial<F: Future<Output = ()>>(name: &str, test: fn(Sandbox) -> F) -> Trial
where
    F: 'static,
{
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

    /// Has a container removed at the end that the code under test made.
    pub(crate) fn also_remove_network(&self, name: &str) {
        self.made.lock().unwrap().networks.push(name.to_owned());
    }

    /// Everything that `docker inspect` shows of a container.
    pub(crate) async fn inspect_text(&self, name: &str) -> String {
        let found = self.docker.engine().inspect_container(name, None).await.unwrap();
        serde_json::to_string(&found).unwrap()
    }

    /// Writes a file into a container as `docker cp` does.
    pub(crate) async fn put(&self, name: &str, path: &str, text: &str) {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path.trim_start_matches('/'), text.as_bytes()).unwrap();
        let options = UploadToContainerOptionsBuilder::new().path("/").build();
        let body = bollard::body_full(archive.into_inner().unwrap().into());
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

pub(crate) fn host_with(network: &str, mounts: Vec<Mount>) -> Option<HostConfig> {
    Some(HostConfig { network_mode: Some(network.into()), mounts: Some(mounts), ..Default::default() })
}
