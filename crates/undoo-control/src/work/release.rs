//! Letting go the mails and crons that a restore holds.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use undoo_core::{RestoreId, Result};
use undoo_engine::order::Failure;
use undoo_store::{Tx, restore_points};

use super::{
    driver::{Answers, Conclude, End, Step, Workflow},
    held::Held,
    signal::Signal,
    undo::point_at,
};
use crate::Control;

const RELEASE: &str = "release";

pub(super) fn workflow(held: Arc<Held>, id: RestoreId) -> Workflow {
    let control = held.control.clone();
    Workflow { steps: vec![Box::new(Release { held, id })], conclusion: Box::new(Concluded { control, id }) }
}

struct Release {
    held: Arc<Held>,
    id: RestoreId,
}

#[async_trait]
impl Step for Release {
    fn name(&self) -> &'static str {
        RELEASE
    }

    async fn act(&self, _: &Signal) -> Result<Value, Failure> {
        let (_, at) = point_at(&self.held, self.id).await?;
        Ok(self.held.control.plane.release(&at).await?)
    }

    /// One transaction on the target: it happened or it did not, and what was sent is sent.
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
    async fn conclude(&self, tx: &Tx, end: &End, answers: &Answers) -> Result<Option<Value>> {
        if *end != End::Succeeded {
            return Ok(None);
        }
        let released = answers.get(RELEASE).cloned();
        let Some(mut point) = restore_points::get(tx, self.id).await? else { return Ok(released) };
        if let Some(Value::Object(held)) = &mut point.held {
            held.insert("released_at".to_owned(), json!(self.control.now()));
            held.insert("released".to_owned(), json!(released));
        }
        restore_points::update(tx, &point, point.status).await?;
        Ok(released)
    }
}
