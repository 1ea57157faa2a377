//! Lists that come in pages: at most so many records, and where the next page begins.

use super::problem::Problem;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// Records of a page when nothing is asked for.
pub const LIMIT_DEFAULT: u32 = 50;
/// Most records of a page.
pub const LIMIT_MAX: u32 = 500;
/// The longest cursor, in bytes of its text.
const CURSOR_BYTES_MAX: usize = 8192;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// The records.
    pub items: Vec<T>,
    /// What to pass as `cursor` for the next page; null at the end.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page of `items`, which hold one record more than `limit` when there are more pages. `position` tells of the last
    /// record of the page where the next one begins: it must be the key by which the list is ordered.
    pub fn of<P: Serialize>(mut items: Vec<T>, limit: Limit, position: impl Fn(&T) -> P) -> Self {
        let has_more = items.len() > limit.records();
        items.truncate(limit.records());
        let next_cursor = items.last().filter(|_| has_more).map(|last| Cursor::to_text(&position(last)));
        Self { items, next_cursor }
    }

    /// A page that somebody else has cut: `next` is where the next one begins.
    pub fn with_next<P: Serialize>(items: Vec<T>, next: Option<&P>) -> Self {
        Self { items, next_cursor: next.map(Cursor::to_text) }
    }

    /// A page of a list that is in memory as a whole, ordered by `position`: the records after the cursor.
    pub fn of_all<P: Serialize + Ord>(
        mut items: Vec<T>,
        limit: Limit,
        after: Option<P>,
        position: impl Fn(&T) -> P,
    ) -> Self {
        items.sort_by_key(|item| position(item));
        if let Some(after) = after {
            items.retain(|item| position(item) > after);
        }
        Self::of(items, limit, position)
    }
}

/// How many records a page may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(u32);

impl Default for Limit {
    fn default() -> Self {
        Self(LIMIT_DEFAULT)
    }
}

impl Limit {
    /// Records of a page.
    pub fn records(self) -> usize {
        self.0 as usize
    }

    /// One more than that: whether it is there says whether there is a next page.
    pub fn to_ask_for(self) -> u32 {
        self.0 + 1
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u32::deserialize(deserializer)?;
        if !(1..=LIMIT_MAX).contains(&number) {
            let words = format!("{number} is out of bounds, 1 to {LIMIT_MAX} is allowed");
            return Err(serde::de::Error::custom(words));
        }
        Ok(Self(number))
    }
}

/// Where a page begins. What is in it is the list's own business; a caller sees an opaque text. It is no secret and is not
/// trusted: a list looks at nothing but what its caller may see, wherever the page begins.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct Cursor(String);

impl Cursor {
    fn to_text<P: Serialize>(position: &P) -> String {
        // Positions are tuples of texts and numbers.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(position).unwrap_or_default())
    }

    /// The position that the text stands for.
    pub fn position<P: DeserializeOwned>(&self) -> Result<P, Problem> {
        let bad = || Problem::field("cursor", "is not one of this list");
        if self.0.len() > CURSOR_BYTES_MAX {
            return Err(bad());
        }
        let bytes = URL_SAFE_NO_PAD.decode(&self.0).map_err(|_| bad())?;
        serde_json::from_slice(&bytes).map_err(|_| bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(records: u32) -> Limit {
        Limit(records)
    }

    #[test]
    fn pages_leave_nothing_out_and_repeat_nothing_while_records_come_and_go() {
        let mut records: Vec<u32> = (0..10).collect();
        let first = Page::of_all(records.clone(), limit(4), None, |n| (*n,));
        assert_eq!(first.items, [0, 1, 2, 3]);
        records.retain(|n| *n != 2);
        records.push(100);
        let after: (u32,) = Cursor(first.next_cursor.unwrap()).position().unwrap();
        let second = Page::of_all(records.clone(), limit(4), Some(after), |n| (*n,));
        assert_eq!(second.items, [4, 5, 6, 7]);
        let after = Cursor(second.next_cursor.unwrap()).position().unwrap();
        let third = Page::of_all(records, limit(4), Some(after), |n| (*n,));
        assert_eq!((third.items, third.next_cursor), (vec![8, 9, 100], None));
    }

    #[test]
    fn a_page_that_ends_the_list_has_no_next_one() {
        let page = Page::of(vec![1, 2, 3], limit(3), |n| *n);
        assert_eq!(page.next_cursor, None);
        assert_eq!(Page::of(Vec::<u32>::new(), limit(3), |n| *n).next_cursor, None);
    }

    #[test]
    fn a_cursor_of_another_list_or_of_nobody_is_refused() {
        let of_numbers = Cursor(Cursor::to_text(&(1, 2)));
        assert_eq!(of_numbers.position::<(u32, u32)>().unwrap(), (1, 2));
        assert!(of_numbers.position::<(String,)>().is_err());
        for text in ["", "x", "!!!", &"A".repeat(CURSOR_BYTES_MAX + 1)] {
            assert!(Cursor(text.to_owned()).position::<(u32,)>().is_err(), "{text}");
        }
    }
}
