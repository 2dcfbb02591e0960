//! `GET /api/v1/events/stream`: what happens, as Server-Sent Events, to one follower.

use std::{convert::Infallible, pin::Pin, sync::Arc, time::Duration};

use axum::{
    extract::{FromRequestParts, State},
    http::{HeaderMap, request::Parts},
    response::{
        IntoResponse, Response,
        sse::{Event as Told, Sse},
    },
};
use futures_util::{
    Stream, StreamExt,
    stream::{self, SelectAll},
};
use serde::Deserialize;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Interval, MissedTickBehavior, interval},
};
use undoo_api::events::{BackupEvent, RestoreEvent};
use undoo_control::{Caller, Page};
use undoo_core::{OrganisationId, platform::Event};
use utoipa::IntoParams;

use super::cursor::{Cursor, MOST};
use crate::{
    App,
    failure::{Failure, Result},
    request::{
        caller::{By, Shown},
        fields::Asked,
    },
};

/// A sign of life goes out this often, and whether the caller is still who they were is asked as often.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// After so long a browser is to come back when the stream ends.
const RETRY: Duration = Duration::from_secs(2);
/// Events that are caught up with at a time.
const AT_A_TIME: u64 = 200;

/// What a stream is narrowed to.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// The only organisation to be told of.
    organization_id: Option<OrganisationId>,
}

/// Events of the organisations that the caller belongs to, as far as they may see them.
///
/// Each `id:` says where the stream is; a client that sends it as `Last-Event-ID` is told everything since. A
/// comment comes every 15 seconds. The stream ends with the session or token. Who belongs to more than 64
/// organisations has to name one.
#[utoipa::path(
    get, path = "/api/v1/events/stream", tag = "events",
    params(EventsQuery, ("Last-Event-ID" = Option<String>, Header, description = "The last `id:` that was seen.",
        max_length = 3500, pattern = "^([0-9a-f]{32}:[0-9]{1,18}([.][0-9a-f]{32}:[0-9]{1,18}){0,63})?$")),
    responses(
        (status = 200, description = "Events without end: `event:` is an event kind, `data:` is JSON.",
            content_type = "text/event-stream", body = inline(SentEvent)),
    ),
    extensions(("x-permission" = json!("signed_in")))
)]
pub async fn events_stream(
    State(app): State<App>,
    By(caller): By,
    shown: Shown,
    Asked(query): Asked<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    let organisations = organisations(&app, &caller, query.organization_id).await?;
    let seen = last_seen(&headers)?;
    let mut places = Cursor::default();
    let mut feeds = SelectAll::new();
    for organisation in organisations {
        let (sequence, receiver) = app.feed.follow(&app.control, organisation).await?;
        let place = match seen.0.get(&organisation) {
            // A place that is not reached yet is one of another database.
            Some(seen) => (*seen).min(app.control.events_last(organisation).await?),
            None => sequence,
        };
        places.0.insert(organisation, place);
        feeds.push(heard(receiver));
    }
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat.reset();
    let follower = Follower { app, caller, shown, query, places, feeds, heartbeat, next: Next::Begin };
    Ok(Sse::new(follower.told()).into_response())
}

/// What an event's `data:` is.
#[derive(utoipa::ToSchema)]
#[allow(dead_code, reason = "it describes what is sent; the data itself was written where it happened")]
#[schema(description = "The data of an event.")]
enum SentEvent {
    #[schema(title = "restore")]
    Restore(RestoreEvent),
    #[schema(title = "backup")]
    Backup(BackupEvent),
}

impl<S: Send + Sync> FromRequestParts<S> for Shown {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        Self::of(parts)
    }
}

/// The organisations that a caller follows.
async fn organisations(
    app: &App,
    caller: &Caller,
    named: Option<OrganisationId>,
) -> Result<Vec<OrganisationId>> {
    let own = caller.grants.organisations();
    if let Some(named) = named {
        if !own.is_some_and(|own| own.contains(&named)) {
            app.control.organisation_get(caller, named).await?;
        }
        return Ok(vec![named]);
    }
    let own = match own {
        Some(own) => own,
        None => {
            let page = Page { page: 1, size: MOST as u64 + 1 };
            let all = app.control.organisation_list(caller, page).await?;
            all.items.into_iter().map(|organisation| organisation.id).collect()
        }
    };
    if own.len() > MOST {
        let message = format!("is required by who may follow more than {MOST} organisations");
        return Err(Failure::of_field("organization_id", message));
    }
    Ok(own)
}

