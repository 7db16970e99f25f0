//! The raw side: the same bytes written and read by plain commands, with the same connection settings
//! (`TCP_NODELAY`). It checks nothing, orders nothing and forgets nothing twice: that is the difference measured.

use crate::sample::Sample;
use anyhow::Result;
use event_store::{StreamName, Uuid};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, Pipeline, Value};

pub(crate) async fn connection(url: &str) -> Result<MultiplexedConnection> {
    let info = url.into_connection_info()?.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    Ok(Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await?)
}

pub(crate) fn stream_key(stream: &StreamName) -> String {
    format!("raw:{stream}")
}

/// XADD, SADD and HSET of one event, with the fields that an entry of the store has for its readers.
pub(crate) fn write(pipeline: &mut Pipeline, sample: &Sample) {
    let id = &sample.entity_id;
    pipeline
        .cmd("XADD")
        .arg(format!("raw:account_{}", sample.action))
        .arg("*")
        .arg("event_id")
        .arg(Uuid::new_v4().to_string())
        .arg("entity")
        .arg(sample.state.to_string())
        .arg("entity_type")
        .arg("account")
        .arg("entity_id")
        .arg(id)
        .arg("version")
        .arg(1)
        .arg("schema")
        .arg(1)
        .ignore();
    pipeline.cmd("SADD").arg("raw:account_ids").arg(id).ignore();
    let hash = pipeline.cmd("HSET").arg(format!("raw:account_entity:{id}"));
    for (field, value) in sample.state.as_object().into_iter().flatten() {
        hash.arg(field).arg(value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    hash.ignore();
}

/// An entry's id and its fields.
pub(crate) type Entry = (String, Vec<(String, String)>);

/// What XREADGROUP answered, per stream, parsed as a client must to use it.
pub(crate) fn entries(reply: Value) -> Vec<(String, Vec<Entry>)> {
    redis::from_redis_value(reply).unwrap_or_default()
}
