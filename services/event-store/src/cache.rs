//! From an entity's state to its cache: what stands in the hash, the lists and the indexes. The one
//! place that decides it, for appends, rebuilds, imports and verification. Sends nothing.

use crate::state::{self, Fields};
use crate::words::Words;
use crate::{Kind, Layout};
use std::borrow::Cow;

/// Adds an entity's part to the keys and arguments of a call, as `functions/cache.lua` reads it.
pub(crate) fn lay_out(
    layout: Layout,
    kind: Kind,
    id: &str,
    removed: bool,
    fields: &Fields<'_>,
    keys: &mut Words,
    args: &mut Words,
) -> Result<(), String> {
    keys.push(layout.ids(kind));
    keys.push(layout.entity(kind, id));
    let mut shown = Words::default();
    for (name, value) in fields.iter() {
        if kind.lists.contains(&name) {
            shown.push(name);
            shown.push(layout.list(kind, name, id));
        } else if let Some(text) = state::plain(value) {
            shown.push(name);
            shown.push(text.as_bytes());
        }
    }
    for list in kind.lists.iter().filter(|list| fields.get(list).is_none()) {
        shown.push(list);
        shown.push(layout.list(kind, list, id));
    }
    let (indexes, lists) = (kind.indexes.len(), kind.lists.len());
    args.push(format!("{} {} {indexes} {lists}", u8::from(removed), shown.len()));
    args.push(id);
    args.extend(&shown);
    for field in kind.indexes {
        keys.push(layout.index(kind, field));
        let value = fields.get(field).and_then(state::plain);
        args.push(field);
        args.push(if value.is_some() { "1" } else { "0" });
        args.push(value.unwrap_or_default().as_bytes());
    }
    for field in kind.lists {
        keys.push(layout.list(kind, field, id));
        let items = items(fields, field)?;
        args.push_number(items.len() as u64);
        for item in &items {
            args.push(item.as_bytes());
        }
    }
    Ok(())
}

/// The same for an event that a later one of its batch supersedes: it does not touch the cache.
pub(crate) fn lay_out_superseded(removed: bool, args: &mut Words) {
    args.push(if removed { "1" } else { "0" });
}

/// Can the entity be kept in a cache?
pub(crate) fn check(kind: Kind, fields: &Fields<'_>) -> Result<(), String> {
    kind.lists.iter().try_for_each(|field| items(fields, field).map(drop))
}

/// The items of a field that is kept as a list.
fn items<'a>(fields: &Fields<'a>, field: &str) -> Result<Vec<Cow<'a, str>>, String> {
    match fields.get(field).filter(|value| value.get() != "null") {
        Some(value) => state::items(value)
            .ok_or_else(|| format!("field {field} is kept as a list, so it must be an array")),
        None => Ok(Vec::new()),
    }
}

/// One entity's part, by itself.
#[derive(Debug)]
pub(crate) struct CacheWords {
    kind: Kind,
    pub(crate) keys: Words,
    pub(crate) args: Words,
}

/// The same, as what it says.
pub(crate) struct Parts<'a> {
    pub(crate) id: &'a [u8],
    pub(crate) removed: bool,
    /// The key of the set of ids.
    pub(crate) ids: &'a [u8],
    /// The key of the hash.
    pub(crate) hash: &'a [u8],
    pub(crate) fields: Vec<(&'a [u8], &'a [u8])>,
    pub(crate) indexes: Vec<IndexPart<'a>>,
    pub(crate) lists: Vec<ListPart<'a>>,
}

/// An index and the value under which the entity stands there.
pub(crate) struct IndexPart<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) field: &'static str,
    pub(crate) value: Option<&'a [u8]>,
}

impl IndexPart<'_> {
    /// The member that stands for the entity; nothing when it has no value.
    pub(crate) fn member(&self, id: &[u8]) -> Option<Vec<u8>> {
        Some([self.value?, b"\0", id].concat())
    }
}

/// A list of the entity.
pub(crate) struct ListPart<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) field: &'static str,
    pub(crate) items: Vec<&'a [u8]>,
}

impl CacheWords {
    /// Of an entity whose last event has this body.
    pub(crate) fn new(
        layout: Layout,
        kind: Kind,
        id: &str,
        removed: bool,
        body: &str,
    ) -> Result<Self, String> {
        let fields = Fields::of(body).map_err(|e| format!("the state is no JSON object: {e}"))?;
        let (mut keys, mut args) = (Words::default(), Words::default());
        lay_out(layout, kind, id, removed, &fields, &mut keys, &mut args)?;
        Ok(Self { kind, keys, args })
    }

    pub(crate) fn parts(&self) -> Parts<'_> {
        let keys: Vec<&[u8]> = self.keys.iter().collect();
        let mut args = self.args.iter();
        let mut next = || args.next().unwrap_or_default();
        let number = |word: &[u8]| std::str::from_utf8(word).ok().and_then(|w| w.parse().ok()).unwrap_or(0);
        // How many indexes and lists there are the kind says too.
        let mut shape = next().split(|byte| *byte == b' ');
        let removed = shape.next() == Some(b"1");
        let fields = shape.next().map_or(0, number) / 2;
        let id = next();
        let (indexes, lists) = (self.kind.indexes, self.kind.lists);
        let fields = (0..fields).map(|_| (next(), next())).collect();
        let index = |(i, field): (usize, &&'static str)| {
            next();
            let (has, value) = (next() == b"1", next());
            IndexPart { key: keys[2 + i], field, value: has.then_some(value) }
        };
        let indexes: Vec<IndexPart<'_>> = indexes.iter().enumerate().map(index).collect();
        let list = |(i, field): (usize, &&'static str)| {
            let count = number(next());
            ListPart { key: keys[2 + indexes.len() + i], field, items: (0..count).map(|_| next()).collect() }
        };
        let lists = lists.iter().enumerate().map(list).collect();
        Parts { id, removed, ids: keys[0], hash: keys[1], fields, indexes, lists }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_laid_out_can_be_read_again() {
        const ACCOUNT: Kind = Kind::new("account").lists(&["tags", "notes"]).indexes(&["owner", "bank"]);
        let body = r#"{"id":"7","owner":"ann","amount":1.50,"tags":["a",1],"nothing":null}"#;
        let words = CacheWords::new(Layout::Plain, ACCOUNT, "7", false, body).unwrap();
        let parts = words.parts();
        assert_eq!((parts.id, parts.removed, parts.hash), (&b"7"[..], false, &b"account_entity:7"[..]));
        let fields: Vec<&[u8]> = parts.fields.iter().map(|(name, _)| *name).collect();
        assert_eq!(fields, [&b"id"[..], b"owner", b"amount", b"tags", b"notes"]);
        assert_eq!(parts.fields[2].1, b"1.50");
        assert_eq!(parts.indexes[0].member(parts.id).unwrap(), b"ann\x007");
        assert_eq!((parts.indexes[1].field, parts.indexes[1].value), ("bank", None));
        assert_eq!(
            (parts.lists[0].key, &parts.lists[0].items[..]),
            (&b"account_tags:7"[..], &[&b"a"[..], b"1"][..])
        );
        assert!(parts.lists[1].items.is_empty());
        assert!(CacheWords::new(Layout::Plain, ACCOUNT, "7", false, r#"{"tags":3}"#).is_err());
    }
}
