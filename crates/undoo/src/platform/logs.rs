//! The log: lines for people, or a JSON object a line for programs. It goes to standard error.

use tracing_subscriber::EnvFilter;

use super::config::LogFormat;

/// Starts the log of a command: what `UNDOO_LOG` asks for.
pub fn of_command() {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_env("UNDOO_LOG"))
        .with_writer(std::io::stderr)
        .init();
}

/// Starts the log of the platform. `filter` was checked.
pub fn start(filter: &str, format: LogFormat) {
    let log = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(filter)).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(false).init(),
        // Ids of requests and tasks are fields of the spans around.
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).init(),
    }
}
