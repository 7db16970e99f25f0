//! Building an index that was added to a kind with entities. Appends keep it from the moment in which it was added; this
//! puts the entities of before into it, as their hashes are at that moment. Done again it changes nothing, so several
//! programs may do it at once, and one that comes later goes on where a killed one has left it.

use super::decide::Registered;
use crate::error::ReadError;
use crate::{EventStore, Kind};
use std::time::Duration;

/// Entities put into an index with one call.
const PAGE: usize = 200;
/// After a page failed.
const PAUSE: Duration = Duration::from_secs(1);

/// A kind whose indexes the store is building, while this lives: also a runtime that ends before the build does ends it.
struct Building {
    store: EventStore,
    key: String,
    kind: Kind,
}

impl Drop for Building {
    fn drop(&mut self) {
        self.store.known().builds_no_longer(&self.key, self.kind);
    }
}

/// Builds what is to be built of a kind, beside everything else, unless the store is at it already.
pub(super) fn build(store: &EventStore, key: &str, registered: &Registered) {
    let kind = registered.kind;
    if !store.known().begins_to_build(key, kind) {
        return;
    }
    let building = Building { store: store.clone(), key: key.to_owned(), kind };
    tokio::spawn(async move {
        while let Err(error) = building.store.build_indexes(&building.key, kind).await {
            tracing::warn!(kind = kind.name, %error, "an index of the kind is not built yet, trying again");
            tokio::time::sleep(PAUSE).await;
        }
    });
}

impl EventStore {
    /// Builds every index of the kind that does not hold all entities yet.
    pub(super) async fn build_indexes(&self, key: &str, kind: Kind) -> Result<(), ReadError> {
        loop {
            let (agreed, texts) = self.read_agreed(key).await?;
            let Some(registered) = agreed.registered(kind.name) else { return Ok(()) };
            if registered.building.is_empty() {
                return Ok(());
            }
            for field in &registered.building {
                tracing::info!(kind = kind.name, field, "an index was added to the kind: building it");
                self.build_index(registered.kind, field).await?;
            }
            let built = Registered { kind: registered.kind, building: Vec::new() };
            let seen = texts.get(kind.name).map_or("", String::as_str);
            if self.write_kind(key, kind, seen, &built, &built).await? {
                tracing::info!(kind = kind.name, "the kind's indexes hold every entity");
            }
        }
    }

    async fn build_index(&self, kind: Kind, field: &str) -> Result<(), ReadError> {
        let layout = self.layout();
        let mut cursor = 0_u64;
        loop {
            let (next, ids): (u64, Vec<String>) = redis::cmd("SSCAN")
                .arg(layout.ids(kind))
                .arg(cursor)
                .arg("COUNT")
                .arg(PAGE)
                .query_async(&mut self.reads())
                .await?;
            for ids in ids.chunks(PAGE) {
                let mut keys = vec![layout.index(kind, field)];
                keys.extend(ids.iter().map(|id| layout.entity(kind, id)));
                let mut args = vec![field.to_owned()];
                args.extend_from_slice(ids);
                self.call_until_answered("index", &keys[..], &args[..]).await?;
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }
}
