//! What is wrong with a server for this use, and what to change. The same checks refuse an unfit
//! server when a store is opened and are printed by the command-line program.
//!
//! Looks only: what a user may do is asked in a transaction that is discarded. Never changes the
//! server's configuration or data.

mod checks;
mod facts;
mod grants;
mod info;
mod rights;
mod sentinel;

pub(crate) use info::Info;

use crate::config::Config;
use crate::connection;
use crate::error::{ConnectError, ConnectErrorKind};
use serde::Serialize;
use std::fmt;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Severity {
    /// Good to know.
    Info,
    /// The store works, but a promise is weaker than it could be.
    Warn,
    /// The store cannot be used like this: opening it is refused.
    Refuse,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Refuse => "refuse",
        })
    }
}

/// Something about a server that somebody should know or change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The server, `host:port`; on Redis Cluster every master is looked at, and every sentinel there is.
    pub server: String,
    /// How much it matters.
    pub severity: Severity,
    /// What it is about, as one stable word: `maxmemory-policy`.
    pub subject: &'static str,
    /// What is wrong.
    pub problem: String,
    /// What to change; empty when nothing needs to.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.problem)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, ": {}", self.remedy) }
    }
}

/// What a program is going to do, which decides what the server must allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// Appends, handles, projects.
    #[default]
    Full,
    /// Reads and inspects only; a replica and a user without rights to write are fit for that.
    ReadOnly,
}

/// Looks at the server (on Redis Cluster at every master) and answers what is wrong with it for a
/// store of this configuration, the worst first. Works where opening a store is refused.
pub async fn diagnose(config: &Config) -> Result<Vec<Finding>, ConnectError> {
    let unavailable = |e: redis::RedisError| ConnectError::new(ConnectErrorKind::Unavailable, e.to_string());
    let mut findings = Vec::new();
    for (server, mut connection) in connection::servers(config).await? {
        let facts = facts::gather(server, &mut connection, config.layout, config.access)
            .await
            .map_err(unavailable)?;
        findings.extend(checks::check(&facts, config.layout, config.access));
        if let Some(watched) = &config.watched {
            let told = sentinel::gather(&connection::sentinel::Sentinels::new(config, watched)?).await;
            findings.extend(sentinel::check(&told, &facts));
        }
    }
    findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    Ok(findings)
}

/// Every command that the store sends or calls in its functions, as ACL rules name them
/// (`xgroup|create`): what a user needs besides the keys `events:*`, `eventstore:*` and those of
/// its entities and projections.
#[must_use]
pub fn rights() -> Vec<&'static str> {
    rights::READ.iter().chain(rights::WRITE).map(|command| rights::name(command)).collect()
}

/// As [`diagnose`], with an error for the first finding that forbids to go on; warnings are logged.
pub(crate) async fn at_connect(config: &Config) -> Result<(), ConnectError> {
    let findings = diagnose(config).await?;
    for finding in findings.iter().filter(|f| f.severity == Severity::Warn) {
        tracing::warn!(server = %finding.server, subject = finding.subject, "{finding}");
    }
    let refused: Vec<String> = findings
        .iter()
        .filter(|f| f.severity == Severity::Refuse)
        .map(|f| format!("{}: {f}", f.server))
        .collect();
    if refused.is_empty() {
        return Ok(());
    }
    Err(ConnectError::new(ConnectErrorKind::Unsuitable, refused.join("; ")))
}
