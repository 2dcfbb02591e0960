//! Removing the pair that a restore keeps, and whether that may happen without being asked for.
//!
//! The pair that a restore replaced is the only place of what was written between its safety backup and its
//! cutover. Who asked for that backup wants what was live to be kept, so such a pair is not removed before a
//! verified backup of that very pair exists. As long as none can be made of it, it is kept longer, a window
//! at a time, and each time that is said; a person can have it removed.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use undoo_core::{
    Finding, Kind, Problem, RestoreId, Result,
    platform::{RestorePoint, RestoreStatus},
};
use undoo_engine::{order::Failure, record::State};
use undoo_store::{Tx, restore_points};

use super::{
    driver::{Answers, Conclude, End, Step, Workflow},
    held::Held,
    signal::Signal,
    undo::point_at,
};
use crate::{
    Control,
    restores::{settled, wish::SafetyBackup},
};

/// Whether a kept pair may be removed when its time is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purgeable {
    /// It may.
    Yes,
    /// It is the only copy of something that was to be kept.
    OnlyCopy(Finding),
}

/// Whether the kept pair of a restore may be removed without a person.
///
/// # Errors
/// `Internal` when the restore's options cannot be read.
pub(crate) fn purgeable(point: &RestorePoint) -> Result<Purgeable> {
    let asked_for_safety = settled(point)?.safety_backup != SafetyBackup::None;
    // Of an undone restore, the restored pair is what is kept: it came out of a backup.
    if point.status == RestoreStatus::Undone || !asked_for_safety {
        return Ok(Purgeable::Yes);
    }
    let safety = match point.pre_restore_backup_id {
        Some(id) => format!("The safety backup {id} was made before the cutover"),
        None => "There is no safety backup".to_owned(),
    };
    Ok(Purgeable::OnlyCopy(Finding::warning(
        "kept_pair_only_copy",
        format!(
            "{safety}: what was written after that is in the replaced pair alone, which is therefore kept"
        ),
        "It takes as much disk as a second system. When it is not needed any more, have it removed: \
         `POST /api/v1/restore/{id}/purge`.",
    )))
}

const PURGE: &str = "purge";

pub(super) fn workflow(held: Arc<Held>, id: RestoreId, accepted: bool) -> Workflow {
    let control = held.control.clone();
    Workflow {
        steps: vec![Box::new(Purge { held, id, accepted })],
        conclusion: Box::new(Concluded { control, id }),
    }
}

struct Purge {
    held: Arc<Held>,
    id: RestoreId,
    accepted: bool,
}

#[async_trait]
impl Step for Purge {
    fn name(&self) -> &'static str {
        PURGE
    }

    async fn act(&self, _: &Signal) -> Result<Value, Failure> {
        let (point, at) = point_at(&self.held, self.id).await?;
        if !self.accepted
            && let Purgeable::OnlyCopy(finding) = purgeable(&point)?
        {
            let problem = Problem::new(Kind::Refused, "kept_pair_only_copy", finding.message, finding.remedy);
            return Err(problem.into());
        }
        let plane = &self.held.control.plane;
        let standing = plane.standing(&at, self.id).await?.map(|listed| listed.record.state);
        if let Some(State::Live { .. }) = standing {
            plane.purge(&at, self.id).await?;
        }
        Ok(Value::Null)
    }

    /// What is half removed is no way back: it is waited for.
    fn is_waited_for(&self) -> bool {
        true
    }
}

struct Concluded {
    control: Control,
    id: RestoreId,
}

#[async_trait]
impl Conclude for Concluded {
    async fn conclude(&self, tx: &Tx, end: &End, _: &Answers) -> Result<Option<Value>> {
        if *end != End::Succeeded {
            return Ok(None);
        }
        let Some(mut point) = restore_points::get(tx, self.id).await? else { return Ok(None) };
        point.undo_until = None;
        restore_points::update(tx, &point, point.status).await?;
        let data = json!({ "environment": point.target_environment_id });
        self.control.note(tx, None, point.organisation_id, "restore.purged", point.id, data).await?;
        Ok(Some(json!({ "restore_id": point.id })))
    }
}
