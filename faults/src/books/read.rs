//! Reads the books off a running Redis, by plain commands: not through the store, which is what is judged.

use super::{Books, Cache, DeadLetter, Entry, Foreign, Group, KINDS, Projection, Received};
use anyhow::{Context, Result};
use redis::aio::MultiplexedConnection as Connection;
use redis::{AsyncCommands, Value};
use std::collections::{BTreeMap, BTreeSet};

const PAGE: usize = 1000;
const SECTIONS: [&str; 5] = ["customer", "product", "inventory", "order", "billing"];
const READ_MODEL: &str = "read-model:v1";

/// Reads everything; `sink` is what the mail server wrote, a line of JSON a mail. `poisoned` names entries (key, id)
/// that another program wrote.
pub async fn read(c: &mut Connection, sink: &str, poisoned: &BTreeSet<(String, String)>) -> Result<Books> {
    let mut books = Books { mails: mails(sink)?, ..Books::default() };
    let mut keys: Vec<String> = keys(c, "events:*").await?;
    keys.sort();
    for key in &keys {
        stream(c, key, poisoned, &mut books).await?;
        groups(c, key, &mut books).await?;
    }
    books.events.sort_by_key(|entry| entry.id);
    let names: BTreeSet<String> = books.groups.iter().map(|group| group.group.clone()).collect();
    for group in names {
        dead(c, &group, &mut books).await?;
    }
    for kind in KINDS {
        books.caches.insert(kind.to_owned(), cache(c, kind).await?);
    }
    books.projection = projection(c).await?;
    Ok(books)
}

async fn keys(c: &mut Connection, pattern: &str) -> Result<Vec<String>> {
    let mut cursor = "0".to_owned();
    let mut found = BTreeSet::new();
    loop {
        let (next, page): (String, Vec<String>) = redis::cmd("SCAN")
            .arg(&cursor)
            .arg(&["MATCH", pattern, "COUNT", "1000"])
            .query_async(c)
            .await
            .context("SCAN")?;
        found.extend(page);
        if next == "0" {
            return Ok(found.into_iter().collect());
        }
        cursor = next;
    }
}

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// All entries of a stream with their fields.
async fn entries(c: &mut Connection, key: &str) -> Result<Vec<(String, Fields)>> {
    let mut all: Vec<(String, Fields)> = Vec::new();
    loop {
        let from = all.last().map_or_else(|| "-".to_owned(), |(id, _)| format!("({id}"));
        let page: Vec<(String, Vec<Vec<u8>>)> = redis::cmd("XRANGE")
            .arg(key)
            .arg(&[from.as_str(), "+", "COUNT"])
            .arg(PAGE)
            .query_async(c)
            .await
            .with_context(|| format!("XRANGE {key}"))?;
        let count = page.len();
        all.extend(page.into_iter().map(|(id, fields)| {
            let pairs = fields.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()));
            (id, pairs.collect())
        }));
        if count < PAGE {
            return Ok(all);
        }
    }
}

async fn stream(
    c: &mut Connection,
    key: &str,
    poisoned: &BTreeSet<(String, String)>,
    books: &mut Books,
) -> Result<()> {
    let name = key.strip_prefix("events:").unwrap_or(key);
    for (id, fields) in entries(c, key).await? {
        let poison = poisoned.contains(&(key.to_owned(), id.clone()));
        match (!poison).then(|| entry(name, &id, &fields)).flatten() {
            Some(entry) => books.events.push(entry),
            None => books.foreign.push(Foreign { stream: key.to_owned(), id }),
        }
    }
    Ok(())
}

