//! What an environment is to be that a restore makes: the same words whether a platform makes it or this machine.

use std::path::PathBuf;

use clap::Args;
use undoo_core::{Result, platform::AddonsSource};

use crate::git_credentials;

/// An environment that a restore makes, besides its name.
#[derive(Debug, Clone, Default, Args)]
pub struct EnvironmentArgs {
    /// Where its users are to find it: what a Traefik on the server is told. [default: nowhere]
    #[arg(long, value_name = "HOST", requires = "name")]
    pub domain: Option<String>,
    /// A port of the server at which it is to be found as well, for a server without Traefik.
    #[arg(long, value_name = "PORT", requires = "name", value_parser = clap::value_parser!(u16).range(1..))]
    pub http_port: Option<u16>,
    /// Odoo's image. [default: the backup's]
    #[arg(long, value_name = "IMAGE", requires = "name")]
    pub odoo_image: Option<String>,
    /// PostgreSQL's image. [default: the backup's, or one of its major version]
    #[arg(long, value_name = "IMAGE", requires = "name")]
    pub postgres_image: Option<String>,
    /// An option of its odoo.conf, such as workers=2; may be given several times.
    #[arg(long, value_name = "OPTION=VALUE", requires = "name", value_parser = option_of_conf)]
    pub conf: Vec<(String, String)>,
    /// A git repository with custom modules, fetched by HTTPS: they go before the backup's. REFERENCE is a branch, a
    /// tag or a whole commit. [default: its default branch] May be given several times.
    #[arg(long, value_name = "URL[#REFERENCE]", requires = "name")]
    pub addons: Vec<String>,
    /// File with what opens these repositories, in lines https://USER:TOKEN@HOST, as git's own credential store
    /// keeps them.
    #[arg(long, value_name = "FILE", requires = "addons")]
    pub git_credentials: Option<PathBuf>,
}

impl EnvironmentArgs {
    /// The git repositories, each with what opens it.
    ///
    /// # Errors
    /// As [`git_credentials::sources`].
    pub fn sources(&self) -> Result<Vec<AddonsSource>> {
        git_credentials::sources(&self.addons, self.git_credentials.as_deref())
    }
}

fn option_of_conf(text: &str) -> std::result::Result<(String, String), String> {
    let (option, value) = text.split_once('=').ok_or("write OPTION=VALUE, such as workers=2")?;
    Ok((option.trim().to_owned(), value.trim().to_owned()))
}
