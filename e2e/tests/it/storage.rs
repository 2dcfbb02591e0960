//! Backups straight from storage that listens on loopback only, and what is seen of secrets meanwhile.

use std::{fs, process::Command, time::Duration};

use crate::support::{
    Instance, Kind, Made, Undoo,
    docker::{docker, docker_maybe, logs, output},
    weed::{self, SECRET},
};

#[test]
fn a_backup_in_s3_on_loopback_is_restored_without_showing_a_secret() {
    let undoo = Undoo::ready();
    let backup = Made::of(Kind::ODOO_19);
    let live = Instance::up(Kind::ODOO_19);
    live.is_origin_of(backup.uuid());
    live.sql_in("postgres", "ALTER SYSTEM SET log_statement = 'all'");
    live.sql_in("postgres", "SELECT pg_reload_conf()");
    weed::put("daily/acme.zip", &fs::read(backup.zip()).unwrap());
    let variables = weed::variables();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let words = ["restore", "s3://backups/daily/acme.zip", "--into", &live.target(), "--yes", "--json"];
    // The partners' files are not at hand: they have to come out of the bucket.
    fs::remove_dir_all(live.filestore()).unwrap();

    let secrets = [SECRET.to_owned(), live.password(), admin_password(&live)];
    let (mut seen, mut looks) = (String::new(), 0);
    let mut run = undoo.start(&words, &variables);
    while run.is_running() {
        seen += &what_anyone_sees(&live);
        looks += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
    let run = run.finish().ends(0);
    backup.is_live_on(&live, &live.name);
    assert!(looks > 10 && seen.contains("sh.undoo.role"), "containers were looked at while they ran");
    for secret in &secrets {
        assert!(!seen.contains(secret.as_str()), "docker inspect, docker logs or ps shows a secret");
        assert!(!run.all().contains(secret.as_str()), "the output shows a secret");
    }
    let log = logs(&live.db());
    assert!(log.contains("CREATE DATABASE \"undoo_"), "the server logs statements");
    assert!(
        !log.contains("NOCREATEROLE PASSWORD"),
        "the server's log shows the password of the loader's role"
    );
    assert_eq!(live.leftovers(), [""; 0]);
}

#[test]
fn a_backup_behind_http_on_loopback_is_restored() {
    let undoo = Undoo::ready();
    let backup = Made::of(Kind::ODOO_19);
    let live = Instance::up(Kind::ODOO_19);
    live.is_origin_of(backup.uuid());
    weed::put("acme.zip", &fs::read(backup.zip()).unwrap());
    fs::remove_dir_all(live.filestore()).unwrap();
    undoo.run(&["restore", &weed::http("acme.zip"), "--into", &live.target(), "--yes"]).ends(0);
    backup.is_live_on(&live, &live.name);
}

/// Odoo's master password.
fn admin_password(live: &Instance) -> String {
    let conf = fs::read_to_string(live.conf()).unwrap();
    conf.lines().find_map(|line| line.strip_prefix("admin_passwd = ")).unwrap().to_owned()
}

/// Our containers as `docker inspect` and `docker logs` show them, with their processes; and the
/// command's own process.
pub(crate) fn what_anyone_sees(live: &Instance) -> String {
    let filter = format!("label=sh.undoo.target={}", live.odoo());
    let mut seen = String::new();
    for container in docker(&["ps", "-aq", "--filter", &filter]).lines() {
        for words in
            [&["inspect", container][..], &["logs", container], &["top", container, "-eo", "pid,args"]]
        {
            // It may be gone meanwhile.
            seen += &docker_maybe(words).unwrap_or_default();
        }
    }
    let processes = output(Command::new("ps").args(["-eo", "args"]), b"");
    let processes = String::from_utf8_lossy(&processes.stdout).into_owned();
    let ours = processes.lines().filter(|line| line.contains("undoo-e2e ") || line.contains("/undoo/undoo"));
    seen + &ours.collect::<Vec<_>>().join("\n")
}
