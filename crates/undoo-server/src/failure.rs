//! Failures as HTTP tells them: one body for all of them, `application/problem+json` (RFC 9457).
//!
//! Whatever a handler, an extractor or a layer answers with 4xx or 5xx leaves as such a body, also what the
//! libraries say by themselves. What an internal error was is for the log: the caller gets the request's id.

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use undoo_api::problem::{self, FieldError, ProblemDetails};
use undoo_core::{Finding, Kind, Problem};

use crate::request::id::RequestId;

/// What handlers return.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// A problem on its way to the caller.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    problem: Box<Problem>,
    errors: Vec<FieldError>,
    findings: Vec<Finding>,
}

impl Failure {
    /// One with the findings that stand in the way.
    pub fn because_of(problem: Problem, findings: Vec<Finding>) -> Self {
        Self { findings, ..problem.into() }
    }

    /// One that the kind of the problem gives no status for.
    pub fn with_status(status: StatusCode, code: &'static str, message: &str, remedy: &str) -> Self {
        let problem = Problem::new(Kind::Invalid, code, message, remedy);
        Self { status, problem: Box::new(problem), errors: Vec::new(), findings: Vec::new() }
    }

    /// A request whose fields are not what they should be.
    pub fn of_fields(errors: Vec<FieldError>) -> Self {
        let named = errors.iter().map(|error| format!("{}: {}", error.field, error.message));
        let message = named.collect::<Vec<_>>().join("; ");
        let remedy = "Mend what is named and send the request again.";
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            problem: Box::new(Problem::new(Kind::Invalid, "invalid_fields", message, remedy)),
            errors,
            findings: Vec::new(),
        }
    }

    /// A request with one such field.
    pub fn of_field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::of_fields(vec![FieldError { field: field.into(), message: message.into() }])
    }

    /// Nobody, or nobody any more, is signed in.
    pub fn not_signed_in(message: &str) -> Self {
        Problem::new(
            Kind::Denied,
            problem::NOT_SIGNED_IN,
            message,
            "Sign in, or send a token as \"Authorization: Bearer …\".",
        )
        .into()
    }

    fn details(&self, request_id: &str) -> ProblemDetails {
        let mut details = ProblemDetails::new(&self.problem, request_id);
        if self.problem.kind == Kind::Internal {
            details.detail = format!(
                "The server could not do this because of a defect of its own. Its log says more under \
                 the request id {request_id}."
            );
            details.remedy = String::new();
        }
        details.status = self.status.as_u16();
        details.title = self.status.canonical_reason().unwrap_or("Failure").to_owned();
        details.errors.clone_from(&self.errors);
        details.findings.clone_from(&self.findings);
        details
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let status =
            StatusCode::from_u16(problem::status(&problem)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, problem: Box::new(problem), errors: Vec::new(), findings: Vec::new() }
    }
}

impl IntoResponse for Failure {
    /// Without a body: [`told`] writes it, which knows the request's id.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(Told(std::sync::Arc::new(self)));
        response
    }
}

/// Extensions of a response are cloned, problems cannot be.
#[derive(Clone)]
struct Told(std::sync::Arc<Failure>);

/// Gives every failure its body.
pub async fn told(request: Request, next: Next) -> Response {
    let id = RequestId::of(&request);
    let response = next.run(request).await;
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let (mut parts, _) = response.into_parts();
    let failure = match parts.extensions.remove::<Told>() {
        Some(Told(failure)) => failure,
        None => std::sync::Arc::new(of_a_library(status)),
    };
    log(&failure);
    let body = serde_json::to_vec(&failure.details(id.as_str())).unwrap_or_default();
    let body = Body::from(body);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE));
    parts.headers.insert(header::CONTENT_LENGTH, body.size_hint().lower().into());
    if status == StatusCode::UNAUTHORIZED {
        parts.headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    Response::from_parts(parts, body)
}

fn log(failure: &Failure) {
    let Problem { code, message, .. } = &*failure.problem;
    if failure.status.is_server_error() {
        let causes = causes(&failure.problem);
        tracing::error!(code, message, causes, "a request failed");
    } else {
        tracing::debug!(code, message, "a request was refused");
    }
}

/// The errors underneath, from the outermost to the innermost.
fn causes(problem: &Problem) -> String {
    let mut causes = Vec::new();
    let mut next = std::error::Error::source(problem);
    while let Some(error) = next {
        causes.push(error.to_string());
        next = error.source();
    }
    causes.join(": ")
}

/// What a layer or the router refused by itself.
fn of_a_library(status: StatusCode) -> Failure {
    let (code, message, remedy) = match status {
        StatusCode::NOT_FOUND => {
            ("no_such_path", "there is nothing at this path", "See /api/docs for what there is.")
        }
        StatusCode::METHOD_NOT_ALLOWED => (
            "method_not_allowed",
            "this path does not take this method",
            "See the header Allow for those that it takes.",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => {
            ("body_too_large", "the body is larger than any request needs", "Send a smaller one.")
        }
        StatusCode::SERVICE_UNAVAILABLE => (
            "too_slow",
            "the answer was not ready in time",
            "Try again; if it stays, see how busy the database is.",
        ),
        _ => ("refused", "the request was refused", "See /api/docs for what is understood."),
    };
    Failure::with_status(status, code, message, remedy)
}

/// A handler that panicked.
pub fn of_a_panic(panic: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let said = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("nothing that can be shown");
    Failure::from(Problem::new(Kind::Internal, "panic", format!("a handler panicked: {said}"), ""))
        .into_response()
}