fn entry(stream: &str, id: &str, fields: &Fields) -> Option<Entry> {
    let text = |name: &str| {
        let (_, value) = fields.iter().find(|(field, _)| field == name.as_bytes())?;
        String::from_utf8(value.clone()).ok()
    };
    let body = text("entity")?;
    let state: serde_json::Value = serde_json::from_str(&body).ok()?;
    // An entity's kind and id are written out only where stream and state do not say them.
    let of_stream = || stream.split('_').next().map(str::to_owned);
    let of_state = || state["id"].as_str().map(str::to_owned);
    Some(Entry {
        id: id.parse().ok()?,
        stream: stream.to_owned(),
        event_id: text("event_id")?,
        kind: text("entity_type").or_else(of_stream)?,
        entity_id: text("entity_id").or_else(of_state)?,
        version: text("version")?.parse().ok()?,
        schema: text("schema")?.parse().ok()?,
        text: body,
        correlation: text("correlation_id"),
        causation: text("causation_id"),
    })
}

async fn groups(c: &mut Connection, key: &str, books: &mut Books) -> Result<()> {
    let stream: BTreeMap<String, Value> = redis::cmd("XINFO").arg("STREAM").arg(key).query_async(c).await?;
    let last: Option<String> = field(&stream, "last-generated-id");
    let found: Vec<BTreeMap<String, Value>> =
        redis::cmd("XINFO").arg("GROUPS").arg(key).query_async(c).await?;
    for group in found {
        let delivered: Option<String> = field(&group, "last-delivered-id");
        // The server cannot always tell; a group that was given the last entry has no lag.
        let lag = if delivered.is_some() && delivered == last { Some(0) } else { field(&group, "lag") };
        books.groups.push(Group {
            group: field(&group, "name").context("a group without a name")?,
            stream: key.to_owned(),
            lag,
            pending: field(&group, "pending").unwrap_or(u64::MAX),
        });
    }
    Ok(())
}

fn field<T: redis::FromRedisValue>(info: &BTreeMap<String, Value>, name: &str) -> Option<T> {
    redis::from_redis_value(info.get(name)?.clone()).ok()
}

async fn dead(c: &mut Connection, group: &str, books: &mut Books) -> Result<()> {
    for (_, fields) in entries(c, &format!("eventstore:group:{group}:dead")).await? {
        let text = |name: &str| {
            let found = fields.iter().find(|(field, _)| field == name.as_bytes());
            found.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
        };
        books.dead.push(DeadLetter {
            group: group.to_owned(),
            stream: format!("events:{}", text("stream")),
            id: text("id"),
            reason: text("reason"),
        });
    }
    Ok(())
}

async fn cache(c: &mut Connection, kind: &str) -> Result<Cache> {
    let mut cache = Cache { ids: c.smembers(format!("{kind}_ids")).await?, ..Cache::default() };
    let prefix = format!("{kind}_entity:");
    for key in keys(c, &format!("{prefix}*")).await? {
        let hash = c.hgetall(&key).await?;
        cache.hashes.insert(key[prefix.len()..].to_owned(), hash);
    }
    let prefix = format!("{kind}_product_ids:");
    for key in keys(c, &format!("{prefix}*")).await? {
        let list = c.lrange(&key, 0, -1).await?;
        cache.lists.insert(key[prefix.len()..].to_owned(), list);
    }
    Ok(cache)
}

async fn projection(c: &mut Connection) -> Result<Projection> {
    let mut projection = Projection::default();
    for section in SECTIONS {
        let all: BTreeMap<String, String> = c.hgetall(format!("{READ_MODEL}:{section}")).await?;
        let shown = all.into_iter().map(|(id, text)| Ok((id, serde_json::from_str(&text)?)));
        projection.shown.insert(section.to_owned(), shown.collect::<Result<_>>()?);
        let order = c.zrange(format!("{READ_MODEL}:{section}:ids"), 0, -1).await?;
        projection.order.insert(section.to_owned(), order);
    }
    projection.billed = c.hgetall(format!("{READ_MODEL}:billed")).await?;
    Ok(projection)
}

fn mails(sink: &str) -> Result<Vec<Received>> {
    // A line without its end is being written, or was when the server was killed.
    let lines = sink.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    lines.map(|line| serde_json::from_str(line).with_context(|| format!("mail {line:?}"))).collect()
}
