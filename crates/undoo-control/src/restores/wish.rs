//! What somebody wants restored, and what of it makes sense: decided on values, before anything is asked of a
//! target.
//!
//! The source document's first version of the request is its second with defaults, so there is one wish.

use serde::{Deserialize, Serialize};
use undoo_core::{
    BackupId, EnvironmentId, Finding, Kind, Problem, Result, ServerId,
    platform::{AddonsSource, Backup, Environment, EnvironmentStatus, EnvironmentType, RestoreMode},
};
use undoo_engine::order::{Intent, Parts, Strategy};

use crate::{control::invalid, deployments::DeploymentWish};

/// How long a replaced pair is kept when nobody says, in hours.
const UNDO_WINDOW_HOURS: u32 = 24;
/// The longest that one is kept, in hours: thirty days.
const MOST_UNDO_WINDOW_HOURS: u32 = 720;
/// Findings that can be accepted at the same time.
const MOST_ACCEPTED: usize = 10_000;

/// An environment that is to be made for a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEnvironment {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub environment_type: EnvironmentType,
    /// The server that it is to be on; `None` for the one that the backup's environment is on.
    pub server_id: Option<ServerId>,
    /// Where its users find it.
    pub domain: Option<String>,
    /// Odoo's image; `None` for the backup's.
    pub odoo_image: Option<String>,
    /// What else is asked for of its deployment.
    pub deployment: DeploymentWish,
    /// Git repositories that its custom modules come from, before those of the backup.
    pub addons: Vec<AddonsSource>,
}

/// Where a restore goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Goal {
    /// To an environment that is there.
    There(EnvironmentId),
    /// To one that is made for it.
    New(NewEnvironment),
}

/// A restore that is asked for.
#[derive(Debug, Clone)]
pub struct RestoreWish {
    /// What is restored.
    pub backup_id: BackupId,
    /// Where it goes; `None` to tell by the target.
    pub mode: Option<RestoreMode>,
    /// The environment that it goes to, where that is not the one it came from.
    pub target_environment_id: Option<EnvironmentId>,
    /// The environment that is to be made.
    pub new_environment: Option<NewEnvironment>,
    /// Whether what is live is backed up first.
    pub create_pre_restore_backup: bool,
    /// If that backup cannot be made: whether the replaced pair, as it is, counts instead.
    pub keep_raw_pair_instead: bool,
    /// Whether the files are restored.
    pub include_filestore: bool,
    /// Whether the database is.
    pub include_database: bool,
    /// What it is for; `None` for what fits the mode.
    pub intent: Option<Intent>,
    /// Whether the restored system is made harmless; `None` for all but the one that the backup came from.
    pub neutralize: Option<bool>,
    /// Whether mails and crons that are due are held; `None` for production that comes back in its place.
    pub hold_outgoing: Option<bool>,
    /// Codes of findings that somebody has accepted.
    pub accept: Vec<String>,
    /// Whether the live system waits for the proof, or makes room first.
    pub strategy: Strategy,
    /// Whether an unhealthy Odoo brings back what was live.
    pub auto_rollback: bool,
    /// How long the replaced pair is kept.
    pub undo_window_hours: Option<u32>,
}

impl RestoreWish {
    /// A restore of this backup to where it came from, with every default.
    pub fn of(backup_id: BackupId) -> Self {
        Self {
            backup_id,
            mode: None,
            target_environment_id: None,
            new_environment: None,
            create_pre_restore_backup: true,
            keep_raw_pair_instead: false,
            include_filestore: true,
            include_database: true,
            intent: None,
            neutralize: None,
            hold_outgoing: None,
            accept: Vec::new(),
            strategy: Strategy::Beside,
            auto_rollback: true,
            undo_window_hours: None,
        }
    }

