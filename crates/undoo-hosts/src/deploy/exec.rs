//! Programs inside containers of an environment: short questions, with their answers in memory.

use bollard::{exec::StartExecResults, models::ExecConfig};
use futures_util::StreamExt as _;
use undoo_core::Result;

use crate::{
    docker::{Docker, problem},
    lines::Tail,
    scratch,
};

/// Runs a program in a running container; gives its exit code and the end of both of its outputs.
pub(super) async fn run(
    docker: &Docker,
    container: &str,
    user: Option<&str>,
    words: &[&str],
) -> Result<(i64, String)> {
    let doing = || format!("running {} in {container}", words.first().copied().unwrap_or_default());
    let config = ExecConfig {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        user: user.map(str::to_owned),
        cmd: Some(words.iter().map(|word| (*word).to_owned()).collect()),
        ..Default::default()
    };
    let engine = docker.engine();
    let exec = engine.create_exec(container, config).await.map_err(|error| problem(error, doing))?.id;
    let mut tail = Tail::new(Tail::USUAL);
    let started = engine.start_exec(&exec, None).await.map_err(|error| problem(error, doing))?;
    if let StartExecResults::Attached { mut output, .. } = started {
        while let Some(chunk) = output.next().await {
            tail.push(scratch::bytes_of(&chunk.map_err(|error| problem(error, doing))?));
        }
    }
    let ended = engine.inspect_exec(&exec).await.map_err(|error| problem(error, doing))?;
    Ok((ended.exit_code.unwrap_or(-1), tail.into_text()))
}
