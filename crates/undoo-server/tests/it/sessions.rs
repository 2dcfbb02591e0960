//! Signing in by password and cookie, and what tokens may do.

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use undoo_core::platform::{EnvironmentType, Role};

use crate::platform::{Answered, Platform};

const PASSWORD: &str = "correct horse battery staple";

async fn by_cookie(platform: &Platform, method: Method, path: &str, session: &str, body: Value) -> Answered {
    let request = Request::builder().method(method).uri(path).header("x-requested-with", "portal");
    let request = request.header(header::COOKIE, format!("undoo_session={session}"));
    let request = request.header(header::HOST, "undo.example");
    platform.send(request.body(Body::from(body.to_string())).unwrap()).await
}

/// The session that an answer opens.
fn session(answered: &Answered) -> String {
    let cookie = answered.headers[header::SET_COOKIE].to_str().unwrap();
    for part in ["HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(part), "{part} is not in {cookie}");
    }
    let value = cookie.split(';').next().unwrap();
    value.strip_prefix("undoo_session=").unwrap().to_owned()
}

#[tokio::test]
async fn a_platform_is_set_up_once_and_its_admin_signs_in_and_out() {
    let platform = Platform::on_sqlite().await;
    let link = platform.control.first_start().await.unwrap().unwrap();
    let setup = json!({ "token": link.expose_secret(), "email": "Ada@Example.com", "name": "Ada",
        "password": PASSWORD, "organization_name": "Acme" });
    let answered = platform.post("/api/v1/auth/setup", "", setup.clone()).await;
    assert_eq!(answered.status, StatusCode::CREATED, "{}", answered.json());
    assert_eq!(answered.json()["email"], "ada@example.com");
    assert_eq!(platform.post("/api/v1/auth/setup", "", setup).await.status, StatusCode::FORBIDDEN);

    let login = |password: &str| json!({ "email": "ADA@example.com", "password": password });
    let wrong = platform.post("/api/v1/auth/login", "", login("wrong")).await;
    assert_eq!((wrong.status, wrong.code().as_str()), (StatusCode::FORBIDDEN, "wrong_login"));
    let answered = platform.post("/api/v1/auth/login", "", login(PASSWORD)).await;
    assert_eq!(answered.status, StatusCode::OK);
    let session = session(&answered);
    let me = by_cookie(&platform, Method::GET, "/api/v1/auth/me", &session, json!({})).await;
    assert_eq!(me.json()["user"]["is_portal_admin"], true, "{}", me.json());
    assert_eq!(me.json()["organizations"][0]["role"], "owner");

    let out = by_cookie(&platform, Method::POST, "/api/v1/auth/logout", &session, json!({})).await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    let me = by_cookie(&platform, Method::GET, "/api/v1/auth/me", &session, json!({})).await;
    assert_eq!((me.status, me.code().as_str()), (StatusCode::UNAUTHORIZED, "not_signed_in"));
}

#[tokio::test]
async fn an_invitation_is_accepted_once_with_a_password_of_ones_own() {
    let platform = Platform::on_sqlite().await;
    let place = platform.place(EnvironmentType::Staging).await;
    let owner = platform.with_role(Role::OrgOwner, &place).await;
    let own = platform.session(&owner).await;
    let new = json!({ "email": "maria@example.com", "name": "Maria", "organization_id": place.organisation.id,
        "role": "member" });
    let token = platform.token(&owner, None).await;
    assert_eq!(platform.post("/api/v1/users", &token, new.clone()).await.code(), "scope_needed");
    let invited = by_cookie(&platform, Method::POST, "/api/v1/users", &own, new).await;
    assert_eq!(invited.status, StatusCode::CREATED, "{}", invited.json());
    let (secret, url) = (&invited.json()["invitation"], &invited.json()["url"]);
    assert_eq!(*url, format!("http://undo.example/setup#invitation={}", secret.as_str().unwrap()));
    let accept = json!({ "token": invited.json()["invitation"], "password": PASSWORD });
    let accepted = platform.post("/api/v1/auth/invitations/accept", "", accept.clone()).await;
    assert_eq!(accepted.status, StatusCode::OK, "{}", accepted.json());
    let session = session(&accepted);
    let me = by_cookie(&platform, Method::GET, "/api/v1/auth/me", &session, json!({})).await;
    assert_eq!(me.json()["user"]["email"], "maria@example.com");
    let again = platform.post("/api/v1/auth/invitations/accept", "", accept).await;
    assert_eq!(again.status, StatusCode::FORBIDDEN);

    let path = format!("/api/v1/users/{}", invited.json()["user"]["id"].as_str().unwrap());
    let link = by_cookie(&platform, Method::POST, &format!("{path}/invitation"), &own, json!({})).await;
    assert_eq!(link.status, StatusCode::CREATED, "{}", link.json());
    let anew = json!({ "token": link.json()["invitation"], "password": "another battery staple" });
    let accepted = platform.post("/api/v1/auth/invitations/accept", "", anew).await;
    assert_eq!(accepted.status, StatusCode::OK, "{}", accepted.json());
    let me = by_cookie(&platform, Method::GET, "/api/v1/auth/me", &session, json!({})).await;
    assert_eq!(me.status, StatusCode::UNAUTHORIZED, "the session of the old password");
    let disabled = by_cookie(&platform, Method::PATCH, &path, &own, json!({ "disabled": true })).await;
    assert!(disabled.json()["disabled_at"].is_string(), "{}", disabled.json());
    let login = json!({ "email": "maria@example.com", "password": "another battery staple" });
    assert_eq!(platform.post("/api/v1/auth/login", "", login).await.code(), "wrong_login");
}

