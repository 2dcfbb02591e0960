//! Lists, a page at a time.

use sea_orm::{
    ConnectionTrait, EntityTrait, FromQueryResult, QuerySelect, QueryTrait, Select,
    sea_query::{Expr, Query},
};
use undoo_core::{Problem, Result};

use crate::failure::failure;

/// Most entries that are counted: a list that is longer says it has this many. Counting is the one thing
/// about a page that takes longer the more there is.
pub const MOST_COUNTED: u64 = 1_000;

/// Most entries of a page.
pub const LARGEST_PAGE: u64 = 100;

/// Which part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// From 1.
    pub page: u64,
    /// Entries on it, from 1 to [`LARGEST_PAGE`].
    pub size: u64,
}

impl Default for Page {
    fn default() -> Self {
        Self { page: 1, size: 20 }
    }
}

impl Page {
    pub(crate) fn limit(self) -> u64 {
        self.size.clamp(1, LARGEST_PAGE)
    }

    pub(crate) fn offset(self) -> u64 {
        let most = i64::MAX.unsigned_abs();
        (self.page.max(1) - 1).saturating_mul(self.limit()).min(most)
    }
}

/// A part of a list, and how long the whole is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// The entries.
    pub items: Vec<T>,
    /// How many there are on all pages, at most [`MOST_COUNTED`].
    pub total: u64,
}

impl<T> Listed<T> {
    pub(crate) fn try_map<U>(self, each: impl FnMut(T) -> Result<U>) -> Result<Listed<U>> {
        let items = self.items.into_iter().map(each).collect::<Result<_>>()?;
        Ok(Listed { items, total: self.total })
    }
}

/// A page of rows as what they mean.
pub(crate) async fn listed<E, T>(on: &impl ConnectionTrait, all: Select<E>, page: Page) -> Result<Listed<T>>
where
    E: EntityTrait,
    E::Model: FromQueryResult + Send + Sync,
    T: TryFrom<E::Model, Error = Problem>,
{
    listed_rows(on, all, page).await?.try_map(T::try_from)
}

/// A page of rows. `all` has its order.
pub(crate) async fn listed_rows<E>(
    on: &impl ConnectionTrait,
    all: Select<E>,
    page: Page,
) -> Result<Listed<E::Model>>
where
    E: EntityTrait,
    E::Model: FromQueryResult + Send + Sync,
{
    let (limit, offset) = (page.limit(), page.offset());
    let items = all.clone().limit(limit).offset(offset).all(on).await.map_err(failure)?;
    let seen = items.len() as u64;
    // The last page says by itself how long the list is.
    let is_last = seen < limit && (seen > 0 || offset == 0);
    let total = if is_last { offset + seen } else { count(on, all).await? };
    Ok(Listed { items, total })
}

async fn count<E: EntityTrait>(on: &impl ConnectionTrait, all: Select<E>) -> Result<u64> {
    let mut counted = all.select_only().expr(Expr::cust("1")).limit(MOST_COUNTED).into_query();
    counted.clear_order_by();
    let query = Query::select().expr(Expr::cust("COUNT(*)")).from_subquery(counted, "counted").to_owned();
    let row = on.query_one(&query).await.map_err(failure)?;
    let count: i64 = row.map_or(Ok(0), |row| row.try_get_by_index(0)).map_err(failure)?;
    Ok(count.unsigned_abs())
}
