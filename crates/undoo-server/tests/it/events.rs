//! Events as followers get them, over connections that are really open.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, future::join_all, stream::BoxStream};
use serde_json::{Value, json};
use tokio::time::timeout;
use undoo_core::{
    OrganisationId, ProjectId,
    platform::{EnvironmentType, EventKind, NewEvent, Role},
};
use undoo_store::{access, events, people};

use crate::{place::Place, platform::Platform};

const SOON: Duration = Duration::from_secs(5);

/// What was told.
#[derive(Debug, Default, Clone, PartialEq)]
struct Told {
    id: String,
    event: String,
    data: Value,
}

struct Follower {
    bytes: BoxStream<'static, reqwest::Result<Vec<u8>>>,
    buffer: String,
}

impl Follower {
    async fn new(base: &str, token: &str, last: Option<&str>) -> Self {
        let request = reqwest::Client::new().get(format!("{base}/api/v1/events/stream")).bearer_auth(token);
        let request = last.map_or(request.try_clone().unwrap(), |last| request.header("last-event-id", last));
        let response = request.send().await.unwrap().error_for_status().unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let bytes = response.bytes_stream().map(|bytes| bytes.map(|bytes| bytes.to_vec())).boxed();
        Self { bytes, buffer: String::new() }
    }

    /// The next block that has an id; `None` when the stream is over.
    async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.buffer = rest;
                let mut told = Told::default();
                for line in block.lines() {
                    match line.split_once(": ") {
                        Some(("id", id)) => told.id = id.to_owned(),
                        Some(("event", event)) => told.event = event.to_owned(),
                        Some(("data", data)) => told.data = serde_json::from_str(data).unwrap(),
                        _ => {}
                    }
                }
                if !told.id.is_empty() {
                    return Some(told);
                }
                continue;
            }
            let bytes = timeout(SOON, self.bytes.next()).await.expect("nothing came")?;
            self.buffer.push_str(std::str::from_utf8(&bytes.ok()?).unwrap());
        }
    }

    /// The numbers of the next so many events.
    async fn numbers(&mut self, count: usize) -> Vec<i64> {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            let told = self.next().await.unwrap();
            if !told.event.is_empty() {
                numbers.push(told.data["number"].as_i64().unwrap());
            }
        }
        numbers
    }
}

