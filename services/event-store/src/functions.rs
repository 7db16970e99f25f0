//! The store's Redis functions: one library, named by a hash of its source, so that an old and a
//! new program on one server each call their own.

use crate::connection::Connection;
use redis::{Cmd, RedisError, RedisResult, ToRedisArgs, Value};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::sync::LazyLock;

static SOURCE: LazyLock<(String, String)> = LazyLock::new(|| {
    let parts = concat!(
        include_str!("functions/common.lua"),
        include_str!("functions/group.lua"),
        include_str!("functions/cache.lua"),
        include_str!("functions/append.lua"),
        include_str!("functions/finish.lua"),
        include_str!("functions/ready.lua"),
        include_str!("functions/park.lua"),
        include_str!("functions/upkeep.lua"),
        include_str!("functions/project.lua"),
    );
    let library = format!("eventstore_{}", hex(&Sha256::digest(parts.as_bytes())[..6]));
    let source = format!("#!lua name={library}\n{}", parts.replace("@LIB@", &library));
    (library, source)
});

/// The library's name.
pub(crate) fn library() -> &'static str {
    &SOURCE.0
}

/// Bytes as lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn load_command() -> redis::Cmd {
    let mut command = redis::cmd("FUNCTION");
    command.arg("LOAD").arg(&SOURCE.1);
    command
}

/// The library's name is a hash of its source: one that is there already is the same.
fn unless_there<T>(answer: RedisResult<T>) -> RedisResult<()> {
    match answer {
        Err(e) if !e.to_string().contains("already exists") => Err(e),
        _ => Ok(()),
    }
}

/// Loads the library on every master that has it not yet.
pub(crate) async fn load(connection: &mut Connection) -> RedisResult<()> {
    let answers = connection.everywhere(&load_command()).await?;
    answers.into_iter().try_for_each(|(_, answer)| unless_there(answer))
}

/// A call of a function.
pub(crate) fn command(function: &str, keys: impl ToRedisArgs, args: impl ToRedisArgs) -> Cmd {
    let mut command = redis::cmd(if function == "ready" { "FCALL_RO" } else { "FCALL" });
    command.arg(format!("{}_{function}", SOURCE.0)).arg(keys.num_of_args()).arg(keys).arg(args);
    command
}

/// Sends a call. A server that lost the library (flushed, or a master that is new in a cluster) gets
/// it again; `key` is one of the call's.
pub(crate) async fn send(connection: &mut Connection, command: &Cmd, key: &str) -> RedisResult<Value> {
    match command.query_async(connection).await {
        Err(e) if is_missing(&e) => {
            load_at(connection, key).await?;
            command.query_async(connection).await
        }
        answer => answer,
    }
}

/// Loads the library on the server that holds this key.
pub(crate) async fn load_at(connection: &mut Connection, key: &str) -> RedisResult<()> {
    unless_there(connection.at(key, &load_command()).await)
}

/// Makes and sends a call.
pub(crate) async fn call(
    connection: &mut Connection,
    function: &str,
    keys: &[String],
    args: &[String],
) -> RedisResult<Value> {
    let key = keys.first().map_or("", String::as_str);
    send(connection, &command(function, keys, args), key).await
}

/// Does the server not know the function?
pub(crate) fn is_missing(e: &RedisError) -> bool {
    e.to_string().contains("Function not found")
}
