//! Odoo containers: all that there are, and the one of a Docker Compose project.

use bollard::{models::ContainerInspectResponse, query_parameters::ListContainersOptionsBuilder};
use undoo_core::{Kind, Problem, Result};

use super::{EnvMap, OdooContainer, all_containers, command::CommandLine, inspect, inspect_odoo, name};
use crate::{
    docker::{Docker, problem},
    labels::{LABEL_ROLE, label_filter},
};

/// Names of the containers that run Odoo, or would if they were started; our own are left out.
///
/// # Errors
/// Those of the engine.
pub async fn odoo_containers(docker: &Docker) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for id in all_containers(docker).await? {
        let found = match inspect(docker, &id).await {
            Err(gone) if gone.kind == Kind::Missing => continue,
            found => found?,
        };
        let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
        if is_odoo(&found) && !labels.is_some_and(|labels| labels.contains_key(LABEL_ROLE)) {
            names.push(name(&found));
        }
    }
    names.sort();
    Ok(names)
}

fn is_odoo(found: &ContainerInspectResponse) -> bool {
    let config = found.config.clone().unwrap_or_default();
    let env = EnvMap::parse(config.env.as_ref());
    let command = CommandLine::parse(
        config.entrypoint.as_deref().unwrap_or_default(),
        config.cmd.as_deref().unwrap_or_default(),
    );
    command.names_odoo || env.get("ODOO_RC").is_some() || env.get("ODOO_VERSION").is_some()
}

/// Finds the one Odoo container of a compose project and inspects it.
///
/// # Errors
/// `compose_project_missing` where no container belongs to the project, `odoo_container_missing` where
/// none of them is an Odoo, `several_odoo_containers` where more than one is; each names what was found.
pub async fn compose_project(docker: &Docker, project: &str) -> Result<OdooContainer> {
    let filters = label_filter(&[("com.docker.compose.project", Some(project))]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let members = docker
        .engine()
        .list_containers(Some(options))
        .await
        .map_err(|error| problem(error, || format!("listing the containers of the project {project}")))?;
    let mut all = Vec::new();
    let mut odoos = Vec::new();
    for id in members.into_iter().filter_map(|member| member.id) {
        let found = inspect(docker, &id).await?;
        let config = found.config.clone().unwrap_or_default();
        let labels = config.labels.as_ref();
        if labels
            .and_then(|labels| labels.get("com.docker.compose.oneoff"))
            .is_some_and(|oneoff| oneoff == "True")
        {
            continue;
        }
        all.push(name(&found));
        if is_odoo(&found) {
            odoos.push((name(&found), id));
        }
    }
    all.sort();
    odoos.sort();
    match odoos.as_slice() {
        [(_, id)] => inspect_odoo(docker, id).await,
        [] if all.is_empty() => Err(Problem::new(
            Kind::Missing,
            "compose_project_missing",
            format!("No container belongs to the compose project {project:?}."),
            "See \"docker compose ls --all\" for the names of all projects.",
        )),
        [] => Err(Problem::new(
            Kind::Missing,
            "odoo_container_missing",
            format!("None of the containers of {project:?} looks like an Odoo: {}.", all.join(", ")),
            "Name the container that runs Odoo.",
        )),
        several => {
            let names: Vec<&str> = several.iter().map(|(name, _)| name.as_str()).collect();
            Err(Problem::new(
                Kind::Conflict,
                "several_odoo_containers",
                format!("Several containers of {project:?} run Odoo: {}.", names.join(", ")),
                "Name the one that serves people (docker:CONTAINER); the others are found by what they share with it.",
            ))
        }
    }
}
