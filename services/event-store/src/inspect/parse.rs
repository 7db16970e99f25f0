//! Reads the tables in which a server describes streams, groups and consumers. Pure.

use super::{ConsumerInfo, GroupInfo, PendingEntry, StreamInfo};
use crate::entry;
use crate::groups::ServerGroup;
use crate::table::{self, Row};
use crate::{Id, StreamName};
use redis::Value;

pub(super) fn stream(stream: &StreamName, key: String, info: &Value, bytes: Option<u64>) -> StreamInfo {
    let info = table::row(info);
    StreamInfo {
        stream: stream.clone(),
        key,
        length: info.number("length").unwrap_or(0),
        first: info.entry("first-entry"),
        last: info.entry("last-entry"),
        issued: info.text("last-generated-id").and_then(|id| id.parse().ok()).unwrap_or(Id::ZERO),
        groups: info.number("groups").unwrap_or(0),
        bytes,
    }
}

pub(super) fn group(stream: &StreamName, group: &ServerGroup, cursor: Option<Id>) -> GroupInfo {
    GroupInfo {
        stream: stream.clone(),
        consumers: group.consumers,
        pending: group.pending,
        lag: group.lag,
        last_delivered: group.last_delivered,
        cursor,
        quiet_ms: None,
    }
}

/// The time since a mark of progress, `<what was finished> <ms>`, in ms.
pub(super) fn quiet(mark: &str, now: u64) -> Option<u64> {
    Some(now.saturating_sub(mark.rsplit_once(' ')?.1.parse().ok()?))
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

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn a_table_of_an_unknown_shape_is_no_panic() {
        for odd in
            [Value::Nil, Value::Int(1), Value::Array(vec![Value::Int(1), Value::Array(vec![bulk("a")])])]
        {
            assert!(table::rows(&odd).iter().all(|row| consumer(row).is_none()));
        }
        assert_eq!(pending(&Value::Nil), Some(Vec::new()));
        assert_eq!(pending(&Value::Array(vec![Value::Array(vec![bulk("1-1")])])), None);
    }
}
