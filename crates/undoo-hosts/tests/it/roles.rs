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
        other => panic!("unknown role {other} {rest:?}"),
    }
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
    println!("socket {}", std::path::Path::new("/var/run/docker.sock").exists());
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
