//! A deployment against the lines of the source document.

use super::*;

const ID: &str = "0190c0de-0000-7000-8000-000000000001";

fn deployment() -> Deployment {
    let names = Names::new(PREFIX, ID.parse().unwrap());
    let passwords = Passwords { role: "generated".to_owned().into(), master: "master".to_owned().into() };
    Deployment::new(names, "odoo:17.0", "postgres:15-alpine", passwords)
}

#[test]
fn names_are_those_of_the_document() {
    let names = deployment().names;
    let all = [
        (names.odoo(), "{env_uuid}_odoo"),
        (names.db(), "{env_uuid}_db"),
        (names.network(), "paasportal_net_{env_uuid}"),
        (names.pgdata(), "paasportal_pgdata_{env_uuid}"),
        (names.data(), "paasportal_odoo_{env_uuid}_data"),
        (names.folder(), "/opt/paasportal/{env_uuid}"),
        (deployment().postgres_image, "postgres:15-alpine"),
        (deployment().public_network, "traefik-public"),
    ];
    for (name, document) in all {
        assert_eq!(name, document.replace("{env_uuid}", ID));
    }
}

#[test]
fn an_environment_with_a_name_is_called_by_it_wherever_people_look() {
    let names = Names::new(PREFIX, ID.parse().unwrap()).called("acme");
    names.check().unwrap();
    assert_eq!((names.name().as_str(), names.given()), ("acme", Some("acme")));
    assert_eq!((names.odoo().as_str(), names.db().as_str()), ("acme_odoo", "acme_db"));
    assert_eq!(
        (names.network().as_str(), names.folder().as_str()),
        ("paasportal_net_acme", "/opt/paasportal/acme")
    );
    assert_eq!(names.environment().to_string(), ID, "what is its own is known by the id all the same");
    assert_eq!(deployment().names.given(), None);
}

#[test]
fn odoo_conf_has_the_lines_of_the_document_and_closes_the_database_manager() {
    let document = "[options]
db_host = {env_uuid}_db
db_port = 5432
db_user = odoo
db_password = generated
db_name = {env_uuid}
dbfilter = ^{env_uuid}$
data_dir = /var/lib/odoo
addons_path = /mnt/extra-addons,/usr/lib/python3/dist-packages/odoo/addons
http_interface = 0.0.0.0
http_port = 8069
proxy_mode = True
";
    let ours = "list_db = False\nadmin_passwd = master\n";
    let expected = document.replace("{env_uuid}", ID) + ours;
    assert_eq!(deployment().odoo_conf().expose_secret(), expected);
}

#[test]
fn overrides_come_instead_of_a_line_or_after_them_and_never_of_what_is_the_environments_own() {
    let mut deployment = deployment();
    deployment.odoo_conf =
        [("workers", "2"), ("proxy_mode", "False")].map(|(a, b)| (a.to_owned(), b.to_owned())).into();
    deployment.check().unwrap();
    let text = deployment.odoo_conf().expose_secret().to_owned();
    assert!(text.contains("\nproxy_mode = False\n") && text.ends_with("\nworkers = 2\n"), "{text}");
    assert_eq!(text.matches("proxy_mode").count(), 1);
    for (option, value) in
        [("db_name", "other"), ("list_db", "True"), ("x", "a\ndb_host = evil"), ("a b", "1")]
    {
        deployment.odoo_conf = [(option.to_owned(), value.to_owned())].into();
        assert_eq!(deployment.check().unwrap_err().code, "deployment_invalid", "{option}");
    }
}

