//! The groups that a server has on a stream, read in one place for all who ask: looking, trimming. Reads
//! only.

use crate::error::ReadError;
use crate::table::{self, Row};
use crate::{EventStore, Id, StreamName};
use redis::Value;

/// A group on one stream, by the server's word.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServerGroup {
    pub(crate) name: String,
    pub(crate) consumers: u64,
    pub(crate) pending: u64,
    /// `None` when the server cannot tell.
    pub(crate) lag: Option<u64>,
    pub(crate) last_delivered: Id,
}

/// The groups of a stream; none where there is no stream.
pub(crate) async fn of(store: &EventStore, stream: &StreamName) -> Result<Vec<ServerGroup>, ReadError> {
    let key = store.layout().stream(stream);
    let rows: Value =
        absent_as_nothing(redis::cmd("XINFO").arg("GROUPS").arg(key).query_async(&mut store.reads()).await)?;
    let groups: Option<Vec<_>> = table::rows(&rows).iter().map(parse).collect();
    groups.ok_or_else(|| unreadable("group"))
}

/// A stream that is not there has no entries, and a group that is not there none pending.
pub(crate) fn absent_as_nothing(answer: redis::RedisResult<Value>) -> Result<Value, ReadError> {
    match answer {
        Err(e) if e.code() == Some("NOGROUP") || e.detail().is_some_and(|d| d.contains("no such key")) => {
            Ok(Value::Nil)
        }
        answer => Ok(answer?),
    }
}

pub(crate) fn unreadable(what: &str) -> ReadError {
    ReadError::malformed(format!("the server describes a {what} in an unknown way"))
}

fn parse(row: &Row<'_>) -> Option<ServerGroup> {
    Some(ServerGroup {
        name: row.text("name")?,
        consumers: row.number("consumers")?,
        pending: row.number("pending")?,
        lag: row.number("lag"),
        last_delivered: row.id("last-delivered-id")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let lag = |fields: &[Value]| {
            let table = Value::Array(vec![Value::Array(fields.to_vec())]);
            parse(&table::rows(&table)[0]).unwrap().lag
        };
        assert_eq!(lag(&fields), None);
        fields[9] = Value::Int(0);
        assert_eq!(lag(&fields), Some(0));
    }
}
