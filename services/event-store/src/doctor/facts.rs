//! Asks one server for what the checks judge. What it does not tell stays unknown (`None`): a user
//! without the right to ask is no fault by itself. Judges nothing.

use super::Access;
use super::info::Info;
use super::rights::{self, Denied};
use crate::{Layout, functions};
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, RedisResult, Value};
use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What one server told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facts {
    pub(super) server: String,
    /// Empty when INFO is denied.
    pub(super) info: Info,
    /// Settings; `None` when CONFIG is denied.
    pub(super) config: Option<HashMap<String, String>>,
    /// CLUSTER INFO, where the server is part of a cluster.
    pub(super) cluster: Option<Info>,
    /// Who we are there.
    pub(super) user: Option<String>,
    /// What that user may not do of what the store does; `None` when it could not be asked.
    pub(super) denied: Option<Vec<Denied>>,
    /// Libraries of functions of other versions of this crate.
    pub(super) other_libraries: Vec<String>,
    /// The middle one of some round trips.
    pub(super) round_trip: Duration,
    /// The server's clock minus ours, in milliseconds.
    pub(super) clock_ahead_ms: i64,
}

const SETTINGS: [&str; 5] =
    ["appendfsync", "save", "maxmemory-policy", "appendonly", "min-replicas-to-write"];
const ROUND_TRIPS: usize = 5;

pub(super) async fn gather(
    server: String,
    c: &mut MultiplexedConnection,
    layout: Layout,
    access: Access,
) -> RedisResult<Facts> {
    let mut trips = Vec::with_capacity(ROUND_TRIPS);
    let mut clock_ahead_ms = 0;
    for _ in 0..ROUND_TRIPS {
        let begin = Instant::now();
        // A user who may not ask for the time still tells how long an answer takes.
        if let Some((seconds, micros)) = told::<(i64, i64)>(redis::cmd("TIME").query_async(c).await)? {
            clock_ahead_ms = seconds * 1000 + micros / 1000 - now_ms();
        }
        trips.push(begin.elapsed());
    }
    trips.sort_unstable();
    let info = told::<String>(redis::cmd("INFO").query_async(c).await)?.unwrap_or_default();
    let info = Info::parse(&info);
    let config = told(redis::cmd("CONFIG").arg("GET").arg(&SETTINGS).query_async(c).await)?;
    let cluster = if info.is("cluster_enabled", "1") {
        told::<String>(redis::cmd("CLUSTER").arg("INFO").query_async(c).await)?.map(|t| Info::parse(&t))
    } else {
        None
    };
    Ok(Facts {
        server,
        config,
        cluster,
        user: told(redis::cmd("ACL").arg("WHOAMI").query_async(c).await)?,
        denied: rights::probe(c, layout, access).await?,
        other_libraries: other_libraries(c).await?,
        round_trip: trips[ROUND_TRIPS / 2],
        clock_ahead_ms,
        info,
    })
}

/// Refused (no right, unknown command) is "not told"; a lost connection is an error.
fn told<T: FromRedisValue>(answer: RedisResult<T>) -> RedisResult<Option<T>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(e) if crate::connection::is_passing(&e) => Err(e),
        Err(e) if e.code().is_some_and(|code| code.starts_with("NOAUTH")) => Err(e),
        Err(_) => Ok(None),
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

async fn other_libraries(c: &mut MultiplexedConnection) -> RedisResult<Vec<String>> {
    let list: RedisResult<Vec<HashMap<String, Value>>> =
        redis::cmd("FUNCTION").arg("LIST").arg("LIBRARYNAME").arg("eventstore_*").query_async(c).await;
    let mut names: Vec<String> = told(list)?
        .unwrap_or_default()
        .into_iter()
        .filter_map(|mut library| crate::entry::text(library.remove("library_name")?))
        .filter(|name| name != functions::library())
        .collect();
    names.sort();
    Ok(names)
}