fn last_seen(headers: &HeaderMap) -> Result<Cursor> {
    let Some(value) = headers.get("last-event-id") else { return Ok(Cursor::default()) };
    let cursor = value.to_str().ok().and_then(|text| text.parse().ok());
    cursor.ok_or_else(|| Failure::of_field("Last-Event-ID", "must be an id that this stream has sent"))
}

/// What comes from an organisation's feed.
enum Heard {
    Event(Arc<Event>),
    /// Some were missed.
    Missed,
}

type Heards = Pin<Box<dyn Stream<Item = Heard> + Send>>;

fn heard(receiver: broadcast::Receiver<Arc<Event>>) -> Heards {
    Box::pin(stream::unfold(receiver, |mut receiver| async {
        let heard = match receiver.recv().await {
            Ok(event) => Heard::Event(event),
            Err(RecvError::Lagged(_)) => Heard::Missed,
            Err(RecvError::Closed) => return None,
        };
        Some((heard, receiver))
    }))
}

/// What a follower does next.
enum Next {
    /// Says where the stream begins.
    Begin,
    /// Reads from the store what was missed.
    CatchUp,
    /// Tells these, and catches up with more if there may be more.
    Tell(std::vec::IntoIter<Event>, bool),
    Listen,
}

struct Follower {
    app: App,
    caller: Caller,
    shown: Shown,
    query: EventsQuery,
    places: Cursor,
    feeds: SelectAll<Heards>,
    heartbeat: Interval,
    next: Next,
}

impl Follower {
    fn told(self) -> impl Stream<Item = Result<Told, Infallible>> {
        let stop = self.app.settings.stop.clone();
        let told = stream::unfold(self, |mut follower| async {
            let told = follower.next().await?;
            Some((Ok(told), follower))
        });
        told.take_until(stop.cancelled_owned())
    }

    /// The next thing to be sent; `None` when it is over.
    async fn next(&mut self) -> Option<Told> {
        loop {
            match std::mem::replace(&mut self.next, Next::Listen) {
                Next::Begin => {
                    self.next = Next::CatchUp;
                    return Some(Told::default().id(self.places.to_string()).retry(RETRY));
                }
                Next::CatchUp => {
                    let places: Vec<_> = self.places.0.iter().map(|(id, place)| (*id, *place)).collect();
                    let missed = match self.app.control.events_after(&places, AT_A_TIME).await {
                        Ok(missed) => missed,
                        Err(problem) => {
                            // The client comes back, and is told then.
                            tracing::warn!(code = problem.code, "events cannot be read: {problem}");
                            return None;
                        }
                    };
                    let more = missed.len() as u64 == AT_A_TIME;
                    self.next = Next::Tell(missed.into_iter(), more);
                }
                Next::Tell(mut events, more) => match events.next() {
                    Some(event) => {
                        self.next = Next::Tell(events, more);
                        if let Some(told) = self.tell(&event) {
                            return Some(told);
                        }
                    }
                    None if more => self.next = Next::CatchUp,
                    None => {}
                },
                Next::Listen => {
                    tokio::select! {
                        heard = self.feeds.next(), if !self.feeds.is_empty() => match heard? {
                            Heard::Missed => self.next = Next::CatchUp,
                            Heard::Event(event) => if let Some(told) = self.tell(&event) {
                                return Some(told);
                            },
                        },
                        _ = self.heartbeat.tick() => {
                            if !self.still_there().await {
                                return None;
                            }
                            return Some(Told::default().comment("still here"));
                        }
                    }
                }
            }
        }
    }

    /// An event as it is sent, if it is new and the caller may see it.
    fn tell(&mut self, event: &Event) -> Option<Told> {
        let place = self.places.0.get_mut(&event.event.organisation_id)?;
        if event.sequence <= *place {
            return None;
        }
        *place = event.sequence;
        if !self.caller.may_hear(event) {
            return None;
        }
        let told = Told::default().event(event.event.kind.as_str()).id(self.places.to_string());
        told.json_data(&event.event.data).ok()
    }

    /// Whether the caller is still signed in and follows the same organisations; a client that comes back is
    /// told why not, or follows the new ones.
    async fn still_there(&mut self) -> bool {
        match self.shown.caller(&self.app.control, &self.caller.request_id).await {
            Ok(caller) => self.caller = caller,
            Err(_) => return false,
        }
        let now =
            organisations(&self.app, &self.caller, self.query.organization_id).await.unwrap_or_default();
        now.len() == self.places.0.len() && now.iter().all(|one| self.places.0.contains_key(one))
    }
}
