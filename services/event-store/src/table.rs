//! Tables in which a server describes streams, groups, consumers and itself: names and values, flat or as
//! a map, as its version and the protocol have it. Pure.

use crate::{Id, entry};
use redis::Value;

/// Names and values, flat or as a map.
pub(crate) struct Row<'a>(Vec<(&'a Value, &'a Value)>);

/// The rows of a table; nothing for nil.
pub(crate) fn rows(table: &Value) -> Vec<Row<'_>> {
    match table {
        Value::Array(rows) => rows.iter().map(row).collect(),
        _ => Vec::new(),
    }
}

/// One row.
pub(crate) fn row(value: &Value) -> Row<'_> {
    Row(match value {
        Value::Array(items) => items.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect(),
        Value::Map(pairs) => pairs.iter().map(|(name, value)| (name, value)).collect(),
        _ => Vec::new(),
    })
}

impl Row<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        let is = |value: &Value| match value {
            Value::BulkString(bytes) => bytes == name.as_bytes(),
            Value::SimpleString(text) => text == name,
            _ => false,
        };
        self.0.iter().find(|(n, _)| is(n)).map(|(_, value)| *value)
    }

    /// Whatever bytes it holds: a name in a group may be of any program.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        match self.get(name)? {
            Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            other => entry::text(other.clone()),
        }
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Value::Int(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    pub(crate) fn id(&self, name: &str) -> Option<Id> {
        self.text(name)?.parse().ok()
    }

    /// The id of an entry.
    pub(crate) fn entry(&self, name: &str) -> Option<Id> {
        match self.get(name)? {
            Value::Array(parts) => entry::text(parts.first()?.clone())?.parse().ok(),
            _ => None,
        }
    }
}
