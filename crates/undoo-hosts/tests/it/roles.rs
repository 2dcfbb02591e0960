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
        "keep-mover" => keep_mover(rest),
        other => panic!("unknown role {other} {rest:?}"),
    }
}

fn reaches_docker() -> bool {
    std::os::unix::net::UnixStream::connect(undoo_hosts::agent::SOCKET).is_ok()
}

/// Answers each order with what it got; for the first one tells what it may do, on the word `end` it ends.
fn tell() -> ExitCode {
    for (number, order) in std::io::stdin().lines().map_while(Result::ok).enumerate() {
        println!("order of {} bytes", order.len());
        if number == 0 {
            tell_rights();
        }
        if order == "end" {
            for _ in 0..3000 {
                eprintln!("a line of thirty two characters.");
            }
            eprintln!("the last words");
            return ExitCode::from(7);
        }
        println!("answered");
    }
    println!("nobody asks any more");
    ExitCode::SUCCESS
}

fn tell_rights() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    for line in status.lines().filter(|line| line.starts_with("CapEff") || line.starts_with("NoNewPrivs")) {
        println!("{line}");
    }
    for path in ["/file", "/undoo/file", "/var/lib/postgresql/data/file", "/shared/file"] {
        println!("write {path} {}", std::fs::write(path, "x").is_ok());
    }
    println!("socket {}", reaches_docker());
}

/// On the host: starts a mover that answers, tells its id, and then does nothing until it is killed.
fn keep_mover(rest: &[String]) -> ExitCode {
    let [volume, task] = rest else { panic!("two words are needed") };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let docker = undoo_hosts::Docker::connect(Default::default()).await.unwrap();
        let labels = undoo_hosts::Labels::new(task, 1);
        let spec = undoo_hosts::mover::MoverSpec::new("postgres:15", &["play", "tell"], labels);
        let mut mover = undoo_hosts::mover::Mover::start(&docker, &spec, volume).await.unwrap();
        let answered = |line: &str| match line {
            "answered" => std::ops::ControlFlow::Break(()),
            _ => std::ops::ControlFlow::Continue(()),
        };
        mover.order(b"one", answered).await.unwrap();
        println!("ready");
        std::future::pending::<()>().await;
    });
    ExitCode::SUCCESS
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
