//! Entities as the store's inline projection keeps them: exact JSON, version, and the ids by kind
//! and index. Reads only.

use crate::error::ReadError;
use crate::{EventStore, Kind};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// An entity's last state.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Entity {
    /// Its id.
    pub id: String,
    /// From 1, one more with every event.
    pub version: u64,
    /// Was its last event a deletion? `body` is then the last state before it.
    pub deleted: bool,
    /// Version of the state's schema.
    pub schema: u32,
    /// The state.
    pub body: Value,
}

impl Entity {
    /// The state as a type of the caller's.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, ReadError> {
        T::deserialize(&self.body).map_err(|e| ReadError(format!("entity {}: {e}", self.id)))
    }
}

type Row = (Option<u64>, Option<u8>, Option<String>, Option<u32>);

fn parse(id: &str, row: Row) -> Result<Option<Entity>, ReadError> {
    let (Some(version), deleted, Some(body), schema) = row else { return Ok(None) };
    let body = serde_json::from_str(&body).map_err(|e| ReadError(format!("entity {id}: {e}")))?;
    Ok(Some(Entity {
        id: id.to_owned(),
        version,
        deleted: deleted == Some(1),
        schema: schema.unwrap_or(1),
        body,
    }))
}

impl EventStore {
    /// A live entity, or `None`. Never behind the log.
    pub async fn entity(&self, kind: Kind, id: &str) -> Result<Option<Entity>, ReadError> {
        Ok(self.last_state(kind, id).await?.filter(|e| !e.deleted))
    }

    /// An entity, also after its deletion.
    pub async fn last_state(&self, kind: Kind, id: &str) -> Result<Option<Entity>, ReadError> {
        Ok(self.last_states(kind, &[id]).await?.pop().flatten())
    }

    /// Several live entities in one round trip, in the order asked for.
    pub async fn entities<I: AsRef<str>>(
        &self,
        kind: Kind,
        ids: &[I],
    ) -> Result<Vec<Option<Entity>>, ReadError> {
        let states = self.last_states(kind, ids).await?;
        Ok(states.into_iter().map(|e| e.filter(|e| !e.deleted)).collect())
    }

    /// Several entities in one round trip, also deleted ones.
    pub async fn last_states<I: AsRef<str>>(
        &self,
        kind: Kind,
        ids: &[I],
    ) -> Result<Vec<Option<Entity>>, ReadError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        for id in ids {
            pipe.cmd("HMGET")
                .arg(self.layout().meta(kind, id.as_ref()))
                .arg(&["version", "deleted", "body", "schema"]);
        }
        let rows: Vec<Row> = pipe.query_async(&mut self.connection()).await?;
        ids.iter().zip(rows).map(|(id, row)| parse(id.as_ref(), row)).collect()
    }

    /// The ids of all live entities of a kind, in no order.
    pub async fn ids(&self, kind: Kind) -> Result<Vec<String>, ReadError> {
        Ok(redis::cmd("SMEMBERS").arg(self.layout().ids(kind)).query_async(&mut self.connection()).await?)
    }

    /// The ids of the live entities whose field has this value. The field must be one of
    /// [`Kind::indexes`].
    pub async fn ids_where(&self, kind: Kind, field: &str, value: &str) -> Result<Vec<String>, ReadError> {
        if !kind.indexes.contains(&field) {
            return Err(ReadError(format!("{} has no index on {field}", kind.name())));
        }
        let found: Vec<String> = redis::cmd("ZRANGEBYLEX")
            .arg(self.layout().index(kind, field))
            .arg(format!("[{value}\0"))
            .arg(format!("({value}\x01"))
            .query_async(&mut self.connection())
            .await?;
        // An id holds no NUL, so the last one ends the value.
        let id = |member: &String| {
            let (of, id) = member.rsplit_once('\0')?;
            (of == value).then(|| id.to_owned())
        };
        Ok(found.iter().filter_map(id).collect())
    }
}
