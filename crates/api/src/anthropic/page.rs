//! Which part of a list a page shows: `limit`, `after_id` and `before_id` in all lists of this dialect.

use std::ops::Range;

use super::Failure;
use super::types::PageQuery;

/// Things on a page, unless the request says otherwise, and at most.
const DEFAULT: i64 = 20;
const MOST: i64 = 1000;

/// A part of a list.
pub(super) struct Shown {
    pub(super) range: Range<usize>,
    /// There is more in the direction in which the request looks.
    pub(super) has_more: bool,
}

/// The part of a list that is asked for; `missing` words that an id is not in it.
pub(super) fn shown(query: &PageQuery, ids: &[&str], missing: impl Fn(&str) -> Failure) -> Result<Shown, Failure> {
    let limit = query.limit.unwrap_or(DEFAULT);
    if !(1..=MOST).contains(&limit) {
        return Err(Failure::invalid(format!("limit: Input should be 1 to {MOST}, it is {limit}")));
    }
    let place = |id: &String| ids.iter().position(|known| known == id).ok_or_else(|| missing(id));
    let first = query.after_id.as_ref().map(place).transpose()?.map_or(0, |place| place + 1);
    let end = query.before_id.as_ref().map(place).transpose()?.unwrap_or(ids.len()).max(first);
    let count = (limit as usize).min(end - first);
    // Before something, the last ones are nearest.
    let range = if query.before_id.is_some() { end - count..end } else { first..first + count };
    Ok(Shown { has_more: count < end - first, range })
}

#[cfg(test)]
mod tests {
    use super::shown;
    use crate::anthropic::{Failure, PageQuery};

    #[test]
    fn a_page_begins_behind_or_ends_before_what_is_named() {
        let ids = ["a", "b", "c", "d", "e"];
        let text = |id: &str| Some(id.to_owned());
        for (limit, after_id, before_id, expected, has_more) in [
            (None, None, None, 0..5, false),
            (Some(2), None, None, 0..2, true),
            (Some(2), text("a"), None, 1..3, true),
            (Some(2), text("c"), None, 3..5, false),
            (Some(2), None, text("d"), 1..3, true),
            (Some(3), text("a"), text("d"), 1..3, false),
            (None, text("e"), None, 5..5, false),
            (None, text("d"), text("b"), 4..4, false),
        ] {
            let query = PageQuery { limit, before_id, after_id };
            let found = shown(&query, &ids, Failure::unknown_model).unwrap();
            assert_eq!((found.range, found.has_more), (expected, has_more), "{:?}", query.limit);
        }
        for limit in [0, -1, 1001] {
            let query = PageQuery { limit: Some(limit), before_id: None, after_id: None };
            assert!(shown(&query, &ids, Failure::unknown_model).is_err(), "{limit}");
        }
        let query = PageQuery { limit: None, before_id: None, after_id: text("x") };
        assert!(shown(&query, &ids, Failure::unknown_model).is_err());
    }
}