impl Platform {
    async fn happens(&self, organisation_id: OrganisationId, project_id: Option<ProjectId>, number: i64) {
        let kind = EventKind::RestoreProgress;
        let data = json!({ "number": number, "restore_id": "r", "status": "downloading", "progress": 25 });
        let event = NewEvent { organisation_id, project_id, environment_id: None, kind, data };
        let tx = self.store.begin().await.unwrap();
        events::append(&tx, &event).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn happens_at(&self, place: &Place, number: i64) {
        self.happens(place.organisation.id, Some(place.project.id), number).await;
    }
}

async fn resumes(platform: Platform) {
    let base = platform.listen().await;
    let (one, other) =
        (platform.place(EnvironmentType::Staging).await, platform.place(EnvironmentType::Staging).await);
    let user = platform.with_role(Role::Viewer, &one).await;
    let owner = Some(undoo_core::platform::OrgRole::Owner);
    people::org_role_set(&platform.store, other.organisation.id, user.id, owner).await.unwrap();
    let token = platform.token(&user, None).await;
    platform.happens_at(&one, 0).await;
    let mut follower = Follower::new(&base, &token, None).await;
    let begin = follower.next().await.unwrap();
    assert_eq!(begin.event, "", "what was before is not told: {begin:?}");
    for number in 1..=6 {
        platform.happens_at(if number % 2 == 0 { &one } else { &other }, number).await;
    }
    let mut told = Vec::new();
    for _ in 0..6 {
        told.push(follower.next().await.unwrap());
    }
    drop(follower);
    platform.happens_at(&other, 7).await;
    assert_eq!(told[0].event, "restore.progress");
    // Whichever was the last seen: exactly the others come.
    for (place, last) in told.iter().enumerate() {
        let seen: Vec<i64> =
            told[..=place].iter().map(|told| told.data["number"].as_i64().unwrap()).collect();
        let mut numbers = Follower::new(&base, &token, Some(&last.id)).await.numbers(7 - seen.len()).await;
        numbers.sort_unstable();
        let missed: Vec<i64> = (1..=7).filter(|number| !seen.contains(number)).collect();
        assert_eq!(numbers, missed, "after {seen:?}");
    }
    let mut all = Follower::new(&base, &token, Some(&begin.id)).await.numbers(7).await;
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3, 4, 5, 6, 7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_of_two_servers_of_one_platform_hear_the_same() {
    let here = Platform::on_postgres().await;
    let there = here.beside().await;
    let place = here.place(EnvironmentType::Staging).await;
    let user = here.with_role(Role::Viewer, &place).await;
    let token = here.token(&user, None).await;
    let (of_here, of_there) = (here.listen().await, there.listen().await);
    let mut followers =
        [Follower::new(&of_here, &token, None).await, Follower::new(&of_there, &token, None).await];
    for follower in &mut followers {
        assert_eq!(follower.next().await.unwrap().event, "");
    }
    here.happens_at(&place, 1).await;
    there.happens_at(&place, 2).await;
    let mut last = Vec::new();
    for follower in &mut followers {
        let (one, two) = (follower.next().await.unwrap(), follower.next().await.unwrap());
        assert_eq!((one.data["number"].clone(), two.data["number"].clone()), (1.into(), 2.into()));
        last.push((one.id, two.id));
    }
    assert_eq!(last[0], last[1], "whoever comes back may come to the other");
    let mut back = Follower::new(&of_there, &token, Some(&last[0].0)).await;
    assert_eq!(back.numbers(1).await, [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_comes_back_is_told_exactly_what_it_missed_on_sqlite() {
    resumes(Platform::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_comes_back_is_told_exactly_what_it_missed_on_postgres() {
    resumes(Platform::on_postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_hears_only_of_what_they_may_see() {
    let platform = Platform::on_sqlite().await;
    let base = platform.listen().await;
    let own = platform.place(EnvironmentType::Staging).await;
    let beside = platform.place_in(own.organisation.clone(), EnvironmentType::Staging).await;
    let elsewhere = platform.place(EnvironmentType::Staging).await;
    let viewer = platform.token_of(Role::Viewer, &own).await;
    let mut follower = Follower::new(&base, &viewer, None).await;
    follower.next().await.unwrap();
    for (number, place) in [(1, &own), (2, &beside), (3, &elsewhere), (4, &own)] {
        platform.happens_at(place, number).await;
    }
    assert_eq!(follower.numbers(2).await, [1, 4]);
    let foreign = format!("{base}/api/v1/events/stream?organization_id={}", elsewhere.organisation.id);
    let answered = reqwest::Client::new().get(foreign).bearer_auth(&viewer).send().await.unwrap();
    assert_eq!(answered.status(), 404);
    let broken = reqwest::Client::new().get(format!("{base}/api/v1/events/stream")).bearer_auth(&viewer);
    assert_eq!(broken.header("last-event-id", "7").send().await.unwrap().status(), 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_follower_misses_nothing() {
    let platform = Platform::on_sqlite().await;
    let base = platform.listen().await;
    let place = platform.place(EnvironmentType::Staging).await;
    let token = platform.token_of(Role::Viewer, &place).await;
    let mut follower = Follower::new(&base, &token, None).await;
    follower.next().await.unwrap();
    // More than the feed keeps for anybody.
    let tx = platform.store.begin().await.unwrap();
    for number in 1..=1000 {
        let event = NewEvent {
            organisation_id: place.organisation.id,
            project_id: None,
            environment_id: None,
            kind: EventKind::BackupProgress,
            data: json!({ "number": number }),
        };
        events::append(&tx, &event).await.unwrap();
    }
    tx.commit().await.unwrap();
    assert_eq!(follower.numbers(1000).await, (1..=1000).collect::<Vec<i64>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_the_server() {
    let platform = Platform::on_sqlite().await;
    let base = platform.listen().await;
    let place = platform.place(EnvironmentType::Staging).await;
    let mut follower = Follower::new(&base, &platform.token_of(Role::Viewer, &place).await, None).await;
    follower.next().await.unwrap();
    platform.stop.cancel();
    assert_eq!(follower.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_token() {
    let platform = Platform::on_sqlite().await;
    let base = platform.listen().await;
    let place = platform.place(EnvironmentType::Staging).await;
    let user = platform.with_role(Role::Viewer, &place).await;
    let token = platform.token(&user, None).await;
    let mut follower = Follower::new(&base, &token, None).await;
    follower.next().await.unwrap();
    let page = undoo_control::Page::default();
    let own = access::tokens_of(&platform.store, user.id, page).await.unwrap();
    access::token_revoke(&platform.store, own.items[0].id, crate::platform::now()).await.unwrap();
    let ended = async { while follower.bytes.next().await.is_some() {} };
    timeout(Duration::from_secs(20), ended).await.expect("the stream went on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_followers_hear_of_an_event_within_a_second() {
    let platform = Platform::on_sqlite().await;
    let base = platform.listen().await;
    let place = platform.place(EnvironmentType::Staging).await;
    let token = platform.token_of(Role::Viewer, &place).await;
    let mut followers = Vec::new();
    for _ in 0..20 {
        followers.extend(join_all((0..50).map(|_| Follower::new(&base, &token, None))).await);
    }
    join_all(followers.iter_mut().map(Follower::next)).await;
    let happened = Instant::now();
    platform.happens_at(&place, 1).await;
    let told = join_all(followers.iter_mut().map(|follower| follower.numbers(1))).await;
    let took = happened.elapsed();
    assert!(told.iter().all(|numbers| numbers == &[1]));
    assert!(took < Duration::from_secs(1), "the last heard of it after {took:?}");
}
