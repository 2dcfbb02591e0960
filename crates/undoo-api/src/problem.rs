//! Errors on the wire: `application/problem+json` (RFC 9457), from a [`Problem`] and back.
//!
//! Both directions stand here, so that an error reads the same on both ends. What lies underneath a problem
//! never travels.

use serde::{Deserialize, Serialize};
use undoo_core::{Finding, Kind, Problem};
use utoipa::ToSchema;

/// The content type.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// The code of a request that nobody stands behind: no session and no token, or one that ended.
pub const NOT_SIGNED_IN: &str = "not_signed_in";

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemDetails {
    /// Always `about:blank`: what the problem is, `code` says.
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    pub r#type: String,
    /// The HTTP status in words.
    #[schema(example = "Forbidden")]
    pub title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599, example = 403)]
    pub status: u16,
    /// What went wrong, naming the thing and the cause, and what to do next. For people.
    #[schema(example = "You may see this project, but not restore its backups. Ask an admin of the \
                        organisation for the permission project.backups.restore.")]
    pub detail: String,
    /// Stable name of the problem. For programs.
    #[schema(example = "missing_permission")]
    pub code: String,
    /// What sort of problem it is: more kinds share a status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// The end of `detail` that says what to do next; left out where nothing can be done.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
    /// What the log of the server has about this request.
    #[serde(default)]
    pub request_id: String,
    /// The fields that are wrong, where it is about fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// The findings that stand in the way, where some do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// The field, with dots: `target.environment_id`.
    #[schema(example = "target.environment_id")]
    pub field: String,
    /// What is wrong with it.
    #[schema(example = "is required for the mode existing")]
    pub message: String,
}

impl ProblemDetails {
    /// A problem as it travels.
    pub fn new(problem: &Problem, request_id: impl Into<String>) -> Self {
        let (status, remedy) = (status(problem), problem.next_step());
        Self {
            r#type: "about:blank".into(),
            title: title(status).into(),
            status,
            detail: joined(&problem.message, &remedy),
            code: problem.code.into(),
            kind: Some(problem.kind),
            remedy,
            request_id: request_id.into(),
            errors: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// The same about fields of the request: 422, whatever its kind would have said.
    #[must_use]
    pub fn about(mut self, errors: Vec<FieldError>) -> Self {
        if !errors.is_empty() {
            self.status = 422;
            self.title = title(422).into();
        }
        self.errors = errors;
        self
    }

    /// The same with the findings that stand in the way.
    #[must_use]
    pub fn because_of(mut self, findings: Vec<Finding>) -> Self {
        self.findings = findings;
        self
    }

    /// The problem that was sent, with its fields named in the message.
    pub fn into_problem(self) -> Problem {
        let kind = self.kind.unwrap_or_else(|| kind(self.status));
        let mut message = match self.remedy.as_str() {
            "" => self.detail.as_str(),
            remedy => self.detail.strip_suffix(remedy).map_or(self.detail.as_str(), parted),
        }
        .to_owned();
        for error in &self.errors {
            message = format!("{message}; {}: {}", error.field, error.message);
        }
        Problem::from_wire(kind, &self.code, message, self.remedy)
    }
}

/// What stands between a message and its remedy: a message may end a sentence, or not.
const BETWEEN: &str = ". ";

fn joined(message: &str, remedy: &str) -> String {
    match remedy {
        "" => message.to_owned(),
        remedy => format!("{message}{BETWEEN}{remedy}"),
    }
}

fn parted(message: &str) -> &str {
    message.strip_suffix(BETWEEN).unwrap_or(message)
}

/// The HTTP status of a problem, where it is not about fields.
pub fn status(problem: &Problem) -> u16 {
    match problem.kind {
        Kind::Invalid => 400,
        Kind::Denied if problem.code == NOT_SIGNED_IN => 401,
        Kind::Denied => 403,
        Kind::Missing => 404,
        Kind::Conflict => 409,
        Kind::Refused => 422,
        Kind::Unavailable => 503,
        Kind::NotProven | Kind::Stuck | Kind::Cancelled | Kind::Internal => 500,
    }
}

/// What an answer that does not say it is taken for: it comes from a proxy, or from somebody else.
pub fn kind(status: u16) -> Kind {
    match status {
        401 | 403 => Kind::Denied,
        404 | 410 => Kind::Missing,
        409 => Kind::Conflict,
        408 | 425 | 429 | 502..=504 => Kind::Unavailable,
        400..=499 => Kind::Invalid,
        _ => Kind::Internal,
    }
}

fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        409 => "Conflict",
        422 => "Unprocessable Content",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_the_same_on_both_ends() {
        let kinds = [
            Kind::Invalid,
            Kind::Refused,
            Kind::Missing,
            Kind::Denied,
            Kind::Conflict,
            Kind::Unavailable,
            Kind::NotProven,
            Kind::Stuck,
            Kind::Cancelled,
            Kind::Internal,
        ];
        for kind in kinds {
            for remedy in ["", "wait, then try again"] {
                let sent = Problem::new(kind, "a_code", "the backup is not complete", remedy);
                let wire = serde_json::to_string(&ProblemDetails::new(&sent, "r-1")).unwrap();
                let read: ProblemDetails = serde_json::from_str(&wire).unwrap();
                let read = read.into_problem();
                assert_eq!((read.kind, read.code), (sent.kind, sent.code));
                assert_eq!((read.message, read.remedy), (sent.message.clone(), sent.next_step()));
            }
        }
    }

    #[test]
    fn the_detail_says_what_to_do_and_the_fields_are_named() {
        let problem = Problem::new(Kind::Invalid, "fields", "the request has a wrong field", "correct it");
        let errors = vec![FieldError { field: "target.mode".into(), message: "is not one of these".into() }];
        let details = ProblemDetails::new(&problem, "r-1").about(errors);
        assert_eq!((details.status, details.title.as_str()), (422, "Unprocessable Content"));
        assert_eq!(details.detail, "the request has a wrong field. Correct it");
        let message = details.into_problem().message;
        assert_eq!(message, "the request has a wrong field; target.mode: is not one of these");
    }

    #[test]
    fn only_who_is_not_signed_in_is_told_to_sign_in() {
        let denied = |code| status(&Problem::new(Kind::Denied, code, "", ""));
        assert_eq!((denied(NOT_SIGNED_IN), denied("missing_permission")), (401, 403));
    }
}
