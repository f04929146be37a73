//! Pages and opaque cursors: the sort key of a page's last row, and of which list it is.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Error;

/// How many rows a page has unless told.
pub const LIMIT_DEFAULT: u32 = 50;
/// How many rows a page has at most.
pub const LIMIT_MAX: u32 = 500;

/// Which page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Where it begins: what the page before said; none for the first.
    pub after: Option<String>,
    /// How many rows at most; held between 1 and [`LIMIT_MAX`].
    pub limit: u32,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { after: None, limit: LIMIT_DEFAULT }
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the next page begins; none on the last.
    pub next: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Cursor<K> {
    list: String,
    key: K,
}

impl PageRequest {
    /// The sort key after which the page begins.
    pub(super) fn key<K: DeserializeOwned>(&self, list: &str) -> Result<Option<K>, Error> {
        let Some(after) = &self.after else { return Ok(None) };
        let bytes = URL_SAFE_NO_PAD.decode(after).map_err(|_| Error::BadCursor)?;
        let cursor: Cursor<K> = serde_json::from_slice(&bytes).map_err(|_| Error::BadCursor)?;
        if cursor.list == list { Ok(Some(cursor.key)) } else { Err(Error::BadCursor) }
    }

    /// How many rows to read: one more than the page has, to know whether there is a next one.
    pub(super) fn rows(&self) -> i64 {
        i64::from(self.limit_held()) + 1
    }

    /// The page of what was read.
    pub(super) fn page<T, K: Serialize>(
        &self,
        list: &str,
        mut rows: Vec<T>,
        key: impl Fn(&T) -> K,
    ) -> Page<T> {
        let limit = self.limit_held() as usize;
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| has_more).map(|last| {
            let cursor = Cursor { list: list.to_owned(), key: key(last) };
            let json = serde_json::to_vec(&cursor)
                .expect("keys are texts, numbers and dates, which always serialise");
            URL_SAFE_NO_PAD.encode(json)
        });
        Page { items: rows, next }
    }

    fn limit_held(&self) -> u32 {
        self.limit.clamp(1, LIMIT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(cursor: &str) -> PageRequest {
        PageRequest { after: Some(cursor.into()), limit: 2 }
    }

    #[test]
    fn a_page_names_where_the_next_one_begins() {
        let first = PageRequest { after: None, limit: 2 };
        let page = first.page("numbers", vec![1, 2, 3], |n| *n);
        assert_eq!(page.items, [1, 2]);
        let next = after(&page.next.unwrap());
        assert_eq!(next.key::<i32>("numbers").unwrap(), Some(2));
        assert_eq!(next.page("numbers", vec![3], |n| *n).next, None);
    }

    #[test]
    fn what_is_not_a_cursor_of_the_list_is_refused() {
        let of_another_list =
            PageRequest { after: None, limit: 1 }.page("letters", vec!["a", "b"], |l| *l).next;
        for bad in ["", "!", "AAAA", "eyJrIjoxfQ", &of_another_list.unwrap()] {
            assert!(matches!(after(bad).key::<i32>("numbers"), Err(Error::BadCursor)), "{bad:?}");
        }
    }
}
