//! A database on a PostgreSQL server, for as many processes as there are.
//!
//! The URL may have a password in it: neither it nor what its parser says about it goes into a message.

use std::{str::FromStr, time::Duration};

use sea_orm::sqlx::{
    ConnectOptions, Connection,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions},
};
use undoo_core::{Kind, Problem, Result};

use crate::failure::driver_failure;

/// Connections of one process, one of which listens. Twice as many made a page of a list a fifth slower under
/// load: they compete for the same cores.
const MOST_CONNECTIONS: u32 = 8;

/// Connects to the server that the URL names.
pub(crate) async fn open(url: &str) -> Result<PgPool> {
    let options = PgConnectOptions::from_str(url).map_err(|_| {
        Problem::new(
            Kind::Invalid,
            "database_url_invalid",
            "the database URL is not one of PostgreSQL",
            "write postgres://USER:PASSWORD@HOST:PORT/DATABASE, with special characters percent-encoded",
        )
    })?;
    let options = options
        .application_name("undoo")
        .options([
            // A process that was stopped in the middle of a transaction must not hold its locks for ever.
            ("idle_in_transaction_session_timeout", "30s"),
            ("statement_timeout", "60s"),
            // All questions are small: compiling one takes longer than answering it.
            ("jit", "off"),
            // So does planning one anew: what is asked for does not depend on the values.
            ("plan_cache_mode", "force_generic_plan"),
        ])
        .disable_statement_logging();
    PgPoolOptions::new()
        .max_connections(MOST_CONNECTIONS)
        .acquire_timeout(Duration::from_secs(10))
        // One that was just used is not asked whether it still works: that would double what a query takes.
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > Duration::from_secs(5) {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_with(options)
        .await
        .map_err(driver_failure)
}
