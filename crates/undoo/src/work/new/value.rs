//! The environment that a backup says it came from, as a deployment: by what is in the backup and on the command
//! line, and nothing else.
//!
//! A manifest is a claim, and an environment that was lost has nobody who would know better. So what it says of
//! images, limits and options is taken, options only where they are known to say how Odoo runs; the command line
//! goes before it. Nothing here touches a server.

use std::collections::BTreeMap;

use serde_json::json;
use undoo_archive::manifest::ours;
use undoo_core::{
    EnvironmentId, Finding, Kind, Problem, Result,
    platform::{
        Deployment, Limits, Names, Passwords,
        deployment::{ADDONS, IMAGE_ADDONS, PREFIX},
        images,
    },
};
use undoo_engine::pg::random_password;
use undoo_hosts::target::ConfFile;

/// Code of the finding about images whose namer is not known. It can be accepted.
const IMAGES_UNTRUSTED: &str = "images_untrusted";
/// Code of the finding about options that are not taken over.
const CONF_LEFT_OUT: &str = "conf_left_out";
/// What a value was in a backup's `odoo.conf` that is secret.
const SECRET: &str = "***";
/// Options that say how Odoo runs, and nothing of where it ran.
const TAKEN: [&str; 34] = [
    "csv_internal_sep",
    "db_maxconn",
    "db_maxconn_gevent",
    "email_from",
    "from_filter",
    "gevent_port",
    "limit_memory_hard",
    "limit_memory_hard_gevent",
    "limit_memory_soft",
    "limit_memory_soft_gevent",
    "limit_request",
    "limit_time_cpu",
    "limit_time_real",
    "limit_time_real_cron",
    "limit_time_worker_cron",
    "log_handler",
    "log_level",
    "longpolling_port",
    "max_cron_threads",
    "osv_memory_age_limit",
    "osv_memory_count_limit",
    "reportgz",
    "server_wide_modules",
    "smtp_port",
    "smtp_server",
    "smtp_ssl",
    "smtp_user",
    "transient_age_limit",
    "transient_count_limit",
    "unaccent",
    "websocket_keep_alive_timeout",
    "websocket_rate_limit_burst",
    "websocket_rate_limit_delay",
    "workers",
];
/// Options that every environment has of its own, or that say nothing any more.
const PASSED_OVER: [&str; 10] = [
    "addons_path",
    "db_sslmode",
    "db_template",
    "http_enable",
    "logfile",
    "proxy_mode",
    "without_demo",
    "xmlrpc",
    "xmlrpc_interface",
    "xmlrpc_port",
];
const MIB: u64 = 1 << 20;
/// An environment gets at least so much memory, in MiB: Odoo and PostgreSQL do not live in less.
const LEAST_MEMORY: u32 = 512;

/// What a backup says of where it came from.
#[derive(Debug, Default)]
pub struct Told<'a> {
    /// What our own manifest says; `None` for the backups of others.
    pub environment: Option<&'a ours::Environment>,
    /// Whether a key that is trusted has signed that.
    pub is_trusted: bool,
    /// Odoo's version by any manifest, such as `19.0`.
    pub odoo_version: Option<&'a str>,
    /// Version of the PostgreSQL that was dumped.
    pub postgres_version: Option<&'a str>,
}

/// What somebody asks for.
#[derive(Debug, Default)]
pub struct Words<'a> {
    /// What the environment is to be called.
    pub name: &'a str,
    /// What its database is to be called; else as the environment.
    pub database: Option<&'a str>,
    /// The host name at which it is to be found.
    pub domain: Option<&'a str>,
    /// A port of the server at which it is to be found.
    pub http_port: Option<u16>,
    /// Odoo's image, instead of the backup's.
    pub odoo_image: Option<&'a str>,
    /// PostgreSQL's image, instead of the backup's.
    pub postgres_image: Option<&'a str>,
    /// Options of `odoo.conf`, before the backup's.
    pub conf: &'a [(String, String)],
}

/// The environment as it is to be on a server with so many cores, with an id and passwords made here; and what of
/// the old one it does not have.
///
/// # Errors
/// `odoo_unknown` where nothing says which Odoo it is; `deployment_invalid`.
pub fn deployment(
    told: &Told<'_>,
    words: &Words<'_>,
    cores: Option<u64>,
) -> Result<(Deployment, Vec<Finding>)> {
    let unsaid = ours::Environment::default();
    let environment = told.environment.unwrap_or(&unsaid);
    let mut snapshot = json!(environment);
    // The exact version in a manifest of ours may be a day's build, and other manifests have the series only.
    if images::odoo_version(Some(&snapshot)).is_none() {
        snapshot["odoo_version"] = json!(told.odoo_version);
    }
    if environment.postgres_version.is_none() {
        snapshot["postgres_version"] = json!(told.postgres_version);
    }
    let version = images::odoo_version(Some(&snapshot));
    if words.odoo_image.is_none() && environment.odoo_image.is_none() && version.is_none() {
        return Err(unknown());
    }
    let image = |named: Option<&str>, found: String| named.map_or(found, str::to_owned);
    let names = Names::new(PREFIX, EnvironmentId::generate()).called(words.name);
    let mut deployment = Deployment::new(
        names,
        image(words.odoo_image, images::odoo_image(Some(&snapshot))),
        image(words.postgres_image, images::postgres_image(images::POSTGRES, Some(&snapshot))),
        Passwords { role: random_password()?, master: random_password()? },
    );
    if let Some(database) = words.database {
        deployment.database = database.to_owned();
    }
    deployment.odoo_version = version;
    deployment.domain = words.domain.map(str::to_owned);
    deployment.http_port = words.http_port;
    deployment.limits = limits(&environment.resources, cores);
    let (options, left_out) = conf(environment.odoo_conf.as_deref().unwrap_or_default());
    deployment.odoo_conf = options;
    deployment.odoo_conf.extend(words.conf.iter().cloned());
    deployment.check()?;
    let left_out: Vec<String> =
        left_out.into_iter().filter(|option| !deployment.odoo_conf.contains_key(option)).collect();
    let mut findings = not_taken(&left_out);
    let theirs = [
        words.odoo_image.is_none().then_some(&deployment.odoo_image),
        words.postgres_image.is_none().then_some(&deployment.postgres_image),
    ];
    if !told.is_trusted {
        findings.extend(untrusted(theirs.into_iter().flatten()));
    }
    Ok((deployment, findings))
}

