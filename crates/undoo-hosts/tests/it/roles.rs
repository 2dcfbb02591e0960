//! What the test binary does inside a container.

use std::{
    io::{Read as _, Write as _},
    process::ExitCode,
    time::Duration,
};

pub(crate) fn play(role: &str, rest: &[String]) -> ExitCode {
    match role {
        "tell" => tell(),
        "linger" => linger(),
        "grow" => grow(),
        "work" => work(),
        "send-off" => send_off(rest),
        other => panic!("unknown role {other} {rest:?}"),
    }
}

fn reaches_docker() -> bool {
    std::os::unix::net::UnixStream::connect(undoo_hosts::agent::SOCKET).is_ok()
}

/// Repeats its order and tells what it may do.
fn tell() -> ExitCode {
    let mut order = String::new();
    std::io::stdin().read_to_string(&mut order).unwrap();
    println!("order of {} bytes", order.len());
    for line in order.lines().take(3) {
        println!("got {line}");
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    for line in status.lines().filter(|line| line.starts_with("CapEff") || line.starts_with("NoNewPrivs")) {
        println!("{line}");
    }
    for path in ["/file", "/undoo/file", "/var/lib/postgresql/data/file", "/shared/file"] {
        println!("write {path} {}", std::fs::write(path, "x").is_ok());
    }
    println!("socket {}", reaches_docker());
    for _ in 0..3000 {
        eprintln!("a line of thirty two characters.");
    }
    eprintln!("the last words");
    ExitCode::from(7)
}

/// Waits for SIGTERM.
fn linger() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        println!("ready");
        tokio::time::timeout(Duration::from_secs(60), term.recv()).await.unwrap();
    });
    println!("put in order");
    ExitCode::SUCCESS
}

/// Uses memory until it is killed.
fn grow() -> ExitCode {
    let mut all = Vec::new();
    for _ in 0..4096 {
        all.push(vec![1u8; 1024 * 1024]);
        std::io::stdout().flush().unwrap();
    }
    println!("{}", all.len());
    ExitCode::SUCCESS
}

/// What an agent does: takes its order, then works for a while whoever listens.
fn work() -> ExitCode {
    let mut order = String::new();
    std::io::stdin().read_to_string(&mut order).unwrap();
    println!("order {} bytes", order.len());
    println!("socket {}", reaches_docker());
    for step in 1..=10 {
        println!("step {step}");
        std::thread::sleep(Duration::from_millis(150));
    }
    eprintln!("done");
    ExitCode::from(3)
}

/// On the host: starts an agent, tells its id, and then does nothing until it is killed.
fn send_off(rest: &[String]) -> ExitCode {
    let [volume, task] = rest else { panic!("two words are needed") };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let docker = undoo_hosts::Docker::connect(Default::default()).await.unwrap();
        let labels = undoo_hosts::Labels::new(task, 1).on_target("acme-odoo");
        let spec = undoo_hosts::mover::MoverSpec::new("postgres:15", &["play", "work"], labels);
        let order = format!("s3cret-word{}", "x".repeat(200_000));
        let agent = undoo_hosts::agent::start(&docker, &spec, volume, order.as_bytes()).await.unwrap();
        println!("{}", agent.id);
        std::future::pending::<()>().await;
    });
    ExitCode::SUCCESS
}
