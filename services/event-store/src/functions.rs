//! The store's Redis functions: one library, named by a hash of its source, so that an old and a
//! new program on one server each call their own.

use crate::connection::Connection;
use redis::{Cmd, RedisError, RedisResult, ToRedisArgs, Value};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::sync::LazyLock;

struct Source {
    library: String,
    functions: String,
    script: String,
    script_hash: String,
}

static SOURCE: LazyLock<Source> = LazyLock::new(|| {
    let parts = concat!(
        include_str!("functions/common.lua"),
        include_str!("functions/group.lua"),
        include_str!("functions/cache.lua"),
        include_str!("functions/settings.lua"),
        include_str!("functions/append.lua"),
        include_str!("functions/finish.lua"),
        include_str!("functions/streams.lua"),
        include_str!("functions/ready.lua"),
        include_str!("functions/park.lua"),
        include_str!("functions/upkeep.lua"),
        include_str!("functions/project.lua"),
        include_str!("functions/position.lua"),
        include_str!("functions/trim.lua"),
        include_str!("functions/rebuild.lua"),
        include_str!("functions/import.lua"),
    );
    let library = name(parts);
    let body = parts.replace("@LIB@", &library);
    let functions = format!("#!lua name={library}\n{body}");
    // The same functions by their names in a table, and a call of the one that is asked for.
    let script = format!(
        "local library, server = {{}}, redis\n\
         local redis = setmetatable({{ register_function = function(name, run)\n\
         if type(name) == 'table' then name, run = name.function_name, name.callback end\n\
         library[name] = run end }}, {{ __index = server }})\n\
         {body}\n\
         return library[table.remove(ARGV, 1)](KEYS, ARGV)\n"
    );
    let script_hash = redis::Script::new(&script).get_hash().to_owned();
    Source { library, functions, script, script_hash }
});

/// The library's name, a hash of its source: an old and a new program on one server each call their own.
fn name(source: &str) -> String {
    #[cfg(feature = "testing")]
    let source = std::env::var(crate::testing::VERSION).map_or_else(|_| source.to_owned(), |v| v + source);
    let source: &str = source.as_ref();
    format!("eventstore_{}", hex(&Sha256::digest(source.as_bytes())[..6]))
}

/// The library's name.
pub(crate) fn library() -> &'static str {
    &SOURCE.library
}

/// Bytes as lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn load_command() -> Cmd {
    let mut command = redis::cmd("FUNCTION");
    command.arg("LOAD").arg(&SOURCE.functions);
    command
}

fn load_script_command() -> Cmd {
    let mut command = redis::cmd("SCRIPT");
    command.arg("LOAD").arg(&SOURCE.script);
    command
}

/// One that is there already is the same: its name is a hash of its source.
fn unless_there<T>(answer: RedisResult<T>) -> RedisResult<()> {
    match answer {
        Err(e) if !e.to_string().contains("already exists") => Err(e),
        _ => Ok(()),
    }
}

/// Loads the library on every master that has it not yet; as a script for a user who may not load
/// functions. Libraries of other versions stay: programs of theirs may be running.
pub(crate) async fn load(connection: &mut Connection) -> RedisResult<()> {
    let answers = connection.everywhere(&load_command()).await?;
    match answers.into_iter().try_for_each(|(_, answer)| unless_there(answer)) {
        Err(e) if e.code() == Some("NOPERM") => {
            connection.set_by_script();
            let answers = connection.everywhere(&load_script_command()).await?;
            answers.into_iter().try_for_each(|(_, answer)| answer.map(drop))
        }
        loaded => loaded,
    }
}

/// A call of a function, as this connection must make it.
pub(crate) fn command(
    connection: &Connection,
    function: &str,
    keys: impl ToRedisArgs,
    args: impl ToRedisArgs,
) -> Cmd {
    let name = format!("{}_{function}", SOURCE.library);
    let mut command;
    if connection.is_by_script() {
        command = redis::cmd("EVALSHA");
        command.arg(&SOURCE.script_hash).arg(keys.num_of_args()).arg(keys).arg(name);
    } else {
        command = redis::cmd(if function == "ready" { "FCALL_RO" } else { "FCALL" });
        command.arg(name).arg(keys.num_of_args()).arg(keys);
    }
    command.arg(args);
    command
}

/// Sends a call. A server that lost the library (flushed, deleted by hand, or a master that is new in
/// a cluster) gets it again, and one that lost the script, as every restart does.
pub(crate) async fn send(connection: &mut Connection, command: &Cmd) -> RedisResult<Value> {
    match command.query_async(connection).await {
        Err(e) if is_missing(&e) => {
            load_again(connection).await?;
            command.query_async(connection).await
        }
        answer => answer,
    }
}

/// Loads the library wherever it is missing. In a cluster it may be missed by another master than the one
/// that owned the key until now, so each gets it; one that is away is not waited for.
pub(crate) async fn load_again(connection: &mut Connection) -> RedisResult<()> {
    let load = if connection.is_by_script() { load_script_command() } else { load_command() };
    let answers = connection.everywhere(&load).await?.into_iter();
    let (loaded, mut failed): (Vec<_>, Vec<_>) =
        answers.map(|(_, answer)| unless_there(answer)).partition(Result::is_ok);
    match failed.pop() {
        Some(failed) if loaded.is_empty() => failed,
        _ => Ok(()),
    }
}

/// Makes and sends a call.
pub(crate) async fn call(
    connection: &mut Connection,
    function: &str,
    keys: &[String],
    args: &[String],
) -> RedisResult<Value> {
    let command = command(connection, function, keys, args);
    send(connection, &command).await
}

/// Does the server not know the function?
pub(crate) fn is_missing(e: &RedisError) -> bool {
    e.code() == Some("NOSCRIPT") || e.to_string().contains("Function not found")
}
