//! The question to the server whether events may be handled now. Answers only, decides nothing.

use super::finish::Group;
use super::item::{Item, Place, field};
use crate::{entry, functions};
use std::sync::Arc;

/// Events that are asked about.
pub(super) type Asked = Vec<(Place, Arc<Item>)>;

/// One answer for each event, in their order.
pub(super) async fn ask(group: &Group, events: &Asked) -> Result<Vec<String>, redis::RedisError> {
    let mut keys = vec![group.positions.clone(), group.letters.clone()];
    keys.extend(group.keys.iter().cloned());
    let key_of = |stream: usize| (stream + 3).to_string();
    let mut args = vec![group.subscription.group.clone(), group.subscription.consumer.clone()];
    for ((id, stream), item) in events {
        args.extend([key_of(*stream), item.event.stream.to_string(), id.to_string()]);
        args.push(item.marks.len().to_string());
        args.extend(item.fields().map(|field| field.concat()));
        args.push(item.before.len().to_string());
        let keys: Vec<&str> = item.event.after.keys().collect();
        for before in &item.before {
            let field = field(keys[before.key], &group.subscription.streams[before.stream]);
            args.extend([field.concat(), key_of(before.stream), before.id.to_string()]);
        }
    }
    let words = entry::words(functions::call(&mut group.store.connection(), "ready", &keys, &args).await?);
    if words.len() == events.len() {
        Ok(words)
    } else {
        Err((redis::ErrorKind::UnexpectedReturnType, "ready answers one word for each event").into())
    }
}
