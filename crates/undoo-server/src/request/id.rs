//! Every request has an id: it is in the answer, in failures, and in each line that the log has of it.

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use tracing::Instrument;

use crate::watch;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");
const LONGEST: usize = 64;

/// The id of a request.
#[derive(Debug, Clone)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The id that a request was given.
    pub fn of(request: &Request) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_else(Self::generate)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    fn generate() -> Self {
        let id = uuid::Uuid::now_v7().to_string();
        Self(HeaderValue::from_str(&id).expect("a UUID is hexadecimal digits and dashes"))
    }

    /// A proxy before us may have given one. What could be mistaken for something else in a log is none.
    fn sent(value: &HeaderValue) -> Option<Self> {
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        let bytes = value.as_bytes();
        ((1..=LONGEST).contains(&bytes.len()) && bytes.iter().all(fits)).then(|| Self(value.clone()))
    }
}

/// Gives each request its id, and the log its span.
pub async fn identified(mut request: Request, next: Next) -> Response {
    let id = request.headers().get(HEADER).and_then(RequestId::sent).unwrap_or_else(RequestId::generate);
    request.extensions_mut().insert(id.clone());
    let span = watch::span(&request, id.as_str());
    let mut response = next.run(request).instrument(span).await;
    response.headers_mut().insert(HEADER, id.0);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_from_a_proxy_is_kept_and_one_that_forges_a_log_is_not() {
        let sent = |text: &'static str| RequestId::sent(&HeaderValue::from_static(text)).is_some();
        assert!(sent("01JD-a_b.c"));
        assert!(!sent("") && !sent("a b") && !sent("x\" level=\"error"));
        assert!(RequestId::sent(&HeaderValue::from_bytes(&[b'a'; 65]).unwrap()).is_none());
    }
}
