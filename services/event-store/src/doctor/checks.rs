//! Judges what a server told. Pure: the tests need no server.

use super::facts::Facts;
use super::info::{Info, version};
use super::{Access, Finding, Severity, grants};
use crate::Layout;
use std::time::Duration;

/// The oldest servers with functions as the store uses them.
const REDIS: (u32, u32) = (7, 0);
const VALKEY: (u32, u32) = (7, 2);
/// A round trip within one network is far below it.
const FAR: Duration = Duration::from_millis(20);
const CLOCKS_APART_MS: u64 = 5_000;
/// Percent of a bound (memory, clients) from which on it is near.
const NEAR: u64 = 90;

/// What is wrong, by one server's facts.
pub(super) fn check(facts: &Facts, layout: Layout, access: Access) -> Vec<Finding> {
    let mut findings = Findings::of(&facts.server);
    kind(&mut findings, &facts.info);
    role(&mut findings, facts, layout, access);
    memory(&mut findings, &facts.info, access);
    persistence(&mut findings, facts);
    grants::check(&mut findings, facts, layout);
    surroundings(&mut findings, facts);
    findings.list
}

pub(super) struct Findings<'a> {
    server: &'a str,
    pub(super) list: Vec<Finding>,
}

impl<'a> Findings<'a> {
    pub(super) fn of(server: &'a str) -> Self {
        Self { server, list: Vec::new() }
    }

    pub(super) fn add(
        &mut self,
        severity: Severity,
        subject: &'static str,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.list.push(Finding {
            server: self.server.to_owned(),
            severity,
            subject,
            problem: problem.into(),
            remedy: remedy.into(),
        });
    }
}

fn kind(f: &mut Findings<'_>, info: &Info) {
    const USE: &str = "use Redis 7.0 or newer, or Valkey 7.2 or newer";
    let told = info.get("redis_version").unwrap_or_default();
    if info.is("server_name", "valkey") {
        let told = info.get("valkey_version").unwrap_or_default();
        if version(told) < VALKEY {
            f.add(Severity::Refuse, "version", format!("the server is Valkey {told}"), USE);
        }
    } else if !told.is_empty() && version(told) < REDIS {
        f.add(Severity::Refuse, "version", format!("the server is Redis {told}"), USE);
    }
    let clone = ["dragonfly_version", "kvrocks_version", "garnet_version"]
        .into_iter()
        .find(|n| info.get(n).is_some());
    if let Some(name) = clone {
        f.add(Severity::Warn, "version", format!("the server has a {name}: nothing was tested on it"), USE);
    }
    if info.is("loading", "1") {
        f.add(Severity::Warn, "loading", "the server is loading its data", "wait until it has");
    }
}

fn role(f: &mut Findings<'_>, facts: &Facts, layout: Layout, access: Access) {
    let info = &facts.info;
    if info.is("role", "slave") {
        let master = format!(
            "{}:{}",
            info.get("master_host").unwrap_or_default(),
            info.get("master_port").unwrap_or_default()
        );
        match access {
            Access::Full => f.add(
                Severity::Refuse,
                "role",
                "the server is a replica, which takes no writes",
                format!("connect to its master, {master}"),
            ),
            Access::ReadOnly => {
                f.add(
                    Severity::Info,
                    "role",
                    format!("the server is a replica of {master} and may be behind"),
                    "",
                );
            }
        }
    }
    match (info.get("cluster_enabled"), layout) {
        (Some("1"), Layout::Plain) => f.add(
            Severity::Refuse,
            "layout",
            "the server is a node of a Redis Cluster, where the keys of the plain layout lie in different slots",
            "choose the tagged layout, or a standalone server",
        ),
        (Some("0"), Layout::Tagged) => f.add(
            Severity::Info,
            "layout",
            "the tagged layout on a standalone server: ordering and atomicity hold within a family only, as on a cluster",
            "",
        ),
        _ => {}
    }
    if let Some(state) = facts.cluster.as_ref().and_then(|c| c.get("cluster_state"))
        && state != "ok"
    {
        f.add(
            Severity::Warn,
            "cluster",
            format!("the state of the cluster is {state}: some slots are served by nobody"),
            "see CLUSTER SHARDS for the node that is away",
        );
    }
}

