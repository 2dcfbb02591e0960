//! Lists, a page at a time.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbBackend, EntityTrait, FromQueryResult, Iterable, PrimaryKeyToColumn,
    QueryFilter, QuerySelect, QueryTrait, Select,
    sea_query::{Expr, Query, SubQueryStatement},
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
    // With the page itself: asking costs more than counting.
    let asked = part(on.get_database_backend(), all.clone(), limit, offset);
    let asked = asked.expr_as(counted(all.clone()), TOTAL).into_query();
    let rows = on.query_all(&asked).await.map_err(failure)?;
    let total = match rows.first() {
        Some(row) => row.try_get("", TOTAL),
        None if offset == 0 => Ok(0),
        None => {
            let beyond = on.query_one(Query::select().expr_as(counted(all), TOTAL)).await.map_err(failure)?;
            beyond.map_or(Ok(0), |row| row.try_get("", TOTAL))
        }
    };
    let total: i64 = total.map_err(failure)?;
    let items = rows.iter().map(|row| E::Model::from_query_result(row, ""));
    let items: Vec<_> = items.collect::<Result<_, _>>().map_err(failure)?;
    // The last page says by itself how long the list is, also where it was not counted to its end.
    let seen = items.len() as u64;
    let is_last = seen > 0 && seen < limit;
    Ok(Listed { items, total: if is_last { offset + seen } else { total.unsigned_abs() } })
}

/// The rows of a part. PostgreSQL passes over those before it in the index, where they are small, and gets them as
/// an array of ids: joined to them it would read the whole table, as a plan for any limit takes it for a tenth of all.
fn part<E: EntityTrait>(backend: DbBackend, all: Select<E>, limit: u64, offset: u64) -> Select<E> {
    let mut key = E::PrimaryKey::iter().map(|column| column.into_column());
    let (DbBackend::Postgres, Some(id), None, 1..) = (backend, key.next(), key.next(), offset) else {
        return all.limit(limit).offset(offset);
    };
    let ids = all.clone().select_only().column(id).limit(limit).offset(offset).into_query();
    let ids = SubQueryStatement::from(ids);
    all.filter(Expr::cust_with_exprs("$1 = ANY(ARRAY($2))", [id.into_expr(), ids.into()]))
}

/// What the count is called among the columns of a row.
const TOTAL: &str = "_total";

fn counted<E: EntityTrait>(all: Select<E>) -> Expr {
    let mut rows = all.select_only().expr(Expr::cust("1")).limit(MOST_COUNTED).into_query();
    rows.clear_order_by();
    let count = Query::select().expr(Expr::cust("COUNT(*)")).from_subquery(rows, "counted").to_owned();
    SubQueryStatement::from(count).into()
}
