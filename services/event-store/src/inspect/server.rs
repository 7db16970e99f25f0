//! What a server says about its memory and its disk. Reads only; judging it is the doctor's.

use super::Inspector;
use crate::doctor::Info;
use crate::error::ReadError;
use serde::Serialize;
use std::collections::HashMap;

/// A server that holds the store, as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ServerInfo {
    /// The server, `host:port`.
    pub server: String,
    /// Its version: of Valkey where it is one, else of Redis.
    pub version: Option<String>,
    /// Memory that its data takes, in bytes.
    pub memory_bytes: Option<u64>,
    /// Memory that its data may take, in bytes; `None` also when there is no limit.
    pub memory_limit_bytes: Option<u64>,
    /// Whether every write goes to an append-only file.
    pub append_only: Option<bool>,
    /// When that file is forced to the disk: `everysec`, `always`, `no`; `None` when CONFIG is denied.
    pub fsync: Option<String>,
    /// Whether the last write to that file succeeded. While it does not, writes are refused.
    pub last_write_ok: Option<bool>,
    /// Whether the last snapshot and the last rewrite of that file succeeded.
    pub last_save_ok: Option<bool>,
}

impl Inspector {
    /// The server; on Redis Cluster every master.
    pub async fn servers(&self) -> Result<Vec<ServerInfo>, ReadError> {
        let mut connection = self.store.connection();
        // Who may not ask for it knows the rest all the same.
        let config = connection.everywhere(redis::cmd("CONFIG").arg("GET").arg("appendfsync")).await?;
        let mut fsync: HashMap<String, String> = config
            .into_iter()
            .filter_map(|(server, answer)| {
                let settings: HashMap<String, String> = redis::from_redis_value(answer.ok()?).ok()?;
                Some((server, settings.into_values().next()?))
            })
            .collect();
        let mut servers = Vec::new();
        for (server, answer) in connection.everywhere(&redis::cmd("INFO")).await? {
            let info: String = redis::from_redis_value(answer?)
                .map_err(|e| ReadError::malformed(format!("INFO of {server}: {e}")))?;
            let fsync = fsync.remove(&server);
            servers.push(ServerInfo { fsync, ..told(server, &Info::parse(&info)) });
        }
        Ok(servers)
    }
}

/// Pure.
fn told(server: String, info: &Info) -> ServerInfo {
    let version = info.get("valkey_version").or_else(|| info.get("redis_version"));
    let flag = |name: &str| info.get(name).map(|value| value == "1");
    let fine = |name: &str| info.get(name).map(|value| value == "ok");
    ServerInfo {
        server,
        version: version.map(str::to_owned),
        memory_bytes: info.number("used_memory"),
        memory_limit_bytes: info.number("maxmemory").filter(|limit| *limit > 0),
        append_only: flag("aof_enabled"),
        fsync: None,
        last_write_ok: fine("aof_last_write_status"),
        last_save_ok: fine("rdb_last_bgsave_status")
            .zip(fine("aof_last_bgrewrite_status"))
            .map(|(a, b)| a && b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_does_not_say_is_unknown_and_no_limit_is_none() {
        let info = "redis_version:7.2.4\r\nvalkey_version:8.1.1\r\nused_memory:1048576\r\nmaxmemory:0\r\naof_enabled:1\r\n\
            aof_last_write_status:err\r\nrdb_last_bgsave_status:ok\r\naof_last_bgrewrite_status:ok\r\n";
        let expected = ServerInfo {
            server: "h:1".to_owned(),
            version: Some("8.1.1".to_owned()),
            memory_bytes: Some(1_048_576),
            memory_limit_bytes: None,
            append_only: Some(true),
            fsync: None,
            last_write_ok: Some(false),
            last_save_ok: Some(true),
        };
        assert_eq!(told("h:1".to_owned(), &Info::parse(info)), expected);
        let nothing = ServerInfo { server: "h:1".to_owned(), ..ServerInfo::default() };
        assert_eq!(told("h:1".to_owned(), &Info::parse("")), nothing);
    }
}
