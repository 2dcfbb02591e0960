//! Who sends a request: a bearer token, or the session in a cookie.
//!
//! Another site can make a browser send our cookie along. So a request that changes something and comes
//! by cookie has to carry what another site cannot make it carry: a header of its own, or our origin. The
//! cookie is `SameSite=Lax` besides.

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{HeaderMap, HeaderValue, header, request::Parts},
};
use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};
use secrecy::{ExposeSecret, SecretString};
use tracing::Span;
use undoo_control::{Caller, Control};

use super::id::RequestId;
use crate::{
    App,
    failure::{Failure, Result},
};

/// The cookie that holds a session.
pub const COOKIE: &str = "undoo_session";
/// Any value of it says that a page of ours, and no form of another site, sent the request.
pub const OWN_HEADER: &str = "x-requested-with";

/// What somebody is recognised by.
#[derive(Debug, Clone)]
pub enum Shown {
    /// A bearer token.
    Token(SecretString),
    /// A session.
    Session(SecretString),
}

impl Shown {
    /// What a request shows.
    ///
    /// # Errors
    /// `not_signed_in` (401) for nothing, `cross_site` (403) for a write by cookie from who knows where.
    pub fn of(parts: &Parts) -> Result<Self> {
        if let Some(value) = parts.headers.get(header::AUTHORIZATION) {
            let token = value.to_str().ok().and_then(|text| {
                let (scheme, token) = text.split_once(' ')?;
                scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
            });
            return match token {
                Some(token) if !token.is_empty() => Ok(Self::Token(token.into())),
                _ => Err(Failure::not_signed_in("the header Authorization holds no bearer token")),
            };
        }
        let Some(session) = session(&parts.headers) else {
            return Err(Failure::not_signed_in("nobody is signed in"));
        };
        if !parts.method.is_safe() && !from_here(&parts.headers) {
            return Err(undoo_core::Problem::new(
                undoo_core::problem::Kind::Denied,
                "cross_site",
                "the request came by cookie and does not say that a page of this server sent it",
                "Send the header X-Requested-With with any value, or use a token.",
            )
            .into());
        }
        Ok(Self::Session(session))
    }

    /// Who that is now.
    pub async fn caller(&self, control: &Control, request_id: &str) -> Result<Caller> {
        let caller = match self {
            Self::Token(token) => control.caller_of_token(token.expose_secret(), request_id).await,
            Self::Session(session) => control.caller_of_session(session.expose_secret(), request_id).await,
        };
        Ok(caller?)
    }
}

/// A request that opens a session without showing one. Another site could make a browser send it, too, and so
/// sign its visitor in as somebody else: it has to be sent in a way that a form cannot, and not to come from
/// elsewhere as far as the browser says.
pub struct OwnPage;

impl<S> FromRequestParts<S> for OwnPage
where
    S: Send + Sync,
    App: FromRef<S>,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let app = App::from_ref(state);
        match opens_session(&parts.headers, app.settings.public_url.as_deref()) {
            true => Ok(Self),
            false => Err(undoo_core::Problem::new(
                undoo_core::problem::Kind::Denied,
                "cross_site",
                "the request may be a form of another site",
                "Send it as application/json, from a page of this server or from none.",
            )
            .into()),
        }
    }
}

fn opens_session(headers: &HeaderMap, public_url: Option<&str>) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if !matches!(text("sec-fetch-site"), None | Some("same-origin" | "none")) {
        return false;
    }
    let own_header = headers.contains_key(OWN_HEADER);
    let media_type = text("content-type").and_then(|kind| kind.split(';').next()).unwrap_or_default();
    let is_json = media_type.trim().eq_ignore_ascii_case("application/json");
    let from_here = text("origin").is_none_or(|origin| Some(origin) == public_url) || from_here(headers);
    (is_json || own_header) && from_here
}

/// The session that a request shows.
pub fn session(headers: &HeaderMap) -> Option<SecretString> {
    let jar = CookieJar::from_headers(headers);
    Some(jar.get(COOKIE)?.value().to_owned().into())
}

