//! What a store behind sentinels needs besides a fit master: sentinels that answer, agree and could decide
//! a failover, and somebody to promote.

use super::checks::Findings;
use super::facts::Facts;
use super::{Finding, Severity};
use crate::connection::sentinel::Sentinels;

/// What one sentinel told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub(super) sentinel: String,
    /// The master's address; `None` when it watches no master of this name.
    pub(super) master: Result<Option<String>, String>,
    /// Why a failover could not be decided.
    pub(super) no_quorum: Option<String>,
}

/// Asks every sentinel.
pub(super) async fn gather(sentinels: &Sentinels) -> Vec<Told> {
    let mut told = Vec::new();
    for (sentinel, info) in sentinels.nodes() {
        let master = sentinels.told_by(info).await;
        let quorum = sentinels.quorum(info).await;
        told.push(Told {
            sentinel,
            master: master.map(|address| address.map(|a| a.to_string())).map_err(|e| e.to_string()),
            no_quorum: quorum.err().filter(|e| e.code() == Some("NOQUORUM")).map(|e| e.to_string()),
        });
    }
    told
}

/// Judges what they told; `master` is what the master told of itself.
pub(super) fn check(told: &[Told], master: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let first = told.iter().find_map(|t| t.master.as_ref().ok()?.as_ref());
    for one in told {
        let mut f = Findings::of(&one.sentinel);
        match &one.master {
            Err(e) => f.add(
                Severity::Warn,
                "sentinel",
                format!("the sentinel does not answer: {e}"),
                "start it again, or name the one that took its place",
            ),
            Ok(None) => f.add(
                Severity::Warn,
                "sentinel",
                "the sentinel watches no master of this name",
                "SENTINEL MONITOR, or the name that it knows (SENTINEL MASTERS)",
            ),
            Ok(Some(address)) if Some(address) != first => f.add(
                Severity::Warn,
                "sentinel",
                format!("the sentinel names {address} as the master, another one does not"),
                "wait for the end of the failover; if it stays, they watch different servers",
            ),
            Ok(Some(_)) => {}
        }
        if let Some(why) = &one.no_quorum {
            f.add(
                Severity::Warn,
                "sentinel-quorum",
                format!("no failover could be decided: {why}"),
                "start the sentinels that are away; three or more on machines of their own",
            );
        }
        findings.append(&mut f.list);
    }
    let mut f = Findings::of(&master.server);
    if master.info.number("connected_slaves") == Some(0) {
        f.add(
            Severity::Warn,
            "sentinel-replica",
            "the master has no replica: nobody could take its place",
            "start a server with replicaof",
        );
    }
    let least = master.config.as_ref().and_then(|config| config.get("min-replicas-to-write"));
    if least.is_some_and(|n| n == "0") {
        f.add(
            Severity::Info,
            "sentinel-isolation",
            "a master that is cut off goes on taking appends, which are lost when it comes back as a replica",
            "CONFIG SET min-replicas-to-write 1 on every server, where no append is better than a lost one",
        );
    }
    findings.append(&mut f.list);
    findings
}

#[cfg(test)]
mod tests {
    use super::super::info::Info;
    use super::*;
    use std::collections::HashMap;

    fn told(sentinel: &str, master: Result<Option<&str>, &str>) -> Told {
        let master = master.map(|m| m.map(str::to_owned)).map_err(str::to_owned);
        Told { sentinel: sentinel.to_owned(), master, no_quorum: None }
    }

    fn master(replicas: u32, least: &str) -> Facts {
        Facts {
            server: "m:1".to_owned(),
            info: Info::parse(&format!("connected_slaves:{replicas}\r\n")),
            config: Some(HashMap::from([("min-replicas-to-write".to_owned(), least.to_owned())])),
            ..Facts::default()
        }
    }

    #[test]
    fn sentinels_that_are_away_or_disagree_are_named_and_those_that_are_well_are_not() {
        let well = [told("s:1", Ok(Some("m:1"))), told("s:2", Ok(Some("m:1")))];
        assert_eq!(check(&well, &master(1, "1")), []);
        let ill = [
            told("s:1", Ok(Some("m:1"))),
            told("s:2", Ok(Some("m:2"))),
            told("s:3", Ok(None)),
            Told { no_quorum: Some("1 usable".to_owned()), ..told("s:4", Err("refused")) },
        ];
        let found: Vec<_> =
            check(&ill, &master(0, "0")).into_iter().map(|f| (f.server, f.severity, f.subject)).collect();
        let expected = [
            ("s:2", Severity::Warn, "sentinel"),
            ("s:3", Severity::Warn, "sentinel"),
            ("s:4", Severity::Warn, "sentinel"),
            ("s:4", Severity::Warn, "sentinel-quorum"),
            ("m:1", Severity::Warn, "sentinel-replica"),
            ("m:1", Severity::Info, "sentinel-isolation"),
        ];
        assert_eq!(found, expected.map(|(server, severity, subject)| (server.to_owned(), severity, subject)));
    }
}
