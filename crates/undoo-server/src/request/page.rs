//! Lists come in pages: which one is asked for, and the headers that say what else there is.

use axum::{
    Json,
    extract::{FromRequestParts, OriginalUri, Query},
    http::{HeaderName, HeaderValue, Uri, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};
use undoo_api::list::{ListQuery, TOTAL_COUNT};
use undoo_control::{Listed, MOST_COUNTED, Page};

use super::fields::{Asked, refused_query};
use crate::failure::{Failure, Result};

/// A page of a list, what else the list is narrowed by, and where in the list that is.
#[derive(Debug)]
pub struct Paged<T = ListQuery> {
    /// The page.
    pub page: Page,
    /// The query.
    pub asked: T,
    uri: Uri,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Paged<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let Ok(OriginalUri(uri)) = OriginalUri::from_request_parts(parts, state).await;
        let Asked(asked) = Asked::from_request_parts(parts, state).await?;
        // Each query of a list has the two fields of this one among its own.
        let paging = Uri::builder().path_and_query(format!("/?{}", query(&uri, is_paging))).build();
        let Query(ListQuery { page, page_size }) = Query::try_from_uri(&paging.unwrap_or_default())
            .map_err(|rejection| refused_query(&rejection))?;
        Ok(Self { page: Page { page: page.into(), size: page_size.into() }, asked, uri })
    }
}

impl<Q> Paged<Q> {
    /// The answer: the entries as they are shown, and in the headers how many there are and where the rest is.
    pub fn answer<T, W: Serialize>(&self, listed: Listed<T>, show: impl FnMut(T) -> W) -> Response {
        let entries: Vec<W> = listed.items.into_iter().map(show).collect();
        // A list is counted only so far; a full page of a longer one has another behind it.
        let is_full = entries.len() as u64 == self.page.size;
        let reach = match listed.total >= MOST_COUNTED && is_full {
            true => listed.total.max(self.page.page.saturating_mul(self.page.size).saturating_add(1)),
            false => listed.total,
        };
        let mut response = Json(entries).into_response();
        let headers = response.headers_mut();
        if let Ok(name) = HeaderName::try_from(TOTAL_COUNT) {
            headers.insert(name, listed.total.into());
        }
        if let Ok(links) = HeaderValue::from_str(&self.links(reach)) {
            headers.insert(header::LINK, links);
        }
        response
    }

    /// As RFC 8288 has them: `first`, `prev`, `next` and `last`, those that there are.
    fn links(&self, total: u64) -> String {
        let last = total.div_ceil(self.page.size).max(1);
        let number = self.page.page;
        let before = (number > 1).then(|| ("prev", (number - 1).min(last)));
        let after = (number < last).then_some(("next", number + 1));
        let places = [Some(("first", 1)), before, after, Some(("last", last))];
        let filters = query(&self.uri, |part| !is_paging(part));
        let and = if filters.is_empty() { "" } else { "&" };
        let (path, size) = (self.uri.path(), self.page.size);
        let link =
            |(rel, number)| format!("<{path}?{filters}{and}page={number}&page_size={size}>; rel=\"{rel}\"");
        places.into_iter().flatten().map(link).collect::<Vec<_>>().join(", ")
    }
}

fn is_paging(part: &str) -> bool {
    part.starts_with("page=") || part.starts_with("page_size=")
}

/// Those parts of a query.
fn query(uri: &Uri, keep: fn(&str) -> bool) -> String {
    let parts = uri.query().unwrap_or_default().split('&');
    parts.filter(|part| !part.is_empty() && keep(part)).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(uri: &'static str, page: u64, total: u64) -> String {
        Paged { page: Page { page, size: 20 }, asked: (), uri: Uri::from_static(uri) }.links(total)
    }

    #[test]
    fn links_keep_the_filters_and_name_only_pages_that_there_are() {
        let first = links("/api/v1/tasks?status=queued&page=1", 1, 45);
        assert_eq!(
            first,
            "</api/v1/tasks?status=queued&page=1&page_size=20>; rel=\"first\", \
             </api/v1/tasks?status=queued&page=2&page_size=20>; rel=\"next\", \
             </api/v1/tasks?status=queued&page=3&page_size=20>; rel=\"last\""
        );
        assert!(!links("/api/v1/tasks", 3, 45).contains("next"));
        assert!(links("/api/v1/tasks", 9, 45).contains("page=3&page_size=20>; rel=\"prev\""));
        assert!(links("/api/v1/tasks", 1, 0).contains("page=1&page_size=20>; rel=\"last\""));
    }
}
