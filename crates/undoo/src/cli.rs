//! The command line as people type it. Its help text is its manual.

mod environment;
mod platform;
pub mod remote;
pub mod server;
mod ssh;
mod storage;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use undoo_core::RestoreId;

pub use environment::EnvironmentArgs;
pub use platform::{KeysCommand, PlatformCommand, Serve, SettingsArgs, UsersCommand, Worker};
pub use ssh::SshArgs;
pub use storage::{Prune, Storage, StorageCommand, StorageTest};

/// Restores Odoo instances from backups: beside the live one, proven, swapped in, and undone if wrong.
#[derive(Debug, Parser)]
#[command(name = "undoo", version, about, after_long_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    a defect of undoo itself
  2    the command line could not be understood
  3    the input is broken or not what it should be
  4    refused: hostile input, or findings that nobody accepted
  5    something that was named does not exist
  6    a right or a password is missing
  7    someone else is at work on the same target
  8    a server did not answer, broke off or has no room: trying again may help
  9    the restored system did not prove whole; the live one is as it was
  10   stuck: the message has the command that goes on
  130  cancelled";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what a backup is, what it needs and what is wrong with it, by reading as little as possible.
    Inspect(Inspect),
    /// Restore a backup: load it beside the live system, prove it, then swap it in.
    Restore(Box<Restore>),
    /// Back up a live system: database, files and custom modules, in one ZIP that Odoo itself loads.
    Backup(Box<Backup>),
    /// Bring back what the newest restore replaced; once more, and the restored pair is back.
    Undo(Undo),
    /// Finish a cutover that broke off, in the direction it was going.
    Resume(OnTarget),
    /// Match every attachment with its file and hash every file, of a live system or of a backup.
    Verify(Verify),
    /// Write a backup in another layout: ours, or the one of OEC.SH.
    Convert(Convert),
    /// List the restores of a target and the pairs that are kept for undo.
    List(OnTarget),
    /// Show a restore's signed report, and whether its signature holds.
    Report(Report),
    /// Release the mail and crons that a restore holds.
    Release(OnTarget),
    /// Remove kept pairs whose undo window is over.
    Purge(Purge),
    /// Remove old backups of a storage, by rules; show what goes, and why the others stay.
    Prune(Prune),
    /// Look into a place where backups are kept.
    Storage(Storage),
    /// The platform.
    #[command(flatten)]
    Platform(PlatformCommand),
    /// A server.
    #[command(flatten)]
    Remote(remote::RemoteCommand),
    /// Print what makes a shell complete these commands: source it, or put it where the shell looks.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Carry out one order given as JSON on standard input. Started by undoo itself, in a container.
    #[command(hide = true)]
    Mover,
    /// Carry out one cutover given as JSON on standard input. Started by undoo itself, in a container.
    #[command(hide = true)]
    CutoverAgent,
    /// Forward connections of a container's loopback over standard input and output. Started by undoo itself, in a
    /// container.
    #[command(hide = true)]
    Relay,
}

/// `undoo inspect`
#[derive(Debug, Args)]
pub struct Inspect {
    /// A path, a folder, an http(s):// URL or an s3://BUCKET/KEY URL (a KEY ending in / is a folder).
    /// Credentials for S3 come from the AWS_* environment variables.
    pub backup: String,
    /// What encrypted backups are read with.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Print one JSON document instead of a page.
    #[arg(long)]
    pub json: bool,
}

/// What encrypted backups are read with.
#[derive(Debug, Clone, Default, Args)]
pub struct KeyArgs {
    /// File with an age key (as age-keygen writes it) that an encrypted backup is read with; may be given
    /// several times.
    #[arg(long = "identity", value_name = "FILE", env = "UNDOO_IDENTITY")]
    pub identities: Vec<PathBuf>,
}