    /// Where it goes.
    ///
    /// # Errors
    /// `new_environment_needed`, `server_needed`, `target_needed`, `target_contradicts_mode`, `database_needed`,
    /// `strategy_needs_live` (`Invalid`).
    pub(crate) fn goal(&self, backup: &Backup) -> Result<(RestoreMode, Goal)> {
        let source = backup.environment_id;
        let wanted = self.target_environment_id;
        let told = || match wanted {
            Some(target) if target != source => RestoreMode::Existing,
            _ => RestoreMode::Original,
        };
        let mode = self.mode.unwrap_or_else(told);
        match (mode, wanted) {
            (RestoreMode::New | RestoreMode::CrossServer, None) => {
                Ok((mode, Goal::New(self.new_goal(mode)?)))
            }
            (RestoreMode::New | RestoreMode::CrossServer, Some(_)) => Err(invalid(
                "target_contradicts_mode",
                format!("mode {mode} makes an environment, and one that exists is named"),
                "Leave the environment out, or use mode existing.",
            )),
            (RestoreMode::Original, Some(target)) if target != source => Err(invalid(
                "target_contradicts_mode",
                "mode original restores to the environment that the backup came from, and another one is named",
                "Leave the environment out, or use mode existing.",
            )),
            (RestoreMode::Original, _) => Ok((mode, Goal::There(source))),
            (RestoreMode::Existing, Some(target)) => Ok((mode, Goal::There(target))),
            (RestoreMode::Existing, None) => Err(invalid(
                "target_needed",
                "mode existing needs the environment to restore to",
                "Name it: `target.environment_id`.",
            )),
        }
    }

    /// The environment that is to be made, where that makes sense.
    fn new_goal(&self, mode: RestoreMode) -> Result<NewEnvironment> {
        let new = self.new_environment.clone().ok_or_else(|| {
            let message = format!("mode {mode} needs to know what the new environment is to be");
            invalid("new_environment_needed", message, "Describe it: `target.new_environment`.")
        })?;
        if mode == RestoreMode::CrossServer && new.server_id.is_none() {
            let message = "mode cross_server needs the server to restore to";
            return Err(invalid("server_needed", message, "Name it: `target.new_environment.server_id`."));
        }
        if !self.include_database {
            let message = "a new environment has no database yet, and none is to be restored";
            return Err(invalid("database_needed", message, "Include the database."));
        }
        if self.strategy != Strategy::Beside {
            let message = "a new environment has nothing live that could make room";
            return Err(invalid("strategy_needs_live", message, "Leave the strategy out."));
        }
        Ok(new)
    }

    /// What will be done, with every default filled in.
    ///
    /// # Errors
    /// `cross_project`, `no_server`, `nothing_to_restore`, `undo_window_invalid`, `confirmation_missing`,
    /// `safety_backup_needed`, `backup_not_completed` (`Invalid`); `not_found` for a target that was deleted.
    pub(crate) fn settle(
        &self,
        backup: &Backup,
        source: &Environment,
        target: &Environment,
    ) -> Result<Settled> {
        crate::backups::completed(backup)?;
        self.check_target(source, target)?;
        let parts = match (self.include_database, self.include_filestore) {
            (true, true) => Parts::All,
            (true, false) => Parts::Database,
            (false, true) => Parts::Filestore,
            (false, false) => {
                let message = "neither the database nor the files are to be restored";
                return Err(invalid("nothing_to_restore", message, "Include one of them, or both."));
            }
        };
        if parts == Parts::Filestore && !backup.include_filestore {
            let message = format!("backup {} has no files", backup.id);
            return Err(invalid("no_filestore", message, "Choose a backup that has."));
        }
        let hours = self.undo_window_hours.unwrap_or(UNDO_WINDOW_HOURS);
        if !(1..=MOST_UNDO_WINDOW_HOURS).contains(&hours) {
            let message = format!("a replaced pair cannot be kept for {hours} hours");
            return Err(invalid("undo_window_invalid", message, "Ask for 1 to 720 hours."));
        }
        if self.accept.len() > MOST_ACCEPTED || self.accept.iter().any(|code| code.len() > 200) {
            let message = "too many findings are accepted, or one has too long a code";
            return Err(invalid("accept_invalid", message, "Accept the codes that the plan shows."));
        }
        self.check_strategy(target)?;
        let in_place = source.id == target.id;
        let production = target.environment_type == EnvironmentType::Production;
        let intent = self.intent.unwrap_or(if in_place { Intent::Recover } else { Intent::Copy });
        Ok(Settled {
            parts,
            intent,
            neutralize: self.neutralize.unwrap_or(!in_place),
            hold_outgoing: self.hold_outgoing.unwrap_or(in_place && production),
            accept: self.accept.clone(),
            strategy: self.strategy.clone(),
            auto_rollback: self.auto_rollback,
            undo_window_hours: hours,
            // Where nothing is live, nothing can be saved.
            safety_backup: match (
                self.create_pre_restore_backup && self.new_environment.is_none(),
                self.keep_raw_pair_instead,
            ) {
                (false, _) => SafetyBackup::None,
                (true, false) => SafetyBackup::Needed,
                (true, true) => SafetyBackup::OrRawPair,
            },
            final_backup: None,
        })
    }