#[tokio::test]
async fn a_form_of_another_site_signs_nobody_in() {
    let platform = Platform::on_sqlite().await;
    let bodies = [
        ("login", json!({ "email": "a@example.com", "password": PASSWORD })),
        (
            "setup",
            json!({ "token": "no", "email": "a@example.com", "name": "A", "password": PASSWORD,
            "organization_name": "Acme" }),
        ),
        ("invitations/accept", json!({ "token": "no", "password": PASSWORD })),
    ];
    for (path, body) in bodies {
        let send = async |headers: &[(&str, &str)]| {
            let mut request = Request::builder().method(Method::POST).uri(format!("/api/v1/auth/{path}"));
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            platform.send(request.body(Body::from(body.to_string())).unwrap()).await.code()
        };
        assert_eq!(send(&[("content-type", "text/plain")]).await, "cross_site", "{path}");
        assert_eq!(send(&[]).await, "cross_site", "{path}");
        let json = ("content-type", "application/json");
        assert_eq!(send(&[json, ("sec-fetch-site", "cross-site")]).await, "cross_site", "{path}");
        assert_ne!(send(&[json]).await, "cross_site", "{path}");
    }
}

/// A page that leads to these addresses and no others, all of this server; and its script.
async fn page_of(platform: &Platform, path: &str, leads_to: &[&str]) -> (String, String) {
    let page = platform.get(path, "").await;
    assert_eq!(page.status, StatusCode::OK);
    let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    let addresses: Vec<_> = page.split('"').filter(|text| text.starts_with('/')).collect();
    assert_eq!(addresses, leads_to);
    for address in addresses {
        let part = platform.get(address, "").await;
        assert_eq!(part.status, StatusCode::OK, "{address}");
        let text = String::from_utf8(part.body.to_vec()).unwrap();
        assert!(!text.contains("http:") && !text.contains("https:") && !text.contains("url("), "{address}");
    }
    let script = platform.get(&format!("{path}/page.js"), "").await;
    let script = String::from_utf8(script.body.to_vec()).unwrap();
    assert!(!script.contains("innerHTML"), "what the server says is text");
    (page, script)
}

fn asked_by(script: &str) -> Vec<&str> {
    script.split('"').filter(|text| text.starts_with("/api/")).collect()
}

#[tokio::test]
async fn the_page_that_deploys_needs_nobody_else_and_asks_what_the_api_asks() {
    let platform = Platform::on_sqlite().await;
    let leads_to = ["/pages.css", "/deploy/page.css", "/deploy/page.js"];
    let (page, script) = page_of(&platform, "/deploy", &leads_to).await;
    let document = serde_json::to_value(undoo_server::openapi()).unwrap();
    let asks = [
        ("/api/v1/auth/me", "get"),
        ("/api/v1/auth/login", "post"),
        ("/api/v1/auth/logout", "post"),
        ("/api/v1/environments/{environment_id}", "get"),
        ("/api/v1/environments/{environment_id}/deploy", "post"),
        ("/api/v1/migrations/{migration_id}", "get"),
        ("/api/v1/tasks", "get"),
        ("/api/v1/tasks/{task_id}", "get"),
    ];
    assert_eq!(asked_by(&script), asks.map(|(path, _)| path));
    for (path, method) in asks {
        assert!(document["paths"][path][method].is_object(), "{method} {path}");
    }
    for field in document["components"]["schemas"]["LoginRequest"]["required"].as_array().unwrap() {
        assert!(page.contains(&format!("name={field}")), "{field}");
    }
}

