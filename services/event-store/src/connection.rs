//! Connections: a shared one for commands, and one of its own for each blocking reader.

use crate::error::{ConnectError, ConnectErrorKind};
use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, RedisResult};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A client whose sockets send small commands at once: with Nagle's algorithm a command waits for
/// the acknowledgement of the one before it.
pub(crate) fn client(url: &str) -> Result<Client, ConnectError> {
    let invalid = |e: redis::RedisError| ConnectError::new(ConnectErrorKind::InvalidUrl, e.to_string());
    let info = url.into_connection_info().map_err(invalid)?;
    Client::open(info.set_tcp_settings(TcpSettings::default().set_nodelay(true))).map_err(invalid)
}

/// The shared connection: reconnects by itself, fails fast while the server is away.
pub(crate) async fn shared(client: Client, response_timeout: Duration) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(response_timeout))
        .set_min_delay(Duration::from_millis(20))
        .set_max_delay(Duration::from_millis(500))
        .set_number_of_retries(3);
    ConnectionManager::new_with_config(client, config).await
}

/// A connection for blocking reads. It has no response timeout of its own: a read that is given up
/// while the server still serves it would hand events to a reader that has gone.
pub(crate) async fn blocking(client: &Client) -> RedisResult<MultiplexedConnection> {
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_TIMEOUT)).set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// May the same command succeed later? (The server is away, starting, or has lost its functions.)
pub(crate) fn is_passing(e: &redis::RedisError) -> bool {
    e.is_io_error()
        || e.is_timeout()
        || e.is_connection_dropped()
        || e.is_connection_refusal()
        || matches!(
            e.code(),
            Some("LOADING" | "MASTERDOWN" | "READONLY" | "TRYAGAIN" | "CLUSTERDOWN" | "BUSY" | "UNBLOCKED")
        )
}
