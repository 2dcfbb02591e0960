//! The one reader: asks the store for what is new in the organisations that somebody follows.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use undoo_control::Control;
use undoo_core::{OrganisationId, Result, platform::Event};

/// Hints may be lost; then it takes no longer than this.
const LOOKS_EVERY: Duration = Duration::from_secs(2);
/// Events that are read at a time.
const AT_A_TIME: u64 = 500;
/// Events that a follower may be behind before they have to catch up from the store.
const BEHIND: usize = 256;

/// What is told to the followers of each organisation. Clones are the same one.
#[derive(Clone)]
pub struct Feed(Arc<Mutex<HashMap<OrganisationId, Followed>>>);

struct Followed {
    /// The last event that was told.
    sequence: i64,
    followers: broadcast::Sender<Arc<Event>>,
}

impl Feed {
    /// A feed with its reader, which runs until `stop` or until the feed is gone.
    pub fn open(control: Control, stop: CancellationToken) -> Self {
        let feed = Self(Arc::default());
        let reader = Reader { control, followed: Arc::downgrade(&feed.0) };
        tokio::spawn(async move { stop.run_until_cancelled(reader.run()).await });
        feed
    }

    /// Listens to an organisation from now on. Answers the sequence after which it is heard.
    pub async fn follow(
        &self,
        control: &Control,
        organisation: OrganisationId,
    ) -> Result<(i64, broadcast::Receiver<Arc<Event>>)> {
        if let Some(followed) = self.followed(organisation, None) {
            return Ok(followed);
        }
        let last = control.events_last(organisation).await?;
        Ok(self.followed(organisation, Some(last)).expect("it is followed from the last event at the latest"))
    }

    fn followed(
        &self,
        organisation: OrganisationId,
        begin: Option<i64>,
    ) -> Option<(i64, broadcast::Receiver<Arc<Event>>)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sequence) = begin {
            all.entry(organisation)
                .or_insert_with(|| Followed { sequence, followers: broadcast::Sender::new(BEHIND) });
        }
        let followed = all.get(&organisation)?;
        Some((followed.sequence, followed.followers.subscribe()))
    }
}

struct Reader {
    control: Control,
    followed: std::sync::Weak<Mutex<HashMap<OrganisationId, Followed>>>,
}

impl Reader {
    async fn run(self) {
        let mut hints = self.control.event_hints();
        loop {
            let hinted = async {
                // One that was lost is as good as one that came.
                if matches!(hints.recv().await, Err(broadcast::error::RecvError::Closed)) {
                    std::future::pending::<()>().await;
                }
            };
            let _ = tokio::time::timeout(LOOKS_EVERY, hinted).await;
            match self.tell().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(problem) => tracing::warn!(code = problem.code, "events cannot be read: {problem}"),
            }
        }
    }

    /// Tells all that is new. `false` once there is no feed any more.
    async fn tell(&self) -> Result<bool> {
        loop {
            let Some(places) = self.places() else { return Ok(false) };
            if places.is_empty() {
                return Ok(true);
            }
            let events = self.control.events_after(&places, AT_A_TIME).await?;
            let all_read = (events.len() as u64) < AT_A_TIME;
            let Some(all) = self.followed.upgrade() else { return Ok(false) };
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            for event in events {
                if let Some(followed) = all.get_mut(&event.event.organisation_id)
                    && followed.sequence < event.sequence
                {
                    followed.sequence = event.sequence;
                    drop(followed.followers.send(Arc::new(event)));
                }
            }
            if all_read {
                return Ok(true);
            }
        }
    }

    /// Where each organisation is that somebody follows; the others are forgotten.
    fn places(&self) -> Option<Vec<(OrganisationId, i64)>> {
        let all = self.followed.upgrade()?;
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, followed| followed.followers.receiver_count() > 0);
        Some(all.iter().map(|(organisation, followed)| (*organisation, followed.sequence)).collect())
    }
}