    fn check_target(&self, source: &Environment, target: &Environment) -> Result<()> {
        if source.project_id != target.project_id {
            return Err(invalid(
                "cross_project",
                format!("environment \"{}\" belongs to another project than the backup", target.name),
                "Restore across projects is not supported: choose an environment of the backup's project.",
            ));
        }
        if target.deleted_at.is_some() {
            let message = format!("environment \"{}\" was deleted", target.name);
            return Err(Problem::new(Kind::Missing, "not_found", message, "Choose another environment."));
        }
        crate::environments::place_of(target)?;
        Ok(())
    }

    fn check_strategy(&self, target: &Environment) -> Result<()> {
        let Strategy::StopFirst { confirmed } = &self.strategy else { return Ok(()) };
        if target.database_name.as_deref() != Some(confirmed) {
            return Err(invalid(
                "confirmation_missing",
                "to make room, the live database would be dropped first, and its name was not confirmed",
                "Give the database's name as `strategy.confirmed`, or leave the strategy out.",
            ));
        }
        if !self.create_pre_restore_backup || self.keep_raw_pair_instead {
            return Err(invalid(
                "safety_backup_needed",
                "what is dropped first can only come back from a safety backup",
                "Leave `create_pre_restore_backup` on and `keep_raw_pair_instead` off.",
            ));
        }
        Ok(())
    }
}

/// Whether what is live has to be in a backup before anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SafetyBackup {
    /// It was not asked for.
    None,
    /// Without it, nothing is restored.
    Needed,
    /// If it cannot be made, the replaced pair counts.
    OrRawPair,
}

/// A wish with every default filled in: what a restore point keeps as its options.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Settled {
    pub parts: Parts,
    pub intent: Intent,
    pub neutralize: bool,
    pub hold_outgoing: bool,
    pub accept: Vec<String>,
    pub strategy: Strategy,
    pub auto_rollback: bool,
    pub undo_window_hours: u32,
    pub safety_backup: SafetyBackup,
    /// The backup of the replaced pair as it was at the cutover, once it was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_backup: Option<BackupId>,
}

/// What there is to say of a backup and a target by what is known of them; nothing of it stops a restore.
pub(crate) fn findings(backup: &Backup, target: &Environment, settled: &Settled) -> Vec<Finding> {
    let mut findings = Vec::new();
    let snapshot = backup.environment_snapshot.as_ref();
    let of_backup = snapshot.and_then(|snapshot| snapshot["odoo_version"].as_str());
    if let (Some(backup), Some(environment)) = (of_backup, target.odoo_version.as_deref())
        && backup != environment
    {
        findings.push(Finding::warning(
            "odoo_version_differs",
            format!("the backup is of Odoo {backup}, and \"{}\" runs Odoo {environment}", target.name),
            "The restored Odoo is booted before it goes live, which shows whether it works. To change versions, \
             restore to the same one first and upgrade there.",
        ));
    }
    if settled.parts == Parts::All && !backup.include_filestore {
        findings.push(Finding::warning(
            "backup_without_files",
            "the backup has no files",
            "Attachments that are files will be missing, unless they are on the target already.",
        ));
    }
    if settled.safety_backup == SafetyBackup::None && target.status != EnvironmentStatus::Pending {
        findings.push(Finding::warning(
            "no_safety_backup",
            "what is live is not backed up before it is replaced",
            "The replaced pair is kept until the undo window is over, and is then gone for good.",
        ));
    }
    findings
}

#[cfg(test)]
mod tests;