/// An image is code that would be run, and whoever made the backup may name any. The official ones are known.
fn untrusted<'a>(images: impl Iterator<Item = &'a String>) -> Option<Finding> {
    let is_official = |image: &str| {
        let name = image.split([':', '@']).next().unwrap_or_default();
        ["odoo", "postgres"].contains(&name)
    };
    let unknown: Vec<&str> = images.map(String::as_str).filter(|image| !is_official(image)).collect();
    (!unknown.is_empty()).then(|| {
        let images = unknown.join(", ");
        Finding::needs_acceptance(
            IMAGES_UNTRUSTED,
            format!("the backup names images that would be run, and no key that is trusted has signed it: {images}"),
            "Look whether they are yours; or name others with --odoo-image and --postgres-image.",
        )
    })
}

/// The limits of both containers together, and no more cores than there are: the engine would refuse them.
fn limits(resources: &ours::Resources, cores: Option<u64>) -> Limits {
    // A quarter is PostgreSQL's; see `Deployment::database_memory`.
    let memory = match (resources.odoo_memory, resources.postgres_memory) {
        (Some(odoo), Some(postgres)) => Some(odoo.saturating_add(postgres)),
        (Some(odoo), None) => Some(odoo.saturating_add(odoo / 3)),
        (None, _) => None,
    };
    let nano_cpus = resources.odoo_nano_cpus.max(resources.postgres_nano_cpus);
    let wanted = nano_cpus.map(|nano| nano.div_ceil(1_000_000_000)).filter(|wanted| *wanted > 0);
    let number = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    Limits {
        cpu_cores: wanted.map(|wanted| number(wanted.min(cores.unwrap_or(wanted)).max(1))),
        ram_mb: memory.map(|bytes| number(bytes / MIB).max(LEAST_MEMORY)),
    }
}

/// Options of a backup's `odoo.conf` that are taken over, and names of those that are not.
fn conf(text: &str) -> (BTreeMap<String, String>, Vec<String>) {
    // What Odoo itself would not read says nothing.
    let file = ConfFile::parse(text).unwrap_or_default();
    let (mut taken, mut left_out) = (BTreeMap::new(), Vec::new());
    for (option, value) in file.options() {
        let plain = !value.contains(['\n', '\r', '\0']) && value != SECRET;
        if TAKEN.contains(&option) && plain {
            taken.insert(option.to_owned(), value.to_owned());
        } else if !Deployment::is_own(option) && !PASSED_OVER.contains(&option) {
            left_out.push(option.to_owned());
        }
    }
    if let Some(path) = file.get("addons_path") {
        taken.extend(addons_path(path).map(|path| ("addons_path".to_owned(), path)));
    }
    (taken, left_out)
}

/// Folders of modules that an image may have of its own are looked into, too: after the backup's modules, which
/// may be what was there. Odoo passes over what does not exist.
fn addons_path(old: &str) -> Option<String> {
    let is_plain = |path: &&str| path.starts_with('/') && path.chars().all(|c| !c.is_control());
    let own = [ADDONS, IMAGE_ADDONS];
    let others = old.split([',', '\n']).map(str::trim).filter(is_plain).filter(|path| !own.contains(path));
    let others: Vec<&str> = others.collect();
    (!others.is_empty()).then(|| [&own[..1], &others, &own[1..]].concat().join(","))
}

fn not_taken(options: &[String]) -> Vec<Finding> {
    if options.is_empty() {
        return Vec::new();
    }
    let message = format!("options of the backup's odoo.conf are not taken over: {}", options.join(", "));
    let remedy = "Give those that it needs with --conf OPTION=VALUE. Secrets are not in a backup: write them into \
                  odoo.conf on the server afterwards, and restart Odoo.";
    vec![Finding::warning(CONF_LEFT_OUT, message, remedy)]
}

fn unknown() -> Problem {
    Problem::new(
        Kind::Invalid,
        "odoo_unknown",
        "nothing in the backup says which Odoo it is of",
        "Name its image, such as --odoo-image odoo:17.0.",
    )
}

#[cfg(test)]
mod tests;
