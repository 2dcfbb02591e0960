//! What a container is asked to be, without an engine.

use undoo_core::{
    EnvironmentId,
    platform::{Limits, Names, Passwords},
};

use super::*;
use crate::deploy::{LABEL_ENVIRONMENT, LABEL_PART};

fn deployment() -> Deployment {
    let names = Names::new("acme", EnvironmentId::generate());
    let passwords =
        Passwords { role: "s3cret-role".to_owned().into(), master: "s3cret-master".to_owned().into() };
    let mut deployment = Deployment::new(names, "odoo:17.0", "postgres:15", passwords);
    deployment.domain = Some("erp.example.com".into());
    deployment.http_port = Some(8069);
    deployment.limits = Limits { cpu_cores: Some(2), ram_mb: Some(4096) };
    deployment
}

fn image() -> Image {
    Image::for_test("odoo:17.0", &[("PYTHONPATH", "/opt/odoo")])
}

#[test]
fn a_carrier_is_to_be_found_by_nobody() {
    let deployment = deployment();
    let body = body(&deployment, &image(), Part::Carrier);
    let labels = body.labels.unwrap();
    assert_eq!(labels[LABEL_PART], "carrier");
    assert_eq!(labels[LABEL_ENVIRONMENT], deployment.names.environment().to_string());
    let traefik: Vec<_> = labels.iter().filter(|(name, _)| name.starts_with("traefik.")).collect();
    assert_eq!(traefik, [(&"traefik.enable".to_owned(), &"false".to_owned())]);
    let host = body.host_config.unwrap();
    assert_eq!(host.network_mode, Some(deployment.names.network()));
    assert_eq!(host.port_bindings, None);
    assert_eq!(host.restart_policy.unwrap().name, Some(RestartPolicyNameEnum::NO));
}

#[test]
fn the_odoo_that_can_be_reached_is_that_of_the_document() {
    let deployment = deployment();
    let body = body(&deployment, &image(), Part::Odoo);
    let host = body.host_config.unwrap();
    assert_eq!(host.network_mode.as_deref(), Some("traefik-public"));
    assert_eq!(host.restart_policy.unwrap().name, Some(RestartPolicyNameEnum::UNLESS_STOPPED));
    assert!(host.port_bindings.unwrap().contains_key("8069/tcp"));
    assert_eq!((host.memory, host.nano_cpus), (Some(3072 << 20), Some(2_000_000_000)));
    let folder = deployment.names.folder();
    let mounts: Vec<_> = host
        .mounts
        .unwrap()
        .into_iter()
        .map(|mount| (mount.source.unwrap(), mount.target.unwrap(), mount.read_only.unwrap_or(false)))
        .collect();
    let mount = |from: String, to: &str, read_only| (from, to.to_owned(), read_only);
    assert_eq!(
        mounts,
        [
            mount(format!("{folder}/odoo.conf"), "/etc/odoo/odoo.conf", true),
            mount(format!("{folder}/addons"), "/mnt/extra-addons", true),
            mount(format!("{folder}/python"), "/mnt/extra-python", true),
            mount(deployment.names.data(), "/var/lib/odoo", false),
        ]
    );
    assert_eq!(body.env, Some(vec!["PYTHONPATH=/mnt/extra-python:/opt/odoo".to_owned()]));
    assert_eq!(body.labels.unwrap()["traefik.enable"], "true");
}

#[test]
fn no_container_shows_a_password() {
    let deployment = deployment();
    for part in [Part::Carrier, Part::Odoo] {
        let body = format!("{:?}", body(&deployment, &image(), part));
        assert!(!body.contains("s3cret"), "{body}");
    }
}
