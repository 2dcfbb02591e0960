//! What an environment is to be that a restore makes: the same words whether a platform makes it or this machine.

use clap::Args;

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
}

fn option_of_conf(text: &str) -> Result<(String, String), String> {
    let (option, value) = text.split_once('=').ok_or("write OPTION=VALUE, such as workers=2")?;
    Ok((option.trim().to_owned(), value.trim().to_owned()))
}