fn memory(f: &mut Findings<'_>, info: &Info, access: Access) {
    let policy = info.get("maxmemory_policy").unwrap_or("noeviction");
    if policy != "noeviction" {
        // Who only looks adds nothing that could be dropped.
        let severity = if access == Access::Full { Severity::Refuse } else { Severity::Warn };
        f.add(
            severity,
            "maxmemory-policy",
            format!("maxmemory-policy is {policy}, so the server may drop events"),
            "CONFIG SET maxmemory-policy noeviction, and the same in its configuration file",
        );
    }
    let (used, max) = (info.number("used_memory"), info.number("maxmemory"));
    if let (Some(used), Some(max)) = (used, max) {
        if max == 0 {
            f.add(
                Severity::Info,
                "maxmemory",
                "no maxmemory is set: when memory runs out the system ends the server, instead of the server refusing appends",
                "set maxmemory to what the machine can spare",
            );
        } else if used.saturating_mul(100) >= max.saturating_mul(NEAR) {
            f.add(
                Severity::Warn,
                "maxmemory",
                format!("{} of {} MiB of memory are used; when it is full every append is refused", used >> 20, max >> 20),
                "trim the log (`eventstore trim --dry-run` shows what can go, and which groups and positions hold back the rest; `eventstore positions remove` removes a forgotten position), or raise maxmemory",
            );
        }
    }
    if let (Some(clients), Some(max)) = (info.number("connected_clients"), info.number("maxclients"))
        && clients * 100 >= max * NEAR
    {
        f.add(
            Severity::Warn,
            "maxclients",
            format!("{clients} of {max} connections are in use"),
            "raise maxclients",
        );
    }
}

fn persistence(f: &mut Findings<'_>, facts: &Facts) {
    let info = &facts.info;
    let setting = |name: &str| facts.config.as_ref().and_then(|c| c.get(name)).map(String::as_str);
    if info.is("aof_enabled", "1") {
        match setting("appendfsync") {
            Some("always") => {}
            Some("no") => f.add(
                Severity::Warn,
                "appendfsync",
                "appendfsync is no: a power loss may cost half a minute of events that were acknowledged",
                "CONFIG SET appendfsync everysec, or always",
            ),
            Some(_) => f.add(
                Severity::Info,
                "appendfsync",
                "appendfsync is everysec: a power loss, or the server killed while its disk is busy, may cost two seconds",
                "always, where these seconds matter more than speed",
            ),
            None => f.add(Severity::Info, "appendfsync", "appendfsync is unknown: CONFIG GET is denied", ""),
        }
        if info.number("aof_rewrites") == Some(0) {
            f.add(
                Severity::Info,
                "restart",
                "the append-only file was not written anew since the server started: what a crash has left of an append \
                 there is carried out at its next start",
                "BGREWRITEAOF after each start",
            );
        }
    } else if info.get("aof_enabled").is_some() {
        let kept = match setting("save") {
            Some("") => "nothing is kept on disk: every event is lost when the server ends",
            Some(_) => {
                "only snapshots are kept on disk: events since the last one are lost when the server ends"
            }
            None => "the server writes no append-only file: events are lost when it ends",
        };
        f.add(
            Severity::Warn,
            "persistence",
            kept,
            "CONFIG SET appendonly yes, and the same in its configuration file",
        );
    }
    for (field, file) in
        [("aof_last_write_status", "append-only file"), ("rdb_last_bgsave_status", "snapshot")]
    {
        if info.is(field, "err") {
            f.add(
                Severity::Warn,
                "disk",
                format!("the last write of the {file} failed"),
                "see the server's log, and whether its disk is full",
            );
        }
    }
}

