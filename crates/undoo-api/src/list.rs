//! Lists: an array, page by page, with `X-Total-Count` and `Link` beside it (RFC 8288).

use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

/// Items of a page when nobody says.
pub const PAGE_SIZE: u64 = 20;
/// The most items that a page may have.
pub const MOST_PAGE_SIZE: u64 = 100;
/// How many items the whole list has.
pub const TOTAL_COUNT: &str = "X-Total-Count";

/// The number of a page, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct PageNumber(u64);

/// How many items a page has: 1 to [`MOST_PAGE_SIZE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct PageSize(u64);

impl Default for PageNumber {
    fn default() -> Self {
        Self(1)
    }
}

impl Default for PageSize {
    fn default() -> Self {
        Self(PAGE_SIZE)
    }
}

impl TryFrom<u64> for PageNumber {
    type Error = String;

    fn try_from(number: u64) -> Result<Self, String> {
        // No list is so long, and a page beyond it could not be computed everywhere.
        const MOST: u64 = 1_000_000_000;
        match number {
            1..=MOST => Ok(Self(number)),
            number => Err(format!("a page's number is 1 to {MOST}, not {number}")),
        }
    }
}

impl TryFrom<u64> for PageSize {
    type Error = String;

    fn try_from(size: u64) -> Result<Self, String> {
        match size {
            1..=MOST_PAGE_SIZE => Ok(Self(size)),
            size => Err(format!("a page has 1 to {MOST_PAGE_SIZE} items, not {size}")),
        }
    }
}

impl From<PageNumber> for u64 {
    fn from(number: PageNumber) -> Self {
        number.0
    }
}

impl From<PageSize> for u64 {
    fn from(size: PageSize) -> Self {
        size.0
    }
}

/// Which page of a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// The number of the page, from 1.
    #[serde(default)]
    #[param(value_type = u64, minimum = 1, maximum = 1_000_000_000, default = 1)]
    pub page: PageNumber,
    /// How many items a page has.
    #[serde(default)]
    #[param(value_type = u64, minimum = 1, maximum = 100, default = 20)]
    pub page_size: PageSize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_the_first_with_twenty_items_unless_somebody_says_otherwise() {
        let query: ListQuery = serde_json::from_str("{}").unwrap();
        assert_eq!((u64::from(query.page), u64::from(query.page_size)), (1, 20));
    }

    #[test]
    fn a_page_has_one_to_a_hundred_items_and_pages_count_from_one() {
        let size = |size: u64| serde_json::from_value::<ListQuery>(serde_json::json!({ "page_size": size }));
        assert!(size(1).is_ok() && size(100).is_ok());
        assert!(size(0).is_err() && size(101).is_err());
        let page = |page: u64| serde_json::from_value::<ListQuery>(serde_json::json!({ "page": page }));
        assert!(page(1).is_ok());
        assert!(page(0).is_err() && page(u64::MAX).is_err());
    }
}
