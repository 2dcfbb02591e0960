//! Following what happens: the sequences of all of a caller's organisations as one stream.
//!
//! A hint says when to look; looking every few seconds is what makes it true. What the caller may see is asked
//! again while they follow, so that who is taken out of a project hears no more of it.

use std::{collections::BTreeMap, collections::VecDeque, time::Duration};

use futures_util::{Stream, stream};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::Instant,
};
use undoo_core::{
    OrganisationId, Result,
    platform::{Decision, Event, Grants, Permission, Scope},
};
use undoo_store::{Hint, Page, access, events, people};

use crate::{Caller, Control, Via};

/// Without a hint, it is looked this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What the caller may see is asked again this often.
const ASK_AGAIN_EVERY: Duration = Duration::from_secs(30);
/// Events that are read at a time.
const AT_A_TIME: u64 = 200;

/// An event, and the place to go on from after it.
#[derive(Debug, Clone)]
pub struct Followed {
    /// The `id:` of SSE; what a follower sends as `Last-Event-ID` to go on from here.
    pub id: String,
    /// What happened.
    pub event: Event,
}

struct Follower {
    control: Control,
    caller: Caller,
    hints: Receiver<Hint>,
    positions: BTreeMap<OrganisationId, i64>,
    ready: VecDeque<Event>,
    asked: Instant,
}

impl Control {
    /// What happens from now on, or after the given place. It never ends by itself but when the caller may
    /// not sign in any more.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn events_follow(
        &self,
        caller: &Caller,
        after: Option<String>,
    ) -> Result<impl Stream<Item = Followed> + Send + 'static> {
        let hints = self.store.hints();
        let known = after.as_deref().map(places).unwrap_or_default();
        let mut positions = BTreeMap::new();
        for organisation in self.followed(&caller.grants).await? {
            let position = match known.get(&organisation) {
                Some(position) => *position,
                None => events::last(&self.store, organisation).await?,
            };
            positions.insert(organisation, position);
        }
        let follower = Follower {
            control: self.clone(),
            caller: caller.clone(),
            hints,
            positions,
            ready: VecDeque::new(),
            asked: Instant::now(),
        };
        Ok(stream::unfold(follower, |mut follower| async move {
            let followed = follower.next().await?;
            Some((followed, follower))
        }))
    }

    async fn followed(&self, grants: &Grants) -> Result<Vec<OrganisationId>> {
        if let Some(own) = grants.organisations() {
            return Ok(own);
        }
        let (mut page, mut all) = (Page { page: 1, size: 100 }, Vec::new());
        loop {
            let listed = people::organisations(&self.store, None, page).await?;
            let full = listed.items.len() as u64 >= page.size;
            all.extend(listed.items.into_iter().map(|organisation| organisation.id));
            if !full {
                return Ok(all);
            }
            page.page += 1;
        }
    }

    /// The caller as they are now; `None` when they may not come in any more.
    async fn still_there(&self, caller: &Caller) -> Result<Option<Caller>> {
        let user = people::user(&self.store, caller.user.id).await?.filter(|user| user.disabled_at.is_none());
        let Some(user) = user else { return Ok(None) };
        let membership = people::membership(&self.store, user.id).await?;
        let mut grants = Grants::new(user.portal_admin, &membership);
        if let Via::Token(id) = caller.via {
            let now = self.now();
            let token = access::token(&self.store, id).await?;
            let valid = token.filter(|token| {
                token.revoked_at.is_none() && token.expires_at.is_none_or(|until| until > now)
            });
            let Some(token) = valid else { return Ok(None) };
            grants = grants.limited(token.scopes.as_deref(), token.organisation_id);
        }
        Ok(Some(Caller { user, grants, request_id: caller.request_id.clone(), via: caller.via }))
    }
}

impl Follower {
    async fn next(&mut self) -> Option<Followed> {
        loop {
            while let Some(event) = self.ready.pop_front() {
                self.positions.insert(event.event.organisation_id, event.sequence);
                if may_see(&self.caller.grants, &event) {
                    return Some(Followed { id: self.place(), event });
                }
            }
            match self.look().await {
                Ok(Some(0)) => self.wait().await,
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(problem) => {
                    tracing::warn!(%problem, "events could not be read; looking again");
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
    }

    /// Reads what is new; `None` when the caller is gone.
    async fn look(&mut self) -> Result<Option<usize>> {
        if self.asked.elapsed() >= ASK_AGAIN_EVERY {
            let Some(caller) = self.control.still_there(&self.caller).await? else { return Ok(None) };
            self.caller = caller;
            self.asked = Instant::now();
            let now = self.control.followed(&self.caller.grants).await?;
            self.positions.retain(|organisation, _| now.contains(organisation));
            for organisation in now {
                if !self.positions.contains_key(&organisation) {
                    let last = events::last(&self.control.store, organisation).await?;
                    self.positions.insert(organisation, last);
                }
            }
        }
        let positions: Vec<_> = self.positions.iter().map(|(id, position)| (*id, *position)).collect();
        let found = events::after(&self.control.store, &positions, AT_A_TIME).await?;
        self.ready.extend(found);
        Ok(Some(self.ready.len()))
    }

    async fn wait(&mut self) {
        let hinted = async {
            loop {
                match self.hints.recv().await {
                    Ok(Hint::Events) | Err(RecvError::Lagged(_)) => return,
                    Ok(_) => {}
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        drop(tokio::time::timeout(LOOK_EVERY, hinted).await);
    }

    /// Where it is in each sequence, as text.
    fn place(&self) -> String {
        let one = |(id, position): (&OrganisationId, &i64)| format!("{}:{position}", id.uuid().simple());
        self.positions.iter().map(one).collect::<Vec<_>>().join(",")
    }
}

/// What [`Follower::place`] wrote; what is not of that form is left out.
fn places(text: &str) -> BTreeMap<OrganisationId, i64> {
    let one = |one: &str| {
        let (id, position) = one.split_once(':')?;
        Some((id.parse().ok()?, position.parse().ok()?))
    };
    text.split(',').filter_map(one).collect()
}

fn may_see(grants: &Grants, event: &Event) -> bool {
    let organisation = event.event.organisation_id;
    let (permission, scope) = match event.event.project_id {
        Some(project) => (Permission::BackupsView, Scope::Project(organisation, project)),
        None => (Permission::OrgView, Scope::Organisation(organisation)),
    };
    grants.decide(permission, scope) == Decision::Granted
}