#[test]
fn what_could_be_taken_for_something_else_is_refused() {
    let refused = |change: fn(&mut Deployment)| {
        let mut deployment = deployment();
        change(&mut deployment);
        assert_eq!(deployment.check().unwrap_err().code, "deployment_invalid", "{deployment:?}");
    };
    refused(|it| it.names = Names::new("../etc", it.names.environment()));
    refused(|it| it.names = Names::new("", it.names.environment()));
    for name in ["../etc", "", "a b", "Acme", "-a", "a.b", &"a".repeat(41)] {
        let mut deployment = deployment();
        deployment.names = deployment.names.called(name);
        assert_eq!(deployment.check().unwrap_err().code, "deployment_invalid", "{name}");
    }
    refused(|it| it.database = "a b".into());
    refused(|it| it.domain = Some("x`) || Host(`y".into()));
    refused(|it| it.variables = [("A=B".to_owned(), String::new())].into());
    refused(|it| it.passwords.role = "two\nlines".to_owned().into());
    refused(|it| it.limits.ram_mb = Some(256));
    refused(|it| it.limits.cpu_cores = Some(0));
    deployment().check().unwrap();
}

#[test]
fn traefik_finds_the_domain_the_port_and_the_network() {
    let mut deployment = deployment();
    assert_eq!(deployment.traefik_labels(), [("traefik.enable".to_owned(), "false".to_owned())].into());
    deployment.domain = Some("erp.example.com".into());
    let labels = deployment.traefik_labels();
    assert_eq!(labels["traefik.enable"], "true");
    assert_eq!(labels["traefik.docker.network"], "traefik-public");
    assert_eq!(labels[&format!("traefik.http.routers.{ID}.rule")], "Host(`erp.example.com`)");
    assert_eq!(labels[&format!("traefik.http.services.{ID}.loadbalancer.server.port")], "8069");
    assert!(!labels.keys().any(|label| label.contains("gevent")));
    deployment.odoo_conf = [("workers".to_owned(), "2".to_owned())].into();
    let rule = |deployment: &Deployment| {
        deployment.traefik_labels()[&format!("traefik.http.routers.{ID}-gevent.rule")].clone()
    };
    assert!(rule(&deployment).contains("/websocket"));
    deployment.odoo_version = Some("14.0".into());
    assert!(rule(&deployment).contains("/longpolling"));
}

#[test]
fn memory_is_shared_out_and_the_database_has_a_least() {
    let mut deployment = deployment();
    assert_eq!((deployment.odoo_memory(), deployment.database_memory(false)), (None, None));
    for (ram, odoo, database) in [(4096, 3072, 1024), (512, 256, 256), (1000, 744, 256)] {
        deployment.limits.ram_mb = Some(ram);
        assert_eq!(deployment.odoo_memory(), Some(odoo * MIB), "{ram}");
        assert_eq!(deployment.database_memory(false), Some(database * MIB), "{ram}");
        assert_eq!(deployment.database_memory(true), Some(ram.max(2048).into()).map(|ram: u64| ram * MIB));
    }
}

#[test]
fn a_cluster_is_fast_by_its_command_alone_and_its_password_is_in_no_variable() {
    let deployment = deployment();
    let fast = "postgres -c fsync=off -c synchronous_commit=off -c full_page_writes=off";
    assert_eq!(deployment.database_command(true).join(" "), fast);
    assert_eq!(deployment.database_command(false), ["postgres"]);
    let variables = deployment.database_variables();
    assert_eq!(variables["POSTGRES_USER"], "odoo");
    assert!(!format!("{variables:?} {deployment:?}").contains("generated"));
}

#[test]
fn python_packages_come_before_those_that_image_or_environment_name() {
    let mut deployment = deployment();
    let path = |deployment: &Deployment, image| deployment.odoo_variables(image)["PYTHONPATH"].clone();
    assert_eq!(path(&deployment, None), PYTHON);
    assert_eq!(path(&deployment, Some("/opt/odoo")), format!("{PYTHON}:/opt/odoo"));
    deployment.variables = [("PYTHONPATH".to_owned(), "/own".to_owned())].into();
    assert_eq!(path(&deployment, Some("/opt/odoo")), format!("{PYTHON}:/own"));
}