fn from_here(headers: &HeaderMap) -> bool {
    if headers.contains_key(OWN_HEADER) {
        return true;
    }
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let origin = text(header::ORIGIN).and_then(|origin| origin.split_once("://"));
    let host = text(header::HOST);
    matches!((origin, host), (Some((_, origin)), Some(host)) if origin.eq_ignore_ascii_case(host))
}

/// The cookie for a session; without one, the cookie that takes it away.
pub fn cookie(session: Option<&SecretString>, secure: bool) -> HeaderValue {
    let mut cookie =
        Cookie::new(COOKIE, session.map(|session| session.expose_secret().to_owned()).unwrap_or_default());
    cookie.set_http_only(true);
    cookie.set_same_site(SameSite::Lax);
    cookie.set_path("/");
    cookie.set_secure(secure);
    if session.is_none() {
        cookie.make_removal();
    }
    HeaderValue::from_str(&cookie.to_string()).expect("sessions are letters and digits")
}

/// Who sends the request.
pub struct By(pub Caller);

impl<S> FromRequestParts<S> for By
where
    S: Send + Sync,
    App: FromRef<S>,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let app = App::from_ref(state);
        let id = parts.extensions.get::<RequestId>().cloned();
        let id = id.as_ref().map(RequestId::as_str).unwrap_or_default();
        let caller = Shown::of(parts)?.caller(&app.control, id).await?;
        Span::current().record("user_id", tracing::field::display(caller.user.id));
        Ok(Self(caller))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn shown(method: &str, headers: &[(&str, &str)]) -> Result<Shown, u16> {
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        use axum::response::IntoResponse;
        Shown::of(&parts).map_err(|failure| failure.into_response().status().as_u16())
    }

    #[test]
    fn a_write_by_cookie_is_taken_only_from_pages_of_this_server() {
        let cookie = ("cookie", "undoo_session=abc");
        let host = ("host", "undo.example:8443");
        assert!(matches!(shown("GET", &[cookie]), Ok(Shown::Session(_))));
        assert_eq!(shown("POST", &[cookie, host]).unwrap_err(), 403);
        assert_eq!(shown("DELETE", &[cookie, host, ("origin", "https://evil.example")]).unwrap_err(), 403);
        assert_eq!(shown("POST", &[cookie, host, ("origin", "null")]).unwrap_err(), 403);
        assert!(shown("POST", &[cookie, host, ("origin", "https://undo.example:8443")]).is_ok());
        assert!(shown("POST", &[cookie, host, ("x-requested-with", "portal")]).is_ok());
    }

    #[test]
    fn a_session_is_not_opened_by_a_form_of_another_site() {
        let opens = |headers: &[(&str, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in [("host", "10.0.0.1:8400")].iter().chain(headers) {
                let name: axum::http::HeaderName = name.parse().unwrap();
                map.insert(name, value.parse().unwrap());
            }
            opens_session(&map, Some("https://undo.example"))
        };
        let json = ("content-type", "application/json; charset=utf-8");
        assert!(opens(&[json]));
        assert!(opens(&[("x-requested-with", "undoo")]));
        assert!(!opens(&[]));
        assert!(!opens(&[("content-type", "text/plain")]));
        assert!(!opens(&[("content-type", "application/x-www-form-urlencoded")]));
        assert!(opens(&[json, ("sec-fetch-site", "same-origin"), ("origin", "https://undo.example")]));
        assert!(opens(&[json, ("origin", "http://10.0.0.1:8400")]));
        assert!(!opens(&[json, ("origin", "https://evil.example")]));
        assert!(!opens(&[json, ("sec-fetch-site", "cross-site")]));
        assert!(!opens(&[json, ("sec-fetch-site", "same-site"), ("x-requested-with", "undoo")]));
    }

    #[test]
    fn a_broken_authorization_is_not_made_up_for_by_a_cookie() {
        let cookie = ("cookie", "undoo_session=abc");
        assert_eq!(shown("GET", &[cookie, ("authorization", "Basic YTpi")]).unwrap_err(), 401);
        assert_eq!(shown("GET", &[]).unwrap_err(), 401);
        assert!(matches!(shown("POST", &[("authorization", "bearer t")]), Ok(Shown::Token(_))));
    }
}
