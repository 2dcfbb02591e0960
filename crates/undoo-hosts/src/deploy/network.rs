//! The two networks of an environment: its own, in which PostgreSQL is, and the one that Traefik is in.

use bollard::models::NetworkCreateRequest;
use undoo_core::{Result, platform::Names};

use super::{
    Did, Done, Image, Part,
    look::{self, is_conflict},
    things::{LABEL_IMAGE, labels},
};
use crate::docker::{Docker, is_missing, problem};

/// The environment's own network. It is the first thing to be made and the last to go, and remembers with
/// which image the folder can be removed.
pub(super) async fn private(docker: &Docker, names: &Names, image: &Image) -> Result<Done> {
    let name = names.network();
    let did = if look::network(docker, names).await? {
        Did::Found
    } else {
        let mut labels = labels(names, Part::Network);
        labels.insert(LABEL_IMAGE.into(), image.name.clone());
        let request = NetworkCreateRequest { name: name.clone(), labels: Some(labels), ..Default::default() };
        docker
            .engine()
            .create_network(request)
            .await
            .map_err(|error| problem(error, || format!("creating the network {name}")))?;
        Did::Made
    };
    Ok(Done { part: Part::Network, name, did })
}

/// The network that Traefik is in. All environments share it, so it has nobody's label and stays.
pub(super) async fn public(docker: &Docker, name: &str) -> Result<Done> {
    let done = |did| Done { part: Part::PublicNetwork, name: name.to_owned(), did };
    match docker.engine().inspect_network(name, None).await {
        Ok(_) => return Ok(done(Did::Found)),
        Err(error) if is_missing(&error) => {}
        Err(error) => return Err(problem(error, || format!("inspecting the network {name}"))),
    }
    let request = NetworkCreateRequest { name: name.to_owned(), ..Default::default() };
    match docker.engine().create_network(request).await {
        Ok(_) => Ok(done(Did::Made)),
        // Another environment was made at the same time.
        Err(error) if is_conflict(&error) => Ok(done(Did::Found)),
        Err(error) => Err(problem(error, || format!("creating the network {name}"))),
    }
}