/// Where to work.
#[derive(Debug, Clone, Default, Args)]
pub struct TargetArgs {
    /// The machine.
    #[command(flatten)]
    pub ssh: SshArgs,
    /// URL of a PostgreSQL server, for an Odoo without Docker. The database in it is the target. sslmode
    /// and sslrootcert are as in libpq.
    #[arg(
        long,
        value_name = "URL",
        requires = "filestore",
        conflicts_with = "server",
        env = "UNDOO_DATABASE_URL",
        hide_env_values = true
    )]
    pub database_url: Option<String>,
    /// The database's own directory in Odoo's filestore: DATA_DIR/filestore/DATABASE.
    #[arg(long, value_name = "DIR", requires = "database_url")]
    pub filestore: Option<PathBuf>,
    /// Without Docker: command that stops Odoo for the cutover.
    #[arg(long, value_name = "COMMAND", requires = "database_url")]
    pub stop_command: Option<String>,
    /// Without Docker: command that starts Odoo after it.
    #[arg(long, value_name = "COMMAND", requires = "database_url")]
    pub start_command: Option<String>,
    /// Without Docker: where Odoo answers, such as http://localhost:8069; it must, after a cutover.
    #[arg(long, value_name = "URL", requires = "database_url")]
    pub odoo_url: Option<String>,
    /// Name of the database, where the target has several or is to get another one.
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,
}

/// A command about a target.
#[derive(Debug, Args)]
pub struct OnTarget {
    /// docker:CONTAINER (an Odoo container) or compose:PROJECT.
    #[arg(required_unless_present = "database_url")]
    pub target: Option<String>,
    /// Where to work.
    #[command(flatten)]
    pub place: TargetArgs,
    /// Print JSON instead of a page.
    #[arg(long)]
    pub json: bool,
}

/// `undoo restore`
#[derive(Debug, Args)]
#[command(after_long_help = RESTORE_EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Restore {
    /// What to do on a server instead.
    #[command(subcommand)]
    pub command: Option<remote::RestoreCommand>,
    /// A path, a folder, an http(s):// URL or an s3://BUCKET/KEY URL. Its layout is told by content.
    #[arg(required = true)]
    backup: Option<String>,
    /// What encrypted backups are read with.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// docker:CONTAINER (an Odoo container) or compose:PROJECT.
    #[arg(long, value_name = "TARGET", required_unless_present_any = ["database_url", "name"])]
    #[arg(conflicts_with = "EnvironmentArgs")]
    pub into: Option<String>,
    /// Where to work.
    #[command(flatten)]
    pub place: TargetArgs,
    /// Without Docker: role that shall own the restored database, the one that Odoo connects as.
    /// [default: the live database's owner, else the role of the URL]
    #[arg(long, value_name = "ROLE", requires = "database_url")]
    pub owner: Option<String>,
    /// Print the plan with every finding, and touch nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Restore the database only; live files stay.
    #[arg(long, conflicts_with = "filestore_only")]
    pub database_only: bool,
    /// Restore the files only, adding to what is there; nothing is removed.
    #[arg(long)]
    pub filestore_only: bool,
    /// What the restored database is for. Without it: recover when the backup is of this very instance,
    /// else copy; with --new move.
    #[arg(long, value_name = "INTENT")]
    pub intent: Option<Intent>,
    /// Leave a copy able to send mail, run crons and charge cards.
    #[arg(long)]
    pub no_neutralize: bool,
    /// Whether mail that waits and crons that are due are held until `undoo release`. [default: on when
    /// recovering, and with --new but for a copy]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub hold_outgoing: Option<bool>,
    /// Accept a finding by its code; may be given several times.
    #[arg(long, value_name = "CODE")]
    pub accept: Vec<String>,
    /// Take the word of this key for code in the dump: what a backup of ours lists in its manifest, signed
    /// by this key, needs no --accept. Each backup is signed by the key of whoever made it, which `undoo
    /// inspect` shows; the key of this machine's user is always trusted. May be given several times.
    #[arg(long, value_name = "PUBLICKEY", value_parser = public_key)]
    pub trust_key: Vec<String>,
    /// Link live files of the right name and size without hashing them. The report says so.
    #[arg(long)]
    pub trust_size: bool,
    /// What becomes of the live database while the new one is made.
    #[arg(long, value_name = "STRATEGY", default_value = "beside")]
    pub strategy: Strategy,
    /// With --strategy stop-first: the live database's name, to say that it may be dropped for good.
    #[arg(long, value_name = "NAME", required_if_eq("strategy", "stop-first"))]
    pub drop_live: Option<String>,
    /// When Odoo does not answer after the cutover, leave it so instead of swapping back.
    #[arg(long)]
    pub no_auto_rollback: bool,
    /// Go live without booting Odoo on a clone first. The report says so.
    #[arg(long)]
    pub no_boot: bool,
    /// Hours for which the replaced pair is kept.
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    pub undo_window: u32,
    /// Connections that load.  [default: the processors there are, at most 8]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Answer yes to the question before the cutover.
    #[arg(long, short)]
    pub yes: bool,
    /// Print JSON lines of progress, the last one with the report.
    #[arg(long)]
    pub json: bool,
    /// An environment that is made for it. Last, as its heading is over all that follows.
    #[command(flatten)]
    pub new: NewArgs,
}

