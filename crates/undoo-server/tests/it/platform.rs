//! A platform to ask: a migrated store, a router, and callers who may this and that.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use undoo_control::{Caller, Control, NewToken, Sealer, Settings, Via};
use undoo_core::{
    OrganisationId, UserId,
    platform::{Grants, Membership, OrgRole, ProjectRole, Role, User},
};
use undoo_store::{Store, access, people};
use undoo_testing::postgres::Postgres;

use crate::{place::Place, plane::Elsewhere};

pub struct Platform {
    url: String,
    pub control: Control,
    pub store: Store,
    pub router: Router,
    pub stop: CancellationToken,
    pub folder: TempDir,
}

/// What was answered.
pub struct Answered {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answered {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {:?}", self.body))
    }

    /// The `code` of a failure; empty for none.
    pub fn code(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Platform {
    /// In memory: what is written here does not have to last.
    pub async fn on_sqlite() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let url = format!("sqlite:{}/undoo.db", folder.path().display());
        Self::at(&url, folder).await
    }

    pub async fn on_postgres() -> Self {
        let url = Postgres::shared(env!("CARGO_TARGET_TMPDIR")).fresh();
        Self::at(&url, tempfile::tempdir().unwrap()).await
    }

    /// Another server of the same platform, on PostgreSQL.
    pub async fn beside(&self) -> Self {
        Self::at(&self.url, tempfile::tempdir().unwrap()).await
    }

    pub async fn at(url: &str, folder: TempDir) -> Self {
        let store = Store::open(url).await.unwrap();
        store.migrate().await.unwrap();
        let settings = Settings {
            local_storage: folder.path().join("backups"),
            cancel_wait: Duration::from_millis(10),
            storage_hosts: vec!["127.0.0.1".into()],
            ..Settings::default()
        };
        let control = Control::new(store.clone(), Arc::new(Elsewhere), Sealer::new(&[7; 32], &[]), settings);
        let stop = CancellationToken::new();
        let settings = undoo_server::Settings { public_url: None, stop: stop.clone() };
        let router = undoo_server::router(control.clone(), settings);
        Self { url: url.to_owned(), control, store, router, stop, folder }
    }

    /// Answers what a request is answered.
    pub async fn send(&self, request: Request<Body>) -> Answered {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let endless = parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
        let body = if endless { Bytes::new() } else { axum::body::to_bytes(body, usize::MAX).await.unwrap() };
        Answered { status: parts.status, headers: parts.headers, body }
    }

    /// The same for a request with a bearer token.
    pub async fn ask(&self, method: Method, path: &str, token: &str, body: Option<Value>) -> Answered {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        let (request, body) = match body {
            Some(body) => (request.header(header::CONTENT_TYPE, "application/json"), body.to_string().into()),
            None => (request, Body::empty()),
        };
        self.send(request.body(body).unwrap()).await
    }

    pub async fn get(&self, path: &str, token: &str) -> Answered {
        self.ask(Method::GET, path, token, None).await
    }

    pub async fn post(&self, path: &str, token: &str, body: Value) -> Answered {
        self.ask(Method::POST, path, token, Some(body)).await
    }

    /// A user with no role anywhere.
    pub async fn user(&self, portal_admin: bool) -> User {
        let id = UserId::generate();
        let user = User {
            id,
            email: format!("{id}@example.com"),
            name: "Somebody".into(),
            portal_admin,
            disabled_at: None,
            created_at: now(),
        };
        people::user_insert(&self.store, &user, None).await.unwrap();
        user
    }

    /// Somebody with this role in a place.
    pub async fn with_role(&self, role: Role, at: &Place) -> User {
        let user = self.user(role == Role::PortalAdmin).await;
        let (organisation, project) = (at.organisation.id, at.project.id);
        let of_organisation = match role {
            Role::PortalAdmin => None,
            Role::OrgOwner => Some(OrgRole::Owner),
            Role::OrgAdmin => Some(OrgRole::Admin),
            Role::ProjectAdmin | Role::ProjectMember | Role::Viewer => Some(OrgRole::Member),
        };
        let of_project = match role {
            Role::ProjectAdmin => Some(ProjectRole::Admin),
            Role::ProjectMember => Some(ProjectRole::Member),
            Role::Viewer => Some(ProjectRole::Viewer),
            _ => None,
        };
        if of_organisation.is_some() {
            people::org_role_set(&self.store, organisation, user.id, of_organisation).await.unwrap();
        }
        if of_project.is_some() {
            people::project_role_set(&self.store, organisation, project, user.id, of_project).await.unwrap();
        }
        user
    }

    pub async fn caller(&self, user: &User) -> Caller {
        let membership: Membership = people::membership(&self.store, user.id).await.unwrap();
        let grants = Grants::new(user.portal_admin, &membership);
        Caller { user: user.clone(), grants, request_id: "test".into(), via: Via::Session }
    }

    /// A bearer token of somebody's.
    pub async fn token(&self, user: &User, bound_to: Option<OrganisationId>) -> String {
        let new =
            NewToken { name: "test".into(), organisation_id: bound_to, scopes: None, expires_in_days: None };
        let (_, token) = self.control.token_create(&self.caller(user).await, new).await.unwrap();
        token.expose_secret().to_owned()
    }

    /// A token of somebody with this role in a place.
    pub async fn token_of(&self, role: Role, at: &Place) -> String {
        let user = self.with_role(role, at).await;
        self.token(&user, None).await
    }

    /// A session of somebody's, without their password.
    pub async fn session(&self, user: &User) -> String {
        let session = format!("undoo_{}", user.id.uuid().simple());
        let until = now() + SignedDuration::from_hours(1);
        let hash: [u8; 32] = Sha256::digest(session.as_bytes()).into();
        access::session_insert(&self.store, hash, user.id, until).await.unwrap();
        session
    }

    /// Listens, until the platform is gone. Answers the address with no slash at its end.
    pub async fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(undoo_server::serve(listener, self.router.clone(), self.stop.clone()));
        format!("http://{address}")
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The time, as it is kept.
pub fn now() -> Timestamp {
    Timestamp::from_microsecond(Timestamp::now().as_microsecond()).unwrap()
}
