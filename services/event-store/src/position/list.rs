//! Which positions are registered, how far behind each is, and removing one that no program uses any more.

use super::{PositionError, PositionErrorKind, refusal};
use crate::entry;
use crate::error::ReadError;
use crate::{EventStore, Id, NameOf, StreamName};
use redis::Value;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A registered position with all its streams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PositionState {
    /// Its name.
    pub name: String,
    /// Its streams, by name.
    pub streams: Vec<StreamPosition>,
}

/// A registered position on one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StreamPosition {
    /// The stream.
    pub stream: StreamName,
    /// Everything up to here is processed.
    pub position: Id,
    /// The first entry after it, which a trim keeps; `None` when there is none.
    pub next: Option<Id>,
    /// Milliseconds since that entry was appended, by the server's clock; `None` when there is none.
    pub behind_ms: Option<u64>,
    /// Milliseconds since the position last moved, by the server's clock.
    pub idle_ms: u64,
}

impl EventStore {
    /// All registered positions, by name. Needs no right to write.
    ///
    /// # Errors
    /// Where a value is not one that the store writes, with the key and the field to look at.
    pub async fn positions(&self) -> Result<Vec<PositionState>, ReadError> {
        let now = self.server_ms().await?;
        let mut connection = self.connection();
        let families: Vec<String> = if self.layout().is_plain() {
            vec![String::new()]
        } else {
            redis::cmd("SMEMBERS").arg(self.layout().position_families()).query_async(&mut connection).await?
        };
        let mut states: BTreeMap<String, Vec<StreamPosition>> = BTreeMap::new();
        for found in stored(self, families.iter().map(String::as_str)).await? {
            let reply: Value = redis::cmd("XRANGE")
                .arg(self.layout().stream(&found.stream))
                .arg(found.position.next().to_string())
                .arg(&["+", "COUNT", "1"])
                .query_async(&mut connection)
                .await?;
            let next = entry::parse_entries(reply).pop().map(|entry| entry.id);
            states.entry(found.name).or_default().push(StreamPosition {
                stream: found.stream,
                position: found.position,
                next,
                behind_ms: next.map(|id| now.saturating_sub(id.ms)),
                idle_ms: now.saturating_sub(found.moved_ms),
            });
        }
        let state = |(name, mut streams): (String, Vec<StreamPosition>)| {
            streams.sort_by(|a, b| a.stream.cmp(&b.stream));
            PositionState { name, streams }
        };
        Ok(states.into_iter().map(state).collect())
    }

    /// Removes a position as [`positions`](Self::positions) has listed it, from the streams that `seen` names: a trim
    /// keeps nothing for it any more. Choose it when the reader is gone for good, or no longer reads a stream; to keep
    /// the position on some streams, take those out of `seen.streams`.
    ///
    /// Repeating it is harmless. In the tagged layout each family is removed in a step of its own.
    ///
    /// # Errors
    /// [`PositionErrorKind::Moved`] when the position has moved since it was listed: a program uses it.
    pub async fn remove_position(&self, seen: &PositionState) -> Result<(), PositionError> {
        let streams: Vec<StreamName> = seen.streams.iter().map(|s| s.stream.clone()).collect();
        for part in self.parts(&streams) {
            let Some(first) = part.first() else { continue };
            let key = self.layout().registered_positions(first.family());
            let mut args = vec![seen.name.clone()];
            for at in seen.streams.iter().filter(|at| part.contains(&at.stream)) {
                args.extend([at.stream.to_string(), at.position.to_string()]);
            }
            let words = self.call_until_answered("remove_position", &[key][..], &args[..]).await?;
            match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["ok"] => {}
                ["moved", stream, position] => {
                    let stream = super::stream(stream)?;
                    let message = format!(
                        "{} has moved to {position} on {stream} since it was listed: a program uses it",
                        seen.name
                    );
                    return Err(PositionError::new(PositionErrorKind::Moved { stream }, message));
                }
                _ => return Err(refusal(&words)),
            }
        }
        Ok(())
    }
}

/// A position on one stream, as the server holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) stream: StreamName,
    /// Everything up to here is processed.
    pub(crate) position: Id,
    /// When it last moved: milliseconds since the Unix epoch by the server's clock.
    pub(crate) moved_ms: u64,
}

/// The positions on streams of these families; in the plain layout those on all streams.
pub(crate) async fn stored(
    store: &EventStore,
    families: impl IntoIterator<Item = &str>,
) -> Result<Vec<Stored>, ReadError> {
    let layout = store.layout();
    let keys: BTreeSet<String> =
        families.into_iter().map(|family| layout.registered_positions(family)).collect();
    let mut positions = Vec::new();
    for key in keys {
        let fields: HashMap<String, String> =
            redis::cmd("HGETALL").arg(&key).query_async(&mut store.reads()).await?;
        for (field, value) in fields {
            positions.push(parse(&field, &value).ok_or_else(|| {
                ReadError::malformed(format!(
                    "field {field:?} of {key} is no registered position ({value:?}): remove it with HDEL"
                ))
            })?);
        }
    }
    Ok(positions)
}

fn parse(field: &str, value: &str) -> Option<Stored> {
    let (name, stream) = field.split_once(' ')?;
    let (position, moved) = value.split_once(' ')?;
    NameOf::Position.check(name).ok()?;
    Some(Stored {
        name: name.to_owned(),
        stream: StreamName::parse(stream)?,
        position: position.parse().ok()?,
        moved_ms: moved.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_fields_are_no_positions() {
        let stored = parse("sqlite-balances account_opened", "5-3 1000").unwrap();
        let stream = StreamName::parse("account_opened").unwrap();
        let expected =
            Stored { name: "sqlite-balances".into(), stream, position: Id::new(5, 3), moved_ms: 1000 };
        assert_eq!(stored, expected);
        for (field, value) in [
            ("sqlite account_opened", "5-3"),
            ("sqlite account_opened", "x 1000"),
            ("sqlite account_opened", "5-3 soon"),
            ("sqlite", "5-3 1000"),
            ("sqlite opened", "5-3 1000"),
            ("sq:lite account_opened", "5-3 1000"),
        ] {
            assert_eq!(parse(field, value), None, "{field} {value}");
        }
    }
}
