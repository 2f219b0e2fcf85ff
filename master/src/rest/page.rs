//! Lists in pages: never longer than asked for, never longer than is good, continued by a cursor.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;

const DEFAULT_LIMIT: u32 = 100;
pub(super) const MAX_LIMIT: u32 = 1000;
/// Records within records (a job's tasks, say) that make a page end early.
const MAX_WEIGHT: usize = 20_000;
/// Longest cursor that can be one of ours.
const MAX_CURSOR: usize = 1024;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page<T> {
    /// At most `limit` of them; fewer where records are large.
    pub(super) items: Vec<T>,
    /// What `after` takes for the page that follows; `null` on the last page.
    pub(super) next: Option<String>,
}

/// Which part of a list, as it is asked for: every list takes this besides its own filters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// At most so many; 1 to 1000, 100 where it is not given.
    limit: Option<u32>,
    /// `next` of the page before.
    after: Option<String>,
}

impl PageQuery {
    /// Whether a parameter is one of these.
    pub(super) fn has(parameter: &str) -> bool {
        matches!(parameter, "limit" | "after")
    }
}

/// Where a record stands in its list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    name: String,
    first: u32,
    second: u32,
}

/// Which names come first. Numbers within one name count upwards.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    /// For names that grow with time.
    NewestFirst,
    ByName,
}

/// Which part of a list was asked for.
#[derive(Debug)]
pub(super) struct Paging {
    limit: usize,
    after: Option<Key>,
}

impl TryFrom<PageQuery> for Paging {
    type Error = Problem;

    fn try_from(asked: PageQuery) -> Result<Self, Problem> {
        Self::new(asked.limit, asked.after.as_deref())
    }
}

impl Paging {
    fn new(limit: Option<u32>, after: Option<&str>) -> Result<Self, Problem> {
        let limit = limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Problem::bad_request(format!(
                "limit is {limit}; it can be 1 to {MAX_LIMIT}"
            )));
        }
        let after = after.filter(|text| !text.is_empty());
        Ok(Self {
            limit: limit as usize,
            after: after.map(Key::parse).transpose()?,
        })
    }

    /// The page of `records` that was asked for. They come in `order`; `show` gives each with its weight:
    /// how many records are within it.
    pub(super) fn page<R, T>(
        &self,
        order: Order,
        records: impl IntoIterator<Item = R>,
        key: impl Fn(&R) -> Key,
        show: impl Fn(R) -> (T, usize),
    ) -> Page<T> {
        let is_before = |record: &R| match &self.after {
            Some(after) => key(record).compare(after, order) != Ordering::Greater,
            None => false,
        };
        let mut wanted = records.into_iter().skip_while(is_before).peekable();
        let mut items = vec![];
        let mut weight = 0;
        let mut last = None;
        for record in wanted.by_ref() {
            last = Some(key(&record));
            let (item, more) = show(record);
            items.push(item);
            weight += more;
            if items.len() == self.limit || weight >= MAX_WEIGHT {
                break;
            }
        }
        let next = match wanted.peek() {
            Some(_) => last.map(|key| key.to_text()),
            None => None,
        };
        Page { items, next }
    }
}

impl Key {
    pub(super) fn name(name: impl Into<String>) -> Self {
        Self::numbers(name, 0, 0)
    }

    pub(super) fn numbers(name: impl Into<String>, first: u32, second: u32) -> Self {
        Self {
            name: name.into(),
            first,
            second,
        }
    }

    pub(super) fn compare(&self, other: &Self, order: Order) -> Ordering {
        let names = match order {
            Order::NewestFirst => other.name.cmp(&self.name),
            Order::ByName => self.name.cmp(&other.name),
        };
        names.then((self.first, self.second).cmp(&(other.first, other.second)))
    }

    fn to_text(&self) -> String {
        format!("{}~{}~{}", self.name, self.first, self.second)
    }

    fn parse(text: &str) -> Result<Self, Problem> {
        let parts = |text: &str| {
            let (rest, second) = text.rsplit_once('~')?;
            let (name, first) = rest.rsplit_once('~')?;
            Some(Self::numbers(
                name,
                first.parse().ok()?,
                second.parse().ok()?,
            ))
        };
        let key = Some(text)
            .filter(|text| text.len() <= MAX_CURSOR)
            .and_then(parts);
        key.ok_or_else(|| {
            Problem::bad_request("after is no cursor of this list")
                .hint("take `next` of the page before, as it is")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(limit: u32, records: &[(&str, u32)], weight: usize) -> Vec<Vec<String>> {
        let mut pages = vec![];
        let mut after = None;
        loop {
            let paging = Paging::new(Some(limit), after.as_deref()).unwrap();
            let page = paging.page(
                Order::NewestFirst,
                records,
                |record| Key::numbers(record.0, record.1, 0),
                |record| (format!("{}{}", record.0, record.1), weight),
            );
            pages.push(page.items);
            after = page.next;
            if after.is_none() {
                return pages;
            }
        }
    }

    const RECORDS: &[(&str, u32)] = &[("c~c", 1), ("c~c", 2), ("b", 1), ("a", 1), ("a", 2)];

    #[test]
    fn pages_together_are_the_list() {
        for limit in 1..7 {
            let all: Vec<String> = pages(limit, RECORDS, 1).concat();
            assert_eq!(all, ["c~c1", "c~c2", "b1", "a1", "a2"], "limit {limit}");
        }
        assert_eq!(pages(2, RECORDS, 1).len(), 3);
        assert_eq!(pages(5, RECORDS, 1).len(), 1);
    }

    #[test]
    fn heavy_records_end_a_page_early() {
        assert_eq!(pages(1000, RECORDS, MAX_WEIGHT).len(), 5);
        assert_eq!(pages(1000, RECORDS, MAX_WEIGHT / 2).len(), 3);
    }

    #[test]
    fn a_cursor_whose_record_is_gone_goes_on_after_it() {
        let paging = Paging::new(None, Some("b~7~0")).unwrap();
        let key = |record: &&(&str, u32)| Key::numbers(record.0, record.1, 0);
        let page = paging.page(Order::NewestFirst, RECORDS, key, |r| (*r, 1));
        assert_eq!(page.items, [("a", 1), ("a", 2)]);
    }

    #[test]
    fn what_is_no_cursor_or_no_limit_is_refused() {
        for after in ["x", "x~1", "x~y~1", "x~1~-1", &"x".repeat(5000)] {
            assert!(Paging::new(None, Some(after)).is_err(), "{after}");
        }
        assert!(Paging::new(Some(0), None).is_err());
        assert!(Paging::new(Some(MAX_LIMIT + 1), None).is_err());
        assert!(Paging::new(None, Some("")).is_ok());
    }
}
