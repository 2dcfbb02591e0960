//! Following events over streams that break, stall and come back.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::json;
use tokio::sync::mpsc;
use undoo_api::{Client, client::Patience};
use undoo_core::{
    Kind, OrganisationId, RestoreId,
    platform::{EventKind, RestoreStatus},
};

use crate::server::{EVENTS, Server, Step, answer, problem};

fn client(server: &Server) -> Client {
    let patience = Patience {
        answer: Duration::from_millis(500),
        silence: Duration::from_millis(300),
        comeback: Duration::from_millis(500),
        pause: Duration::from_millis(10),
        ..Patience::default()
    };
    Client::patient(&server.base, patience).unwrap().with_token("geheim".into())
}

fn progress(id: &str, restore: RestoreId, percent: u32) -> String {
    let data = json!({ "restore_id": restore, "status": "downloading", "progress": percent });
    format!("id: {id}\nevent: restore.progress\ndata: {data}\n\n")
}

#[tokio::test]
async fn a_stream_that_breaks_off_goes_on_where_it_was() {
    let restore = RestoreId::generate();
    let first = format!("{EVENTS}id: 3\n\n{}", progress("4", restore, 25));
    let cut = "id: 5\nevent: restore.progress\ndata: {\"rest";
    let second = format!("{EVENTS}: heartbeat\n\n{}", progress("5", restore, 50));
    let server = Server::with([
        Step::Say(first + cut),
        answer("503 Service Unavailable", "", ""),
        Step::Say(second),
        answer("401 Unauthorized", "", ""),
    ])
    .await;
    let mut events = client(&server).events(None, None);
    let event = events.next().await.unwrap().unwrap();
    assert_eq!((event.id.as_deref(), event.kind()), (Some("4"), Some(EventKind::RestoreProgress)));
    let told = event.restore().unwrap();
    assert_eq!((told.restore_id, told.progress), (restore, Some(25)));
    assert_eq!(told.status, Some(RestoreStatus::Downloading));
    let event = events.next().await.unwrap().unwrap();
    assert_eq!(event.restore().unwrap().progress, Some(50));
    let problem = events.next().await.unwrap().unwrap_err();
    assert_eq!(problem.kind, Kind::Denied);
    assert!(events.next().await.is_none());

    let requests: Vec<String> = server.requests().iter().map(|request| request.to_lowercase()).collect();
    assert!(!requests[0].contains("last-event-id"));
    assert!(requests[0].contains("accept: text/event-stream\r\n"), "{}", requests[0]);
    for (request, id) in [(1, 4), (2, 4), (3, 5)] {
        assert!(requests[request].contains(&format!("last-event-id: {id}\r\n")), "{}", requests[request]);
    }
}

#[tokio::test]
async fn a_place_that_was_told_without_an_event_is_kept() {
    let restore = RestoreId::generate();
    let server = Server::with([
        Step::Say(format!("{EVENTS}id: 7\nretry: 20\n\n")),
        Step::Say(format!("{EVENTS}{}", progress("8", restore, 10))),
    ])
    .await;
    let mut events = client(&server).events(None, None);
    assert_eq!(events.next().await.unwrap().unwrap().id.as_deref(), Some("8"));
    assert!(server.requests()[1].to_lowercase().contains("last-event-id: 7\r\n"));
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_asked_for_again_and_one_with_heartbeats_is_not() {
    let restore = RestoreId::generate();
    let (feed, fed) = mpsc::channel(1);
    let server = Server::with([Step::Stall(EVENTS.into()), Step::Feed(fed), Step::Say(String::new())]).await;
    let mut events = client(&server).events(None, Some("1".into()));
    tokio::spawn(async move {
        feed.send(EVENTS.into()).await.unwrap();
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            feed.send(": heartbeat\n\n".into()).await.unwrap();
        }
        feed.send(progress("2", restore, 10)).await.unwrap();
    });
    assert_eq!(events.next().await.unwrap().unwrap().id.as_deref(), Some("2"));
    assert_eq!(server.requests().len(), 2);
    assert!(server.requests()[0].to_lowercase().contains("last-event-id: 1\r\n"));
}

#[tokio::test]
async fn a_server_that_does_not_come_back_is_given_up_and_one_that_refuses_at_once() {
    let restore = RestoreId::generate();
    let server = Server::with([Step::Say(format!("{EVENTS}{}", progress("1", restore, 10)))]).await;
    let mut events = client(&server).events(None, None);
    assert!(events.next().await.unwrap().is_ok());
    let problem = events.next().await.unwrap().unwrap_err();
    assert_eq!((problem.kind, problem.code), (Kind::Unavailable, "server_refused"), "{problem:?}");

    let details = json!({ "type": "about:blank", "title": "Not Found", "status": 404, "detail": "none",
                          "code": "not_found", "kind": "missing", "request_id": "r" });
    let server = Server::with([problem_step(&details)]).await;
    let organisation = OrganisationId::generate();
    let mut events = client(&server).events(Some(organisation), None);
    assert_eq!(events.next().await.unwrap().unwrap_err().code, "not_found");
    assert!(server.requests()[0].contains(&format!("organization_id={organisation}")));
}

fn problem_step(details: &serde_json::Value) -> Step {
    problem(404, details)
}
