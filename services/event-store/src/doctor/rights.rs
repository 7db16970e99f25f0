//! Every command that the store sends or calls in its functions, and whether the user may send it.
//!
//! The server is asked by queueing each command in a transaction that is then discarded: nothing
//! runs, and it needs no right to ask about rights (`ACL DRYRUN` does).

use super::Access;
use crate::Layout;
use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value};

/// Commands as they are queued. `@stream`, `@own` and `@cache` stand for a key of that sort; the
/// command with its subcommand, as an ACL rule names it, is the first word (`|` joins the two).
pub(super) const READ: &[&str] = &[
    "info",
    "lrange @cache 0 -1",
    "mget @own",
    "ping",
    "time",
    "get @own",
    "hget @own f",
    "hmget @cache f",
    "hexists @own f",
    "hgetall @own",
    "hlen @cache",
    "hvals @own",
    "exists @stream",
    "type @stream",
    "scan 0",
    "scard @own",
    "sismember @cache m",
    "smembers @cache",
    "smismember @own m",
    "srandmember @own 1",
    "sscan @cache 0",
    "zrange @own 0 -1",
    "zrangebylex @cache - +",
    "zscan @cache 0",
    "zscore @cache m",
    "xinfo|consumers @stream g",
    "xinfo|groups @stream",
    "xinfo|stream @stream",
    "xlen @own",
    "xpending @stream g",
    "xrange @stream - +",
    "xrevrange @stream + -",
    "xread STREAMS @stream 0",
];

/// What writing programs need besides.
pub(super) const WRITE: &[&str] = &[
    "client|id",
    "client|unblock 0",
    "del @cache",
    "fcall f 1 @own",
    "fcall_ro f 1 @own",
    "function|load x",
    "hdel @own f",
    "hincrby @own f 1",
    "hscan @own 0",
    "hset @own f v",
    "mset @own v",
    "pexpireat @own 1",
    "rpush @cache v",
    "sadd @cache v",
    "set @own v",
    "srem @cache v",
    "xack @stream g 1-1",
    "xadd @stream * f v",
    "xautoclaim @stream g c 0 0",
    "xclaim @stream g c 0 1-1",
    "xdel @own 1-1",
    "xgroup|create @stream g 0",
    "xgroup|delconsumer @stream g c",
    "xgroup|setid @stream g 0",
    "unlink @own",
    "xtrim @stream MINID 0",
    "xreadgroup GROUP g c STREAMS @stream >",
    "zadd @cache 0 v",
    "zrem @cache v",
];

/// Commands to do without where all of [`INSTEAD`] is allowed.
const FUNCTIONS: &[&str] = &["fcall", "fcall_ro", "function|load"];
const INSTEAD: &[&str] = &["evalsha s 1 @own", "script|load x"];

/// Asked for only to tell people more; the store does without them.
#[cfg(test)]
const OPTIONAL: &[&str] = &[
    "acl|whoami",
    "cluster|info",
    "cluster|slots",
    "command",
    "config|get",
    "function|list",
    "hello",
    "memory|usage",
    "multi",
    "discard",
    "sentinel",
    "wait",
    "waitaof",
];

/// A sort of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Keys {
    Stream,
    Own,
    Cache,
}

impl Keys {
    fn of(word: &str) -> Option<Self> {
        match word {
            "@stream" => Some(Self::Stream),
            "@own" => Some(Self::Own),
            "@cache" => Some(Self::Cache),
            _ => None,
        }
    }

    fn probe(self, layout: Layout) -> String {
        const FAMILY: &str = "eventstore-doctor";
        const KIND: crate::Kind = crate::Kind::new(FAMILY);
        match self {
            Self::Stream => layout.stream(&KIND.stream("probe")),
            Self::Own => layout.record(FAMILY, "probe"),
            Self::Cache => layout.ids(KIND),
        }
    }
}

/// Something that the server would not do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Denied {
    /// The user may not send this command, named as ACL rules do.
    Command(String),
    /// The user may not use keys of this sort.
    Keys(Keys),
    /// The server refuses writes now, whoever asks: its answer.
    Writes(String),
}

/// What of it is denied; `None` when the server could not be asked.
pub(super) async fn probe(
    c: &mut MultiplexedConnection,
    layout: Layout,
    access: Access,
) -> RedisResult<Option<Vec<Denied>>> {
    let commands: Vec<&str> = match access {
        Access::Full => READ.iter().chain(WRITE).chain(INSTEAD).copied().collect(),
        Access::ReadOnly => READ.to_vec(),
    };
    // Only once the transaction is open may the others follow: without it they would run.
    match redis::cmd("MULTI").exec_async(c).await {
        Ok(()) => {}
        Err(e) if e.code() == Some("NOPERM") => return Ok(None),
        Err(e) => return Err(e),
    }
    let mut pipe = redis::pipe();
    for command in &commands {
        pipe.add_command(queued(command, layout));
    }
    pipe.cmd("DISCARD").ignore_errors();
    let answers: Vec<RedisResult<Value>> = pipe.query_async(c).await?;
    let mut denied: Vec<Denied> = commands
        .iter()
        .zip(answers)
        .filter_map(|(command, answer)| {
            let error = answer.err()?;
            judge(command, error.code()?, error.detail().unwrap_or_default())
        })
        .collect();
    denied.sort();
    denied.dedup();
    without_alternatives(&mut denied);
    Ok(Some(denied))
}

