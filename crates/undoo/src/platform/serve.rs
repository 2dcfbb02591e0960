//! `undoo serve`: the API, a worker inside, and the end of both.
//!
//! At the first signal no request is taken any more, and tasks are handed back; a second one ends the process
//! as it is, which loses nothing: what it was about is found by whoever comes next.

use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;
use undoo_control::Control;
use undoo_core::Result;
use undoo_server::{LinkTo, Settings};

use super::{config::Config, control, keys, print, store, worker};

pub(super) async fn run(config: &Config) -> Result<()> {
    let keys = keys(config).await?;
    let store = store(config).await?;
    for name in store.migrate().await? {
        tracing::info!(name, "the database was migrated");
    }
    let control = control(config, store, keys.sealer());
    let listener = worker::listen(config.listen).await?;
    // Where any port is asked for, the one that was found.
    let address = listener.local_addr().unwrap_or(config.listen);
    let url = config.url(address);
    first_start(config, &control, &url).await?;
    tracing::info!(%address, url, worker = config.worker, "serving");

    let stop = CancellationToken::new();
    let settings = Settings { public_url: config.public_url.clone(), stop: stop.clone() };
    let router = undoo_server::router(control.clone(), settings);
    let serving = async {
        let served = undoo_server::serve(listener, router, stop.clone()).await;
        // A platform that nobody reaches any more does not go on working.
        stop.cancel();
        served
    };
    let working = async {
        if config.worker {
            worker::work(config, control.clone(), stop.clone()).await;
        }
    };
    let both = async { tokio::join!(serving, working).0 };
    worker::until_told(both, &stop).await
}

/// While nobody can sign in, the way in is printed. It is no part of the log, which others may read.
async fn first_start(config: &Config, control: &Control, url: &str) -> Result<()> {
    let Some(token) = control.first_start().await? else { return Ok(()) };
    let (page, token) = (LinkTo::Setup.url(url, &token), token.expose_secret());
    print(&format!(
        "This platform has no user yet. Its first one, within {} hours and once, comes in by\n\n    \
         {page}\n\n\
         or without a browser by\n\n    \
         curl {url}/api/v1/auth/setup --json '{{\"token\": \"{token}\", \"email\": \"\", \"name\": \"\", \
         \"password\": \"\", \"organization_name\": \"\"}}'\n\n",
        config.link_hours
    ))
}
