//! Which attribute keys get a column of their own, and which give theirs up (ADR 0001).

use std::collections::{BTreeMap, HashSet};

use prism_model::{ColumnId, TableKind};

/// When a column of a table was last used, as days since 1970-01-01 (UTC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastUse {
    /// The last day with a file that has values for it.
    pub file_day: i64,
    /// The last day with a query that named it.
    pub query_day: Option<i64>,
}

/// A key that a new file has, and in how many of its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which table's attribute.
    pub table: TableKind,
    /// Its key and type.
    pub id: ColumnId,
    /// Rows of that table with a value.
    pub rows: u64,
}

/// The keys of a new file that get a column; the others go to the typed tail, where nothing is lost but queries are slower.
///
/// A known column stays while it was in a file or a query of the last `idle_days`; what is idle gives its place up. Keys of the
/// file that hold a place keep it; free places go to queried keys first, then to the most frequent ones. Never more than `max`
/// places over known and new columns together.
pub fn choose(
    known: &BTreeMap<(TableKind, ColumnId), LastUse>,
    found: &[Found],
    today: i64,
    idle_days: i64,
    max: usize,
) -> HashSet<(TableKind, ColumnId)> {
    let recent = |day: i64| day >= today.saturating_sub(idle_days);
    let queried = |u: &LastUse| u.query_day.is_some_and(recent);
    let alive = |u: &LastUse| recent(u.file_day) || queried(u);
    let place_of = |f: &Found| known.get(&(f.table, f.id.clone())).copied();
    let mut candidates: Vec<(&Found, Option<LastUse>)> = found.iter().map(|f| (f, place_of(f))).collect();
    // Who holds a live place, then who is asked for, then who comes often; names decide between equals, so that the choice is
    // the same each time.
    candidates.sort_by_key(|(f, use_)| {
        let holds = use_.as_ref().is_some_and(alive);
        (!holds, !use_.as_ref().is_some_and(queried), std::cmp::Reverse(f.rows), f.table, f.id.clone())
    });
    let held_by_others = {
        let here: HashSet<(TableKind, &ColumnId)> = found.iter().map(|f| (f.table, &f.id)).collect();
        known.iter().filter(|((table, id), u)| alive(u) && !here.contains(&(*table, id))).count()
    };
    let free = max.saturating_sub(held_by_others);
    candidates.into_iter().take(free).map(|(f, _)| (f.table, f.id.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use prism_model::AttrType;

    fn id(key: &str) -> (TableKind, ColumnId) {
        (TableKind::Items, ColumnId::attr(key, AttrType::Str))
    }

    fn found(key: &str, rows: u64) -> Found {
        Found { table: TableKind::Items, id: id(key).1, rows }
    }

    fn chosen(known: &[(&str, i64, Option<i64>)], new: &[(&str, u64)], max: usize) -> Vec<String> {
        let known = known
            .iter()
            .map(|(k, file_day, query_day)| (id(k), LastUse { file_day: *file_day, query_day: *query_day }));
        let new: Vec<Found> = new.iter().map(|(k, rows)| found(k, *rows)).collect();
        let chosen = choose(&known.collect(), &new, 100, 7, max);
        let mut names: Vec<String> = chosen.into_iter().map(|(_, id)| id.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn places_are_kept_while_in_use_and_go_to_frequent_keys_then() {
        assert_eq!(chosen(&[], &[("a", 1), ("b", 9), ("c", 5)], 2), ["b", "c"]);
        // `a` holds a place though it is rare.
        assert_eq!(chosen(&[("a", 99, None)], &[("a", 1), ("b", 9), ("c", 5)], 2), ["a", "b"]);
        // `old` was used 7 days ago and counts; a day later it does not.
        assert_eq!(chosen(&[("old", 93, None)], &[("a", 1), ("b", 9)], 2), ["b"]);
        assert_eq!(chosen(&[("old", 92, None)], &[("a", 1), ("b", 9)], 2), ["a", "b"]);
        assert_eq!(chosen(&[("old", 1, Some(95))], &[("a", 1), ("b", 9)], 2), ["b"]);
        // What is asked for comes before what is frequent.
        assert_eq!(chosen(&[("a", 1, Some(99))], &[("a", 1), ("b", 9)], 1), ["a"]);
        // An idle key that comes again is judged like a new one.
        assert_eq!(chosen(&[("a", 1, None)], &[("a", 1), ("b", 9)], 1), ["b"]);
        assert!(chosen(&[("x", 100, None), ("y", 100, None)], &[("a", 1)], 2).is_empty());
    }
}