/// Functions or scripts: one of them is enough, and functions are what to ask for.
fn without_alternatives(denied: &mut Vec<Denied>) {
    let is = |d: &Denied, of: &[&str]| matches!(d, Denied::Command(c) if of.iter().any(|o| name(o) == c));
    if !denied.iter().any(|d| is(d, INSTEAD)) {
        denied.retain(|d| !is(d, FUNCTIONS));
    }
    denied.retain(|d| !is(d, INSTEAD));
}

fn queued(command: &str, layout: Layout) -> redis::Cmd {
    let mut cmd = redis::Cmd::new();
    let mut words = command.split(' ');
    for name in words.next().unwrap_or_default().split('|') {
        cmd.arg(name);
    }
    for word in words {
        match Keys::of(word) {
            Some(keys) => cmd.arg(keys.probe(layout)),
            None => cmd.arg(word),
        };
    }
    cmd
}

fn judge(command: &str, code: &str, detail: &str) -> Option<Denied> {
    match code {
        "NOPERM" if detail.contains("command") => Some(Denied::Command(name(command).to_owned())),
        "NOPERM" => command.split(' ').find_map(Keys::of).map(Denied::Keys),
        "OOM" | "MISCONF" | "NOREPLICAS" | "READONLY" => Some(Denied::Writes(format!("{code} {detail}"))),
        // On Redis Cluster another node's slot: the user's rights were looked at before.
        _ => None,
    }
}

/// `xgroup|create` of `xgroup|create @stream g 0`.
pub(super) fn name(command: &str) -> &str {
    command.split(' ').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    const CONTAINERS: [&str; 9] =
        ["acl", "client", "cluster", "config", "function", "memory", "script", "xgroup", "xinfo"];

    fn word(text: &str) -> String {
        text.chars().take_while(|c| c.is_ascii_alphabetic() || *c == '_').collect::<String>().to_lowercase()
    }

    /// The commands in a source text: what stands in quotes after one of the markers, with the next
    /// word in quotes where the command has subcommands.
    fn sent(source: &str, into: &mut BTreeSet<String>) {
        for (marker, quote) in [("cmd(\"", '"'), ("call('", '\'')] {
            for rest in source.split(marker).skip(1) {
                let command = word(rest);
                if CONTAINERS.contains(&command.as_str()) {
                    let subcommand = rest.split(quote).nth(2).map(word).unwrap_or_default();
                    into.insert(format!("{command}|{subcommand}"));
                } else {
                    into.insert(command);
                }
            }
        }
    }

    fn visit(folder: &Path, into: &mut BTreeSet<String>) {
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                if path.file_name().unwrap() != "testing" {
                    visit(&path, into);
                }
            } else if path.file_name().unwrap() != "testing.rs" && path.file_name().unwrap() != "rights.rs" {
                sent(&std::fs::read_to_string(&path).unwrap(), into);
            }
        }
    }

    #[test]
    fn every_command_in_the_sources_is_in_the_list_of_rights() {
        let mut used = BTreeSet::new();
        visit(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut used);
        let listed: BTreeSet<&str> =
            READ.iter().chain(WRITE).chain(INSTEAD).chain(OPTIONAL).map(|c| name(c)).collect();
        let missing: Vec<&String> = used.iter().filter(|word| !listed.contains(word.as_str())).collect();
        assert!(
            missing.is_empty(),
            "add these to doctor/rights.rs, so that missing rights are refused at start: {missing:?}"
        );
        assert!(used.len() > 20, "the sources were not read: {used:?}");
    }

    #[test]
    fn a_user_needs_functions_or_scripts_and_is_told_of_functions() {
        let left = |commands: &[&str]| {
            let mut denied = commands.iter().map(|c| Denied::Command((*c).to_owned())).collect();
            without_alternatives(&mut denied);
            denied
        };
        assert_eq!(left(&["fcall", "fcall_ro", "function|load"]), []);
        assert_eq!(left(&["evalsha", "script|load"]), []);
        assert_eq!(left(&["fcall", "script|load", "xadd"]).len(), 2);
    }

    #[test]
    fn a_denied_key_is_told_from_a_denied_command_whatever_the_server_s_words() {
        for text in [
            "this user has no permissions to run the 'xadd' command",
            "User a has no permissions to run the 'xadd' command",
        ] {
            assert_eq!(judge("xadd @stream * f v", "NOPERM", text), Some(Denied::Command("xadd".to_owned())));
        }
        for text in [
            "this user has no permissions to access one of the keys used as arguments",
            "No permissions to access a key",
        ] {
            assert_eq!(judge("xadd @stream * f v", "NOPERM", text), Some(Denied::Keys(Keys::Stream)));
        }
    }
}
