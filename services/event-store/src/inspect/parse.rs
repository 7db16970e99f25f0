//! Reads the tables in which a server describes streams, groups and consumers. Pure.

use super::{ConsumerInfo, GroupInfo, PendingEntry, StreamInfo};
use crate::entry;
use crate::{Id, StreamName};
use redis::Value;

/// Names and values, flat or as a map.
pub(super) struct Row<'a>(Vec<(&'a Value, &'a Value)>);

/// The rows of a table; nothing for nil.
pub(super) fn rows(table: &Value) -> Vec<Row<'_>> {
    match table {
        Value::Array(rows) => rows.iter().map(row).collect(),
        _ => Vec::new(),
    }
}

fn row(value: &Value) -> Row<'_> {
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
    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.get(name)? {
            Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            other => entry::text(other.clone()),
        }
    }

    fn number(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Value::Int(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    fn id(&self, name: &str) -> Option<Id> {
        self.text(name)?.parse().ok()
    }

    /// The id of an entry.
    fn entry(&self, name: &str) -> Option<Id> {
        match self.get(name)? {
            Value::Array(parts) => entry::text(parts.first()?.clone())?.parse().ok(),
            _ => None,
        }
    }
}

pub(super) fn stream(stream: &StreamName, key: String, info: &Value, bytes: Option<u64>) -> StreamInfo {
    let info = row(info);
    StreamInfo {
        stream: stream.clone(),
        key,
        length: info.number("length").unwrap_or(0),
        first: info.entry("first-entry"),
        last: info.entry("last-entry"),
        groups: info.number("groups").unwrap_or(0),
        bytes,
    }
}

pub(super) fn group(stream: &StreamName, row: &Row<'_>, cursor: Option<Id>) -> Option<GroupInfo> {
    Some(GroupInfo {
        stream: stream.clone(),
        consumers: row.number("consumers")?,
        pending: row.number("pending")?,
        lag: row.number("lag"),
        last_delivered: row.id("last-delivered-id")?,
        cursor,
    })
}

pub(super) fn consumer(row: &Row<'_>) -> Option<ConsumerInfo> {
    Some(ConsumerInfo {
        consumer: row.text("name")?,
        pending: row.number("pending")?,
        idle_ms: row.number("idle")?,
        inactive_ms: row.number("inactive"),
    })
}

pub(super) fn pending(table: &Value) -> Option<Vec<PendingEntry>> {
    let Value::Array(rows) = table else { return Some(Vec::new()) };
    rows.iter()
        .map(|row| {
            let Value::Array(parts) = row else { return None };
            let [id, Value::BulkString(consumer), Value::Int(idle), Value::Int(deliveries)] =
                parts.as_slice()
            else {
                return None;
            };
            Some(PendingEntry {
                id: entry::text(id.clone())?.parse().ok()?,
                consumer: String::from_utf8_lossy(consumer).into_owned(),
                idle_ms: u64::try_from(*idle).ok()?,
                deliveries: u64::try_from(*deliveries).ok()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn a_lag_that_the_server_does_not_know_is_unknown() {
        let mut fields = vec![
            bulk("name"),
            bulk("audit"),
            bulk("consumers"),
            Value::Int(1),
            bulk("pending"),
            Value::Int(2),
            bulk("last-delivered-id"),
            bulk("5-1"),
            bulk("lag"),
            Value::Nil,
        ];
        let stream = Kind::new("account").stream("opened");
        let lag = |fields: &[Value]| {
            let table = Value::Array(vec![Value::Array(fields.to_vec())]);
            group(&stream, &rows(&table)[0], None).unwrap().lag
        };
        assert_eq!(lag(&fields), None);
        fields[9] = Value::Int(0);
        assert_eq!(lag(&fields), Some(0));
    }

    #[test]
    fn a_table_of_an_unknown_shape_is_no_panic() {
        for odd in
            [Value::Nil, Value::Int(1), Value::Array(vec![Value::Int(1), Value::Array(vec![bulk("a")])])]
        {
            assert!(rows(&odd).iter().all(|row| consumer(row).is_none()));
        }
        assert_eq!(pending(&Value::Nil), Some(Vec::new()));
        assert_eq!(pending(&Value::Array(vec![Value::Array(vec![bulk("1-1")])])), None);
    }
}