fn surroundings(f: &mut Findings<'_>, facts: &Facts) {
    if facts.round_trip > FAR {
        f.add(
            Severity::Warn,
            "latency",
            format!("an answer takes {} ms", facts.round_trip.as_millis()),
            "run next to the server; see its slow log for commands that hold it up",
        );
    }
    if facts.clock_ahead_ms.unsigned_abs() > CLOCKS_APART_MS {
        let by = facts.clock_ahead_ms.unsigned_abs() / 1000;
        let side = if facts.clock_ahead_ms > 0 { "ahead of" } else { "behind" };
        f.add(
            Severity::Warn,
            "clock",
            format!(
                "the server's clock is {by} s {side} this machine's; ids are times by the server's clock"
            ),
            "synchronise the clocks (ids stay ordered in any case)",
        );
    }
    if !facts.other_libraries.is_empty() {
        f.add(
            Severity::Info,
            "functions",
            format!("functions of other versions are loaded: {}", facts.other_libraries.join(", ")),
            "FUNCTION DELETE each when no program of that version runs any more",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::rights::{Denied, Keys};
    use super::*;

    fn fit() -> Facts {
        let info = "redis_version:7.0.15\r\nrole:master\r\ncluster_enabled:0\r\nmaxmemory_policy:noeviction\r\n\
                    used_memory:1048576\r\nmaxmemory:1073741824\r\naof_enabled:1\r\nconnected_clients:3\r\nmaxclients:100\r\n";
        Facts {
            server: "redis:6379".to_owned(),
            info: Info::parse(info),
            config: Some(
                [("appendfsync", "always"), ("save", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            ),
            user: Some("default".to_owned()),
            denied: Some(Vec::new()),
            ..Facts::default()
        }
    }

    fn with(text: &str) -> Facts {
        let mut facts = fit();
        let mut all = String::new();
        for line in ["redis_version:7.0.15", "role:master", "cluster_enabled:0", "aof_enabled:1"] {
            all = format!("{all}{line}\n");
        }
        facts.info = Info::parse(&format!("{all}{text}"));
        facts
    }

    fn found(facts: &Facts) -> Vec<(Severity, &'static str)> {
        check(facts, Layout::Plain, Access::Full).into_iter().map(|f| (f.severity, f.subject)).collect()
    }

    #[test]
    fn nothing_is_wrong_with_a_fit_server() {
        assert_eq!(found(&fit()), []);
    }

    #[test]
    fn each_fault_is_found_with_what_to_change() {
        let cases = [
            ("redis_version:6.2.1", Severity::Refuse, "version"),
            ("server_name:valkey\nvalkey_version:7.1.0", Severity::Refuse, "version"),
            ("maxmemory_policy:allkeys-lru", Severity::Refuse, "maxmemory-policy"),
            ("role:slave\nmaster_host:a\nmaster_port:1", Severity::Refuse, "role"),
            ("cluster_enabled:1", Severity::Refuse, "layout"),
            ("aof_enabled:0", Severity::Warn, "persistence"),
            ("aof_rewrites:0", Severity::Info, "restart"),
            ("aof_last_write_status:err", Severity::Warn, "disk"),
            ("used_memory:95\nmaxmemory:100", Severity::Warn, "maxmemory"),
            ("connected_clients:95\nmaxclients:100", Severity::Warn, "maxclients"),
            ("loading:1", Severity::Warn, "loading"),
            ("dragonfly_version:df-1", Severity::Warn, "version"),
            ("used_memory:95\nmaxmemory:0", Severity::Info, "maxmemory"),
        ];
        for (text, severity, subject) in cases {
            let facts = with(text);
            assert_eq!(found(&facts), [(severity, subject)], "{text}");
            let findings = check(&facts, Layout::Plain, Access::Full);
            assert!(!findings[0].remedy.is_empty(), "{text}: what to change?");
        }
        assert_eq!(found(&with("server_name:valkey\nvalkey_version:8.1.1\nredis_version:7.2.4")), []);
    }

    #[test]
    fn a_reader_may_use_a_replica_and_is_told() {
        let facts = with("role:slave\nmaster_host:a\nmaster_port:1");
        let findings = check(&facts, Layout::Plain, Access::ReadOnly);
        assert_eq!(findings[0].severity, Severity::Info);
        assert!(findings[0].problem.contains("a:1"), "{findings:?}");
    }

    #[test]
    fn missing_rights_are_refused_with_the_command_that_grants_them() {
        let mut facts = fit();
        facts.denied = Some(vec![Denied::Command("xadd".into()), Denied::Command("xgroup|create".into())]);
        let finding = check(&facts, Layout::Plain, Access::Full).remove(0);
        assert_eq!(finding.severity, Severity::Refuse);
        assert_eq!(finding.problem, "user default may not xadd, xgroup create");
        assert_eq!(finding.remedy, "ACL SETUSER default +xadd +xgroup|create");
    }

    #[test]
    fn keys_that_every_append_needs_are_refused_and_narrower_patterns_are_a_warning() {
        let mut facts = fit();
        facts.denied = Some(vec![Denied::Keys(Keys::Stream), Denied::Keys(Keys::Own)]);
        assert_eq!(found(&facts), [(Severity::Warn, "keys"), (Severity::Refuse, "keys")]);
        let tagged = check(&facts, Layout::Tagged, Access::Full);
        assert!(tagged.iter().all(|f| f.severity < Severity::Refuse), "{tagged:?}");
    }

    #[test]
    fn a_full_server_is_no_reason_not_to_start_but_a_warning() {
        let mut facts = fit();
        facts.denied =
            Some(vec![Denied::Writes("OOM command not allowed".into()), Denied::Writes("READONLY x".into())]);
        assert_eq!(found(&facts), [(Severity::Warn, "writes")]);
    }

    #[test]
    fn what_the_server_does_not_tell_is_unknown_not_wrong() {
        let mut facts = fit();
        (facts.config, facts.denied) = (None, None);
        assert_eq!(found(&facts), [(Severity::Info, "appendfsync"), (Severity::Info, "rights")]);
        facts = fit();
        facts.round_trip = Duration::from_millis(30);
        facts.clock_ahead_ms = -9_000;
        facts.other_libraries = vec!["eventstore_0".to_owned()];
        assert_eq!(
            found(&facts),
            [(Severity::Warn, "latency"), (Severity::Warn, "clock"), (Severity::Info, "functions")]
        );
    }
}
