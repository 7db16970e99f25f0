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
        unread_ms: None,
    }
}

/// The time since a mark of progress, `<what was finished> <ms>`, in ms.
pub(super) fn quiet(mark: &str, now: u64) -> Option<u64> {
    Some(now.saturating_sub(mark.rsplit_once(' ')?.1.parse().ok()?))
}

/// The time in ms since a stream was read, by the list of streams that the group's consumers read: of each
/// `<name> <open> <read> <until>`. `None` while it counts as read.
pub(super) fn unread(list: &str, stream: &StreamName, now: u64) -> Option<u64> {
    let name = stream.to_string();
    let mut words =
        list.lines().find_map(|line| line.strip_prefix(&name)?.strip_prefix(' '))?.split(' ').skip(1);
    let (read, until): (u64, u64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (until < now).then(|| now.saturating_sub(read))
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
    fn a_stream_is_unread_when_the_time_of_its_readers_is_over() {
        let list = "account_opened 1 500 900\naccount 1 2 3\naccount_closed 1 2 x";
        let at = |name, now| unread(list, &StreamName::parse(name).unwrap(), now);
        assert_eq!((at("account_opened", 900), at("account_opened", 901)), (None, Some(401)));
        assert_eq!((at("account_updated", 901), at("account_closed", 901)), (None, None));
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
