//! What happens, for those who tell it on: what there is after a place, and who may hear it.
//!
//! Nobody is followed here. Whoever tells many (`undoo-server`) reads once for all of them.

use tokio::sync::broadcast::Receiver;
use undoo_core::{
    OrganisationId, Result,
    platform::{Decision, Event, Permission, Scope},
};
use undoo_store::{Hint, events};

use crate::{Caller, Control};

impl Control {
    /// Says when to look for events. Hints may be lost, doubled and about something else.
    pub fn event_hints(&self) -> Receiver<Hint> {
        self.store.hints()
    }

    /// The last event of an organisation.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn events_last(&self, organisation: OrganisationId) -> Result<i64> {
        events::last(&self.store, organisation).await
    }

    /// Events after these places, in order within each organisation. Who may hear them is for
    /// [`Caller::may_hear`] to say.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn events_after(&self, places: &[(OrganisationId, i64)], limit: u64) -> Result<Vec<Event>> {
        events::after(&self.store, places, limit).await
    }
}

impl Caller {
    /// Whether an event is about something that the caller may see.
    pub fn may_hear(&self, event: &Event) -> bool {
        let organisation = event.event.organisation_id;
        let (permission, scope) = match event.event.project_id {
            Some(project) => (Permission::BackupsView, Scope::Project(organisation, project)),
            None => (Permission::OrgView, Scope::Organisation(organisation)),
        };
        self.grants.decide(permission, scope) == Decision::Granted
    }
}
