//! Lists as a client reads them: a page, or one item after another until there are no more.

use std::marker::PhantomData;

use futures_util::{Stream, TryStreamExt, stream};
use serde::{Serialize, de::DeserializeOwned};
use undoo_core::Result;

use super::Client;
use crate::list::{MOST_PAGE_SIZE, TOTAL_COUNT};

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// How many items the whole list has.
    pub total: u64,
}

/// A list that nothing was read of yet.
pub struct List<T> {
    client: Client,
    path: Vec<String>,
    filter: serde_json::Value,
    items: PhantomData<fn() -> T>,
}

impl Client {
    /// A list, narrowed by a query whose own page does not count.
    pub(super) fn list<T: DeserializeOwned>(&self, path: &[&str], query: &impl Serialize) -> List<T> {
        let mut filter = serde_json::to_value(query).unwrap_or_default();
        if let Some(fields) = filter.as_object_mut() {
            fields.retain(|name, _| !matches!(name.as_str(), "page" | "page_size"));
        }
        let path = path.iter().map(|&part| part.to_owned()).collect();
        List { client: self.clone(), path, filter, items: PhantomData }
    }
}

impl<T: DeserializeOwned> List<T> {
    /// A page: its number counts from 1, its size is at most [`MOST_PAGE_SIZE`].
    ///
    /// # Errors
    /// Those of the server, and of the way there.
    pub async fn page(&self, number: u64, size: u64) -> Result<Page<T>> {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let paging = serde_json::json!({ "page": number, "page_size": size });
        let call = self.client.get(&path).query(&self.filter)?.query(&paging)?;
        let (items, headers): (Vec<T>, _) = call.answer_with_headers().await?;
        let total = headers.get(TOTAL_COUNT).and_then(|total| total.to_str().ok()?.parse().ok());
        let total = total.unwrap_or(items.len() as u64);
        Ok(Page { items, total })
    }

    /// Every item, read page by page as they are asked for. One that moves from page to page meanwhile may
    /// come twice.
    pub fn stream(self) -> impl Stream<Item = Result<T>> {
        let pages = stream::try_unfold(Some((self, 1)), async |place| {
            let Some((list, number)) = place else { return Ok(None) };
            let page = list.page(number, MOST_PAGE_SIZE).await?;
            // Not by the total: a long list is counted only so far.
            let is_last = (page.items.len() as u64) < MOST_PAGE_SIZE;
            let next = (!is_last).then_some((list, number + 1));
            Ok::<_, undoo_core::Problem>(Some((stream::iter(page.items.into_iter().map(Ok)), next)))
        });
        pages.try_flatten()
    }

    /// All of it.
    ///
    /// # Errors
    /// As [`List::page`].
    pub async fn all(self) -> Result<Vec<T>> {
        self.stream().try_collect().await
    }
}
