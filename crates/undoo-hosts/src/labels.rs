//! The labels by which Undoo knows its own containers, networks and volumes.
//!
//! Whatever lacks them was made by someone else and is never removed.

use std::collections::HashMap;

/// The task that a thing belongs to.
pub const LABEL_TASK: &str = "sh.undoo.task";
/// The attempt within the task, as a decimal number: what an older attempt left may go.
pub const LABEL_EPOCH: &str = "sh.undoo.epoch";
/// What the thing is for; see [`Role`].
pub const LABEL_ROLE: &str = "sh.undoo.role";
/// The name of the Odoo container that the task works on.
pub const LABEL_TARGET: &str = "sh.undoo.target";

/// The task (of epoch 0) of containers that inspection asks something; they last seconds.
pub const INSPECTION_TASK: &str = "inspection";

/// What a container, network or volume of ours is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs the data plane.
    Mover,
    /// Runs the environment's own Odoo off to the side.
    Proof,
    /// Runs a cutover, and goes on when its caller has died.
    Agent,
    /// Holds the binary, or was created (never started) to put it there.
    Binary,
    /// Asks an image a question, such as Odoo's version.
    Question,
    /// Reaches the files of an environment that is being deployed or destroyed.
    Files,
}

impl Role {
    /// As written into the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mover => "mover",
            Self::Proof => "proof",
            Self::Agent => "cutover-agent",
            Self::Binary => "binary",
            Self::Question => "question",
            Self::Files => "files",
        }
    }
}

/// Whose work a container does.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Labels {
    /// The task's id, for example a restore's.
    pub task: String,
    /// The attempt; grows with each new one.
    pub epoch: u64,
    /// The name of the Odoo container worked on, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

impl Labels {
    /// Labels of a task's attempt.
    pub fn new(task: impl Into<String>, epoch: u64) -> Self {
        Self { task: task.into(), epoch, target: None }
    }

    /// Names the Odoo container worked on.
    #[must_use]
    pub fn on_target(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into());
        self
    }

    pub(crate) fn to_map(&self, role: Role) -> HashMap<String, String> {
        let mut map = HashMap::from([
            (LABEL_TASK.to_owned(), self.task.clone()),
            (LABEL_EPOCH.to_owned(), self.epoch.to_string()),
            (LABEL_ROLE.to_owned(), role.as_str().to_owned()),
        ]);
        if let Some(target) = &self.target {
            map.insert(LABEL_TARGET.to_owned(), target.clone());
        }
        map
    }
}

/// A filter of Docker's list calls that keeps what carries all these labels.
pub(crate) fn label_filter(labels: &[(&str, Option<&str>)]) -> HashMap<String, Vec<String>> {
    let wanted = labels
        .iter()
        .map(|(key, value)| match value {
            Some(value) => format!("{key}={value}"),
            None => (*key).to_owned(),
        })
        .collect();
    HashMap::from([("label".to_owned(), wanted)])
}
