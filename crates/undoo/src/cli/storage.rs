//! The commands about places where backups are kept: trying one, and removing what is old.

use clap::{Args, Subcommand};

use super::{KeyArgs, SshArgs, public_key};

/// `undoo prune`
#[derive(Debug, Args)]
pub struct Prune {
    /// The storage, as for `undoo storage test`. Only what is under backups/ORGANISATION/ENVIRONMENT/ is
    /// looked at, each environment by itself, and only backups of Undoo's own are ever removed.
    pub storage: String,
    /// One organisation only.
    #[arg(long, value_name = "ID")]
    pub org: Option<String>,
    /// One environment only.
    #[arg(long, value_name = "ID")]
    pub env: Option<String>,
    /// Keep so many of the newest backups.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub keep_last: u32,
    /// Keep the newest of each of so many days that have one; days, weeks, months and years are those of UTC.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub daily: u32,
    /// The same of weeks, Monday to Sunday.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub weekly: u32,
    /// The same of months.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub monthly: u32,
    /// The same of years.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub yearly: u32,
    /// Keep what is younger: hours (24h), days (7d) or weeks (2w).
    #[arg(long, value_name = "AGE", default_value = "24h", value_parser = hours)]
    pub min_age: u32,
    /// Keep what a restore on this target (docker:CONTAINER or compose:PROJECT) is reading; may be given
    /// several times. A storage does not know who reads from it.
    #[arg(long, value_name = "TARGET")]
    pub target: Vec<String>,
    /// Where the targets are.
    #[command(flatten)]
    pub ssh: SshArgs,
    /// Believe verifications that this public key has signed; those of this machine's own key always are.
    #[arg(long, value_name = "PUBLICKEY", value_parser = public_key)]
    pub trust_key: Vec<String>,
    /// Accept a finding by its code; may be given several times.
    #[arg(long, value_name = "CODE")]
    pub accept: Vec<String>,
    /// What encrypted backups are read with that no believed verification tells of.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Show what would go and what stays, with the reasons, and remove nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Answer yes to the question.
    #[arg(long, short)]
    pub yes: bool,
    /// Print one JSON document instead of a page.
    #[arg(long)]
    pub json: bool,
}

fn hours(text: &str) -> Result<u32, String> {
    let read = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let hours = match unit {
            "h" => 1,
            "d" => 24,
            "w" => 7 * 24,
            _ => return None,
        };
        number.parse::<u32>().ok()?.checked_mul(hours)
    };
    read().ok_or_else(|| "an age is a number and h, d or w, such as 24h or 7d".to_owned())
}

/// `undoo storage`
#[derive(Debug, Args)]
pub struct Storage {
    /// What to do with it.
    #[command(subcommand)]
    pub command: StorageCommand,
}

/// The commands about a storage.
#[derive(Debug, Subcommand)]
pub enum StorageCommand {
    /// Try writing, reading, a range, listing, a signed address and removing, and name what is wrong.
    Test(StorageTest),
}

/// `undoo storage test`
#[derive(Debug, Args)]
pub struct StorageTest {
    /// A folder, s3://BUCKET/PREFIX (with ?lock=compliance:30d behind it, backups are locked), r2://BUCKET/PREFIX?account=ID, b2://BUCKET/PREFIX?region=NAME,
    /// minio://HOST:PORT/BUCKET/PREFIX, ftp://USER@HOST/PATH or sftp://USER@HOST/PATH (a PATH with two
    /// slashes before it begins at the root). Credentials come from the environment: AWS_ACCESS_KEY_ID
    /// and AWS_SECRET_ACCESS_KEY (or R2_..., B2_APPLICATION_KEY..., MINIO_...), FTP_PASSWORD,
    /// SFTP_PASSWORD, SFTP_KEY_FILE, SFTP_HOST_KEY; each may end in _FILE and name a file with the value.
    pub address: String,
    /// Print one JSON document instead of a page.
    #[arg(long)]
    pub json: bool,
}
