//! Finds the streams of a store by walking over the server's keys: right for whatever stands there,
//! and nothing has to be kept for it. On Redis Cluster every master is walked over.

use super::Inspector;
use crate::error::ReadError;
use crate::{Layout, StreamName, connection};
use std::collections::BTreeSet;

/// Keys that the server looks at in one step, so that others are served in between.
const STEP: usize = 10_000;

/// What stands where a store's streams stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Discovery {
    /// The streams, by name.
    pub streams: Vec<StreamName>,
    /// Streams under `events:` that are none of a store of this layout, as keys.
    pub foreign: Vec<String>,
}

impl Inspector {
    /// Finds all streams.
    pub async fn discover(&self) -> Result<Discovery, ReadError> {
        let mut keys: BTreeSet<Vec<u8>> = BTreeSet::new();
        let servers = connection::servers(self.store.config())
            .await
            .map_err(|e| ReadError::unavailable(e.to_string()))?;
        for (_, mut server) in servers {
            let mut cursor = "0".to_owned();
            loop {
                let (next, found): (String, Vec<Vec<u8>>) = redis::cmd("SCAN")
                    .arg(&cursor)
                    .arg(&["MATCH", "events:*", "TYPE", "stream", "COUNT"])
                    .arg(STEP)
                    .query_async(&mut server)
                    .await?;
                keys.extend(found);
                if next == "0" {
                    break;
                }
                cursor = next;
            }
        }
        Ok(sort_out(self.store.layout(), keys))
    }
}

fn sort_out(layout: Layout, keys: impl IntoIterator<Item = Vec<u8>>) -> Discovery {
    let mut found = Discovery::default();
    for key in keys {
        let key = String::from_utf8_lossy(&key).into_owned();
        match name_of(layout, &key) {
            Some(stream) => found.streams.push(stream),
            None => found.foreign.push(key),
        }
    }
    found.streams.sort();
    found
}

/// The stream whose key this is: exactly the one that would be given this key.
fn name_of(layout: Layout, key: &str) -> Option<StreamName> {
    let name: String = key.strip_prefix("events:")?.chars().filter(|c| !matches!(c, '{' | '}')).collect();
    StreamName::parse(&name).filter(|stream| layout.stream(stream) == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_stream_only_where_the_layout_would_give_it_that_name() {
        let cases = [
            (Layout::Plain, "events:account_opened", true),
            (Layout::Plain, "events:{account}_opened", false),
            (Layout::Tagged, "events:{account}_opened", true),
            (Layout::Tagged, "events:account_opened", false),
            (Layout::Tagged, "events:{acc}ount_opened", false),
            (Layout::Plain, "events:opened", false),
            (Layout::Plain, "events:account_op ened", false),
            (Layout::Plain, "other:account_opened", false),
        ];
        for (layout, key, is) in cases {
            assert_eq!(name_of(layout, key).is_some(), is, "{layout:?} {key}");
        }
        let found = sort_out(
            Layout::Plain,
            [b"events:b_c".to_vec(), b"events:\xff".to_vec(), b"events:a_c".to_vec()],
        );
        assert_eq!(found.streams.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a_c", "b_c"]);
        assert_eq!(found.foreign.len(), 1);
    }
}