/// An environment that `undoo restore` makes without a platform.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "A new environment")]
pub struct NewArgs {
    /// Make an environment of this name from the backup alone, on this machine or --server: PostgreSQL, Odoo, their
    /// configuration and the backup's modules. Nobody is let in before it is proven. If that fails, nothing of it
    /// is left.
    #[arg(long = "new", value_name = "NAME", conflicts_with_all = [
        "into", "database_url", "filestore_only", "strategy", "drop_live", "trust_size", "no_auto_rollback",
        "undo_window",
    ])]
    pub name: Option<String>,
    /// What else it is to be.
    #[command(flatten)]
    pub environment: EnvironmentArgs,
}

impl Restore {
    /// The backup, where no server restores it.
    pub fn backup(&self) -> &str {
        self.backup.as_deref().expect("it is required where there is no subcommand")
    }
}

/// A public key as inspection shows it.
fn public_key(text: &str) -> Result<String, String> {
    match text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("a public key has 64 hexadecimal digits".into()),
    }
}

/// Whether the live database waits for the proof, or makes room first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Strategy {
    /// Load beside the live database and swap.
    Beside,
    /// Stop Odoo, drop the live database, then load. For a disk that cannot hold both. Cannot be undone.
    StopFirst,
}

/// What a restored database is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Intent {
    /// The same instance at an earlier time: identity stays, outgoing mail is held.
    Recover,
    /// A second instance: new identity, neutralized.
    Copy,
    /// The same instance in another place; the source does not run any more.
    Move,
}

/// `undoo verify`
#[derive(Debug, Args)]
pub struct Verify {
    /// docker:CONTAINER or compose:PROJECT for a live system; anything else is a backup, as for inspect.
    #[arg(value_name = "TARGET|BACKUP", required_unless_present = "database_url")]
    pub what: Option<String>,
    /// Where to work, for a live system.
    #[command(flatten)]
    pub place: TargetArgs,
    /// What encrypted backups are read with.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Of a backup: how closely to look. [default: deep]
    #[arg(long, value_name = "LEVEL")]
    pub level: Option<VerifyLevel>,
    /// Of a backup: members that are read at the same time.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub jobs: usize,
    /// Print JSON instead of a page.
    #[arg(long)]
    pub json: bool,
}

/// How closely a backup is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VerifyLevel {
    /// Every checksum of the container and of the manifest.
    Checksums,
    /// Also every file against its name, and the dump's attachments against the files.
    Deep,
}

