//! The store's Redis functions: one library, named by a hash of its source, so that an old and a
//! new program on one server each call their own.

use redis::aio::ConnectionLike;
use redis::{RedisError, RedisResult, Value};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

static SOURCE: LazyLock<(String, String)> = LazyLock::new(|| {
    let parts = concat!(
        include_str!("functions/common.lua"),
        include_str!("functions/append.lua"),
        include_str!("functions/finish.lua"),
        include_str!("functions/ready.lua"),
        include_str!("functions/park.lua"),
        include_str!("functions/upkeep.lua"),
        include_str!("functions/project.lua"),
    );
    let library = format!("eventstore_{}", crate::append::hex(&Sha256::digest(parts.as_bytes())[..6]));
    let source = format!("#!lua name={library}\n{}", parts.replace("@LIB@", &library));
    (library, source)
});

/// Loads the library where the server has it not yet.
pub(crate) async fn load(connection: &mut impl ConnectionLike) -> RedisResult<()> {
    redis::cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(&SOURCE.1).exec_async(connection).await
}

/// One call of a function. A server that lost the library (flushed, replaced) gets it again.
pub(crate) async fn call(
    connection: &mut impl ConnectionLike,
    function: &str,
    keys: &[String],
    args: &[String],
) -> RedisResult<Value> {
    let mut command = redis::cmd(if function == "ready" { "FCALL_RO" } else { "FCALL" });
    command.arg(format!("{}_{function}", SOURCE.0)).arg(keys.len()).arg(keys).arg(args);
    match command.query_async(connection).await {
        Err(e) if is_missing(&e) => {
            load(connection).await?;
            command.query_async(connection).await
        }
        answer => answer,
    }
}

fn is_missing(e: &RedisError) -> bool {
    e.to_string().contains("Function not found")
}