#[tokio::test]
async fn the_page_of_a_link_needs_nobody_else_and_asks_what_the_api_asks() {
    let platform = Platform::on_sqlite().await;
    let leads_to = ["/pages.css", "/setup/page.js", "/api/docs"];
    let (page, script) = page_of(&platform, "/setup", &leads_to).await;
    let document = serde_json::to_value(undoo_server::openapi()).unwrap();
    let asked = asked_by(&script);
    assert_eq!(asked, ["/api/v1/auth/setup", "/api/v1/auth/invitations/accept"]);
    for (path, schema) in asked.into_iter().zip(["SetupRequest", "InvitationRequest"]) {
        assert!(document["paths"][path]["post"].is_object(), "{path}");
        for field in document["components"]["schemas"][schema]["required"].as_array().unwrap() {
            let field = field.as_str().unwrap();
            let sent = field == "token" || script.contains(&format!("\"{field}\""));
            assert!(sent && (field == "token" || page.contains(&format!("name=\"{field}\""))), "{field}");
        }
    }
    // What is in the fragment of an address is sent to nobody, so a link leads to this very page.
    let link = undoo_server::LinkTo::Setup.url("http://undo.example", &"undoo_x".into());
    assert_eq!(link, "http://undo.example/setup#token=undoo_x");
}

#[tokio::test]
async fn a_form_of_another_site_cannot_use_a_session() {
    let platform = Platform::on_sqlite().await;
    let place = platform.place(EnvironmentType::Staging).await;
    let user = platform.with_role(Role::OrgOwner, &place).await;
    let session = platform.session(&user).await;
    let path = format!("/api/v1/backups/{}", place.backup.id);
    let delete = |origin: &str| {
        let request =
            Request::builder().method(Method::DELETE).uri(&path).header(header::HOST, "undo.example");
        let request = request.header(header::ORIGIN, origin);
        request.header(header::COOKIE, format!("undoo_session={session}")).body(Body::empty()).unwrap()
    };
    let answered = platform.send(delete("https://evil.example")).await;
    assert_eq!((answered.status, answered.code().as_str()), (StatusCode::FORBIDDEN, "cross_site"));
    // From here it goes on to what the restore that reads it says.
    let answered = platform.send(delete("https://undo.example")).await;
    assert_ne!(answered.code(), "cross_site");
}

#[tokio::test]
async fn a_token_does_what_its_scopes_say_until_it_is_revoked() {
    let platform = Platform::on_sqlite().await;
    let place = platform.place(EnvironmentType::Staging).await;
    let user = platform.with_role(Role::OrgOwner, &place).await;
    let session = platform.session(&user).await;
    let new = json!({ "name": "looks", "scopes": ["project.backups.view"], "expires_in_days": 1 });
    let made = by_cookie(&platform, Method::POST, "/api/v1/tokens", &session, new).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.json());
    let (token, id) = (made.json()["token"].as_str().unwrap().to_owned(), made.json()["id"].clone());
    let path = format!("/api/v1/backups/{}", place.backup.id);
    assert_eq!(platform.get(&path, &token).await.status, StatusCode::OK);
    let deleted = platform.ask(Method::DELETE, &path, &token, None).await;
    assert_eq!((deleted.status, deleted.code().as_str()), (StatusCode::FORBIDDEN, "missing_permission"));
    // What a token could make, it could outlive.
    let another = platform.post("/api/v1/tokens", &token, json!({ "name": "more" })).await;
    assert_eq!(another.status, StatusCode::FORBIDDEN);

    let listed = by_cookie(&platform, Method::GET, "/api/v1/tokens", &session, json!({})).await;
    assert!(!String::from_utf8_lossy(&listed.body).contains(&token), "a token is shown once");
    let path_of_token = format!("/api/v1/tokens/{}", id.as_str().unwrap());
    let revoked = by_cookie(&platform, Method::DELETE, &path_of_token, &session, json!({})).await;
    assert!(revoked.json()["revoked_at"].is_string(), "{}", revoked.json());
    assert_eq!(platform.get(&path, &token).await.status, StatusCode::UNAUTHORIZED);
}