/// `undoo convert`
#[derive(Debug, Args)]
pub struct Convert {
    /// The backup, as for inspect.
    #[arg(value_name = "IN")]
    pub from: String,
    /// The file to write. It must not be there yet.
    #[arg(value_name = "OUT")]
    pub to: PathBuf,
    /// What encrypted backups are read with.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Encrypt to this public age key (age1…); may be given several times. Only Undoo and age can read the
    /// result: Odoo's own database manager cannot load it.
    #[arg(long, value_name = "KEY")]
    pub encrypt_to: Vec<String>,
    /// The layout to write.  [default: oec for a backup of ours, ours for any other]
    #[arg(long, value_name = "LAYOUT")]
    pub layout: Option<ConvertLayout>,
    /// With --layout oec: name of the database, where the backup does not tell it.
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,
    /// How it is compressed.
    #[command(flatten)]
    pub compression: CompressionArgs,
    /// Print JSON instead of a line.
    #[arg(long)]
    pub json: bool,
}

/// A layout that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ConvertLayout {
    /// Ours: a ZIP that Odoo's database manager loads. Takes a plain dump.
    Undoo,
    /// dump.sql, filestore.tar.gz and manifest.json in a ZIP.
    Oec,
}

/// `undoo backup`
#[derive(Debug, Args)]
#[command(after_long_help = BACKUP_EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Backup {
    /// What to do on a server instead.
    #[command(subcommand)]
    pub command: Option<remote::BackupCommand>,
    /// docker:CONTAINER (an Odoo container) or compose:PROJECT.
    #[arg(required_unless_present = "database_url")]
    pub target: Option<String>,
    /// Where to work.
    #[command(flatten)]
    pub place: TargetArgs,
    /// Storage that the backup is kept in: a folder, or an address as `undoo storage test` takes it, with
    /// credentials from the environment. The backup becomes
    /// STORAGE/backups/ORG/ENV/DATABASE_YYYY-MM-DD_HH-MM-SS_ID.zip (UTC), and is there only when it is whole.
    #[arg(long, value_name = "STORAGE", required = true)]
    to: Option<String>,
    /// Whose backup it is.
    #[arg(long, value_name = "ORG", default_value = "local")]
    pub org: String,
    /// Which environment it is of. [default: the database's name]
    #[arg(long, value_name = "ENV")]
    pub env: Option<String>,
    /// Encrypt to this public age key (age1…); may be given several times. Only Undoo and age can read the
    /// result: Odoo's own database manager cannot load it. Its name ends in .zip.age then.
    #[arg(long, value_name = "KEY")]
    pub encrypt_to: Vec<String>,
    /// Back up the pair that this restore keeps aside, instead of the live one. `undoo list` shows the ids.
    #[arg(long, value_name = "RESTORE")]
    pub kept: Option<RestoreId>,
    /// Leave the files out.
    #[arg(long)]
    pub database_only: bool,
    /// Without Docker: folder with custom modules; may be given several times. In Docker they are found.
    #[arg(long, value_name = "DIR", requires = "database_url")]
    pub addons: Vec<PathBuf>,
    /// Without Docker: the pg_dump to use.  [default: the oldest one here that can dump the server]
    #[arg(long, value_name = "PATH", requires = "database_url")]
    pub pg_dump: Option<PathBuf>,
    /// How it is compressed.
    #[command(flatten)]
    pub compression: CompressionArgs,
    /// Print JSON lines of progress, the last one with what was made.
    #[arg(long)]
    pub json: bool,
}

impl Backup {
    /// The storage, where no server makes the backup.
    pub fn to(&self) -> &str {
        self.to.as_deref().expect("it is required where there is no subcommand")
    }
}

/// How a backup that is written is compressed.
#[derive(Debug, Args)]
pub struct CompressionArgs {
    /// Compression, from 1 (quick) to 9 (small); 0 stores everything as it is.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u8).range(0..=9))]
    pub level: u8,
    /// Threads that compress.  [default: the processors there are, at most 8]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
}

impl CompressionArgs {
    /// Threads that compress, on a machine with so many processors; `None`: on this one.
    pub fn threads(&self, processors: Option<usize>) -> usize {
        self.jobs.unwrap_or_else(|| crate::work::backup::threads(processors))
    }
}

