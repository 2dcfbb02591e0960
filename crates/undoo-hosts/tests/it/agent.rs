//! The container that outlives its caller.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use undoo_hosts::{agent, binary::ensure_binary, cleanup};

use crate::support::{self, POSTGRES, Sandbox};

support::trials![an_agent_goes_on_when_its_caller_is_killed_and_can_be_followed_from_elsewhere];

async fn an_agent_goes_on_when_its_caller_is_killed_and_can_be_followed_from_elsewhere(sandbox: Sandbox) {
    let docker = &sandbox.docker;
    let volume = ensure_binary(docker, &support::program(), POSTGRES).await.unwrap();
    let mut caller = Command::new(support::program())
        .args(["play", "send-off", &volume, &sandbox.task()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut id = String::new();
    BufReader::new(caller.stdout.take().unwrap()).read_line(&mut id).unwrap();
    caller.kill().unwrap();
    caller.wait().unwrap();

    let found = agent::find_agents(docker, Some(&sandbox.task())).await.unwrap();
    assert_eq!(found.len(), 1);
    let found = &found[0];
    assert_eq!(found.id, id.trim());
    assert!(found.running);
    assert_eq!(found.exit_code, None);
    assert_eq!(found.labels.target.as_deref(), Some("acme-odoo"));
    assert!(!sandbox.inspect_text(&found.id).await.contains("s3cret-word"));
    assert_eq!(agent::remove(docker, &found.id).await.unwrap_err().code, "agent_running");
    let removed = cleanup::remove(docker, &sandbox.task(), 1).await.unwrap();
    assert!(removed.is_empty(), "a cutover under way was removed: {removed:?}");

    for _ in 0..2 {
        let mut lines = Vec::new();
        let end = agent::follow(docker, &found.id, |line| lines.push(line.to_owned())).await.unwrap();
        assert_eq!(end.exit_code, 3);
        assert_eq!(end.output, "done\n");
        assert_eq!(lines[..3], ["order 200011 bytes", "socket true", "step 1"]);
        assert_eq!(lines.last().map(String::as_str), Some("step 10"));
    }
    let ended = agent::find_agents_on(docker, "acme-odoo").await.unwrap();
    let ended = ended.iter().find(|agent| agent.id == found.id).unwrap();
    assert_eq!((ended.running, ended.exit_code), (false, Some(3)));
    agent::remove(docker, &found.id).await.unwrap();
    agent::remove(docker, &found.id).await.unwrap();
    assert!(agent::find_agents(docker, Some(&sandbox.task())).await.unwrap().is_empty());
}
