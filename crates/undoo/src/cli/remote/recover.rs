//! `undoo recover`: environments come back after servers were lost.

use clap::Args;
use jiff::Timestamp;
use undoo_core::RecoveryPlanId;

use super::ServerArgs;

/// `undoo recover`
#[derive(Debug, Args)]
#[command(after_long_help = NOTES)]
pub struct Recover {
    /// Servers that were lost, by their names or ids; every environment on them is recovered.
    #[arg(value_name = "SERVER", required_unless_present_any = ["environment", "plan"])]
    pub lost: Vec<String>,
    /// An environment that is recovered besides: its id, PROJECT/NAME, or NAME where it is the only one. May be
    /// given several times.
    #[arg(long, value_name = "ENVIRONMENT")]
    pub environment: Vec<String>,
    /// A server that may be used, by its name or id. May be given several times. [default: all that answer and are
    /// not draining]
    #[arg(long, value_name = "SERVER")]
    pub to: Vec<String>,
    /// An environment that comes back from its newest backup although nobody has read it back. May be given
    /// several times.
    #[arg(long, value_name = "ENVIRONMENT")]
    pub accept_unverified: Vec<String>,
    /// When it happened, such as 2026-11-22T14:30:00Z. [default: when a lost server stopped to answer, else now]
    #[arg(long, value_name = "TIME")]
    pub lost_at: Option<Timestamp>,
    /// Go on with a plan that was made before, or show how far it is.
    #[arg(long, value_name = "ID", conflicts_with_all = ["lost", "environment", "to", "accept_unverified", "lost_at"])]
    pub plan: Option<RecoveryPlanId>,
    /// Only show the plan; nothing is begun.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// Come back as soon as the restores are queued, instead of showing how they go on.
    #[arg(long)]
    pub no_watch: bool,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

const NOTES: &str = "\
Nothing is touched before the plan was shown and somebody has said yes. Production comes back first, then staging,
then development, each from its newest backup that was read back, on the server that has the most memory left. What
cannot come back is in the plan, with the reason.

What was lost keeps its entry under another name; its successor takes name, domain and limits. Mail and crons of a
production are held until `undoo restore release`.

The same command with --plan ID goes on after an interruption, and tries again what failed.";
