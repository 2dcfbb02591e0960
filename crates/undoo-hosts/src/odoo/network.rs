//! The network of a proof: the database server is in it, and there is no way out.

use bollard::models::{NetworkCreateRequest, NetworkDisconnectRequest};
use undoo_core::Result;

use crate::{
    docker::{Docker, is_missing, problem},
    labels::{Labels, Role},
    mover::connect,
};

/// The name of the database server in a proof's network.
pub const DATABASE_ALIAS: &str = "undoo-db";

/// An internal network of our own. It is removed when this is dropped, if the runtime lives on; better
/// call [`ProofNetwork::remove`].
pub struct ProofNetwork {
    docker: Docker,
    name: String,
    removed: bool,
}

/// Makes a network without a way out and puts the database server's container into it, where it is
/// called [`DATABASE_ALIAS`].
///
/// # Errors
/// Those of the engine; nothing is left behind then.
pub async fn proof_network(
    docker: &Docker,
    labels: &Labels,
    database_container: &str,
) -> Result<ProofNetwork> {
    let name = format!("undoo-proof-{:012x}", rand::random::<u64>() >> 16);
    let request = NetworkCreateRequest {
        name: name.clone(),
        internal: Some(true),
        labels: Some(labels.to_map(Role::Proof)),
        ..Default::default()
    };
    docker
        .engine()
        .create_network(request)
        .await
        .map_err(|error| problem(error, || format!("creating the network {name}")))?;
    let network = ProofNetwork { docker: docker.clone(), name, removed: false };
    match connect(docker, &network.name, database_container, &[DATABASE_ALIAS]).await {
        Ok(()) => Ok(network),
        Err(error) => {
            network.remove().await?;
            Err(error)
        }
    }
}

impl ProofNetwork {
    /// The network's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes every container out of it and removes it.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn remove(mut self) -> Result<()> {
        self.removed = true;
        remove_network(&self.docker, &self.name).await
    }
}

impl Drop for ProofNetwork {
    fn drop(&mut self) {
        if self.removed {
            return;
        }
        let (docker, name) = (self.docker.clone(), self.name.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = remove_network(&docker, &name).await {
                    tracing::warn!(network = name, %error, "a network could not be removed");
                }
            });
        }
    }
}

/// Removes a network of ours with whatever is connected; that it is gone already is fine.
pub(crate) async fn remove_network(docker: &Docker, name: &str) -> Result<()> {
    let found = match docker.engine().inspect_network(name, None).await {
        Ok(found) => found,
        Err(error) if is_missing(&error) => return Ok(()),
        Err(error) => return Err(problem(error, || format!("inspecting the network {name}"))),
    };
    for container in found.containers.unwrap_or_default().into_keys() {
        let request = NetworkDisconnectRequest { container, force: Some(true) };
        match docker.engine().disconnect_network(name, request).await {
            Ok(()) => {}
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(problem(error, || format!("emptying the network {name}"))),
        }
    }
    match docker.engine().remove_network(name).await {
        Ok(()) => Ok(()),
        Err(error) if is_missing(&error) => Ok(()),
        Err(error) => Err(problem(error, || format!("removing the network {name}"))),
    }
}
