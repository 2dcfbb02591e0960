//! A dump is a program that strangers wrote: code in it runs at the first login, with Odoo's rights.

use std::{fs, path::Path, process::Command};

use crate::support::{
    Instance, Kind, Made, Undoo,
    docker::{docker_maybe, succeed},
};

/// A trigger on the log of logins whose function does `command`, and hides that it failed.
fn trap(command: &str) -> String {
    format!(
        "CREATE FUNCTION public.audit_login() RETURNS trigger LANGUAGE plpgsql AS $$\nBEGIN\n  {command};\n  \
         RETURN NEW;\nEXCEPTION WHEN OTHERS THEN RETURN NEW;\nEND $$;\n\n\
         CREATE TRIGGER audit_login AFTER INSERT ON public.res_users_log FOR EACH ROW EXECUTE FUNCTION \
         public.audit_login();\n\n"
    )
}

#[test]
fn a_program_in_a_trigger_is_refused_and_a_disguised_one_that_was_accepted_does_not_run() {
    let undoo = Undoo::ready();
    let backup = Made::of(Kind::ODOO_19);
    let live = Instance::up(Kind::ODOO_19);
    live.is_origin_of(backup.uuid());
    // The dump has no files; those of its attachments are there.
    let mut copy = Command::new("cp");
    succeed(copy.arg("-an").arg(backup.filestore().join(".")).arg(live.filestore()), b"");
    let folder = tempfile::tempdir().unwrap();
    let restore = |dump: &Path, more: &[&str]| {
        let target = live.target();
        let mut words = vec!["restore", dump.to_str().unwrap(), "--into", &target, "--yes", "--json"];
        words.extend(more);
        undoo.run(&words)
    };
    let before =
        live.sql_in("postgres", &format!("SELECT oid FROM pg_database WHERE datname = '{}'", live.name));

    let plain = with_trap(&backup, folder.path(), "COPY (SELECT 1) TO PROGRAM 'touch /tmp/pwned'");
    let run = restore(&plain, &[]).ends(4);
    assert!(!run.findings().is_empty(), "{}", run.all());
    let answer = run.json();
    assert!(
        answer["findings"].as_array().unwrap().iter().any(|finding| finding["acceptable"] == false),
        "it cannot be accepted: {answer}"
    );

    let disguised = "EXECUTE 'CO' || 'PY (SELECT 1) TO PRO' || 'GRAM ''touch /tmp/pwned'''";
    let hidden = with_trap(&backup, folder.path(), disguised);
    let run = restore(&hidden, &[]).ends(4);
    let findings = run.findings();
    assert!(findings.iter().any(|code| code.starts_with("code:") || code.contains("code")), "{findings:?}");
    let after =
        live.sql_in("postgres", &format!("SELECT oid FROM pg_database WHERE datname = '{}'", live.name));
    assert_eq!(before, after, "the live database is the one that was there");
    assert_eq!(live.staged(), [""; 0]);

    let accepted: Vec<&str> = findings.iter().flat_map(|code| ["--accept", code]).collect();
    restore(&hidden, &accepted).ends(0);
    let trigger = live.sql("SELECT count(*) FROM pg_trigger WHERE tgname = 'audit_login'");
    assert_eq!(trigger, "1", "what was accepted is there");
    let logins = || live.sql("SELECT count(*) FROM res_users_log").parse::<u64>().unwrap();
    let known = logins();
    live.web();
    assert!(logins() > known, "the login fired the trigger");
    let there = docker_maybe(&["exec", &live.db(), "test", "-e", "/tmp/pwned"]);
    assert!(there.is_none(), "the accepted function ran a program on the database server");
}

fn with_trap(backup: &Made, folder: &Path, command: &str) -> std::path::PathBuf {
    let dump = fs::read_to_string(backup.plain()).unwrap();
    let end = "--\n-- PostgreSQL database dump complete\n";
    assert!(dump.contains(end));
    let path = folder.join("dump.sql");
    fs::write(&path, dump.replace(end, &(trap(command) + end))).unwrap();
    path
}
