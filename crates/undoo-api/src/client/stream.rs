//! Following what happens: a stream of events that comes back by itself where it was when it breaks off.

use std::{collections::VecDeque, pin::Pin, time::Duration};

use futures_util::{Stream, stream};
use reqwest::{
    Response,
    header::{ACCEPT, HeaderMap, HeaderValue},
};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use undoo_core::{OrganisationId, Problem, Result, platform::EventKind};

use super::{Client, sse};
use crate::events::{BackupEvent, RestoreEvent};

const LAST_EVENT_ID: &str = "Last-Event-ID";
/// The longest pause before a stream is asked for again.
const MOST_PAUSE: Duration = Duration::from_secs(15);

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its place in the stream: who follows from here is told everything after it.
    pub id: Option<String>,
    /// Its name.
    pub name: String,
    /// Its data.
    pub data: Value,
}

impl Event {
    /// What it is; `None` for a kind that this program does not know.
    pub fn kind(&self) -> Option<EventKind> {
        self.name.parse().ok()
    }

    /// What it says, if it is about a restore.
    pub fn restore(&self) -> Option<RestoreEvent> {
        serde_json::from_value(self.data.clone()).ok()
    }

    /// What it says, if it is about a backup.
    pub fn backup(&self) -> Option<BackupEvent> {
        serde_json::from_value(self.data.clone()).ok()
    }
}

/// Events without end: an error is the last thing in it.
pub type Events = Pin<Box<dyn Stream<Item = Result<Event>> + Send>>;

impl Client {
    /// What happens in the organisations of the caller, or in one of them, from now on, or from after the
    /// event of that id. A stream that breaks off or falls silent is asked for again, from where it was.
    ///
    /// Ends with an error that coming back does not help, or when the server is gone for longer than
    /// [`Patience::comeback`](super::Patience::comeback).
    pub fn events(&self, organisation: Option<OrganisationId>, after: Option<String>) -> Events {
        let follower = Follower {
            client: self.clone(),
            organisation,
            last: after,
            open: None,
            waiting: VecDeque::new(),
            pause: self.patience.pause,
            lost_since: Instant::now(),
        };
        Box::pin(stream::try_unfold(follower, async |mut follower| {
            Ok(Some((follower.next().await?, follower)))
        }))
    }
}

struct Follower {
    client: Client,
    organisation: Option<OrganisationId>,
    last: Option<String>,
    open: Option<(Response, sse::Parser)>,
    waiting: VecDeque<Event>,
    pause: Duration,
    lost_since: Instant,
}

impl Follower {
    async fn next(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(event);
            }
            match &mut self.open {
                Some(_) => {
                    if !self.read().await {
                        self.open = None;
                        self.lost_since = Instant::now();
                        sleep(self.pause).await;
                    }
                }
                None => match self.begin().await {
                    Ok(response) => self.open = Some((response, sse::Parser::default())),
                    Err(problem) => self.wait(problem).await?,
                },
            }
        }
    }

    async fn begin(&self) -> Result<Response> {
        let mut headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("text/event-stream"))]);
        if let Some(last) = self.last.as_deref().and_then(|last| HeaderValue::from_str(last).ok()) {
            headers.insert(LAST_EVENT_ID, last);
        }
        let query = serde_json::json!({ "organization_id": self.organisation });
        self.client.get(&["events", "stream"]).query(&query)?.headers(headers).begun().await
    }

    async fn wait(&mut self, problem: Problem) -> Result<()> {
        if problem.is_permanent() || self.lost_since.elapsed() >= self.client.patience.comeback {
            return Err(problem);
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(MOST_PAUSE);
        Ok(())
    }

    /// Reads a piece; `false` when the stream is over.
    async fn read(&mut self) -> bool {
        let Some((response, parser)) = &mut self.open else { return false };
        let Ok(Ok(Some(bytes))) = timeout(self.client.patience.silence, response.chunk()).await else {
            return false;
        };
        self.pause = self.client.patience.pause;
        let Ok(messages) = parser.push(&bytes) else { return false };
        for message in messages {
            if let Some(retry) = message.retry {
                self.pause = Duration::from_millis(retry).min(MOST_PAUSE);
            }
            self.last = message.id.clone().or_else(|| self.last.take());
            // What is no JSON is none of ours.
            let data = message.data.and_then(|data| serde_json::from_str(&data).ok());
            if let Some(data) = data {
                self.waiting.push_back(Event { id: message.id, name: message.name, data });
            }
        }
        true
    }
}
