//! `undoo users`: what an operator does about accounts, by the database alone.
//!
//! Nothing is made that was not there: a wrong folder must not become a second, empty platform.

use undoo_core::{Kind, Problem, Result};
use undoo_server::LinkTo;

use super::{
    config::{Config, Database},
    control, keys, print, store,
};

/// `undoo users reset`
pub(super) async fn reset(config: &Config, email: &str) -> Result<()> {
    if let Database::Sqlite(path) = &config.database
        && !path.exists()
    {
        return Err(Problem::new(
            Kind::Missing,
            "no_platform",
            format!("there is no platform in {}", path.display()),
            "give its --data-dir, --database-url or --config, as `undoo serve` has it",
        ));
    }
    let keys = keys(config).await?;
    let link = control(config, store(config).await?, keys.sealer()).user_invite_here(email).await?;
    let url = LinkTo::Account.url(&config.url(config.listen), &link.token);
    print(&format!(
        "{} chooses a new password, within {} hours and once, by\n\n    {url}\n\n",
        link.email, config.link_hours
    ))
}