const RESTORE_EXAMPLES: &str = "\
Examples:
  undoo restore acme.zip --into docker:acme_odoo --dry-run
  undoo restore s3://acme-backups/backups/…/acme_….zip --into docker:acme_odoo
  undoo restore s3://acme-backups/backups/…/acme_….zip --new acme --server ssh://root@10.0.0.9 --http-port 8069";

const BACKUP_EXAMPLES: &str = "\
Odoo goes on meanwhile. Nothing is written to a temporary file. When it is done, the backup was read back
from the storage and is what was written.

Examples:
  undoo backup docker:acme_odoo --to /srv/backups
  undoo backup compose:acme --to s3://acme-backups --env production
  undoo backup docker:acme_odoo --server ssh://deploy@10.0.0.7 --to s3://acme-backups
  undoo restore /srv/backups/backups/local/acme/acme_2026-01-31_02-00-00_4f0c9a7be21d.zip --into docker:acme_odoo";

/// `undoo undo`
#[derive(Debug, Args)]
pub struct Undo {
    /// Where.
    #[command(flatten)]
    pub on: OnTarget,
    /// Show what would come back and what was written since, and touch nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Answer yes to the question.
    #[arg(long, short)]
    pub yes: bool,
}

/// `undoo report`
#[derive(Debug, Args)]
pub struct Report {
    /// Where.
    #[command(flatten)]
    pub on: OnTarget,
    /// One restore's report instead of the newest one's.
    #[arg(long, value_name = "ID")]
    pub restore: Option<String>,
}

/// `undoo purge`
#[derive(Debug, Args)]
pub struct Purge {
    /// Where.
    #[command(flatten)]
    pub on: OnTarget,
    /// One restore's kept pair, whatever its window.
    #[arg(long, value_name = "ID")]
    pub restore: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_from_its_backup_alone_has_no_target_and_nothing_to_replace() {
        let parsed = |words: &str| {
            let line = format!("undoo restore b.zip {words}");
            Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command)
        };
        let line = "--new acme --server ssh://root@h --host-key SHA256:x --domain erp.example.com --http-port 8069 \
                    --odoo-image odoo:19.0 --conf workers=2 --intent copy --database erp --dry-run";
        let Ok(Command::Restore(restore)) = parsed(line) else { panic!() };
        assert_eq!((restore.new.name.as_deref(), restore.into.as_deref()), (Some("acme"), None));
        let new = &restore.new.environment;
        assert_eq!((new.http_port, new.odoo_image.as_deref()), (Some(8069), Some("odoo:19.0")));
        assert_eq!(restore.place.database.as_deref(), Some("erp"));
        for wrong in [
            "--into docker:o",
            "--filestore-only",
            "--strategy stop-first --drop-live acme",
            "--strategy beside",
            "--database-url postgresql://h/d --filestore /srv",
            "--undo-window 2",
            "--http-port 0",
            "--conf workers",
        ] {
            assert!(parsed(&format!("--new acme {wrong}")).is_err(), "{wrong}");
        }
        for alone in ["--domain erp.example.com", "--odoo-image odoo:19.0"] {
            assert!(parsed(&format!("--into docker:o {alone}")).is_err(), "{alone}");
        }
        assert!(parsed("").is_err(), "it says where to");
    }

    #[test]
    fn what_is_trusted_has_to_be_a_public_key() {
        for command in ["undoo prune /srv", "undoo restore b.zip --into docker:odoo"] {
            let parsed = |key: &str| Cli::try_parse_from(command.split(' ').chain(["--trust-key", key]));
            assert!(parsed(&"0A".repeat(32)).is_ok(), "{command}");
            for wrong in ["0A", &"zz".repeat(32), "signing.key"] {
                assert!(parsed(wrong).is_err(), "{command} {wrong}");
            }
        }
    }
}
