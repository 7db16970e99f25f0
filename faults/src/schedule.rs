//! Which faults happen when: a function of the seed. Pure; does nothing.
//!
//! Every kind of fault stands once in a deck that the seed shuffles. A run deals from it; the next seed goes on
//! where this one ends, so that a few seeds in a row have seen every kind.

mod cluster;

pub use cluster::{OnCluster, on_cluster};

use crate::rng::Rng;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The nine services.
pub const SERVICES: [&str; 9] =
    ["gateway", "customer", "product", "inventory", "order", "billing", "crm", "notification", "read-model"];

/// Those with a group of their own.
pub const GROUPS: [&str; 5] = ["inventory", "order", "billing", "crm", "notification"];

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Fault {
    /// `kill -9` of a service; it is started again, as the same consumer or as another one.
    Kill {
        /// Which.
        service: String,
        /// Does it come back under another name, as a new pod does?
        renamed: bool,
        /// How long it is away.
        away_ms: u64,
    },
    /// `kill -9` of all nine at once.
    KillAll,
    /// SIGTERM and a start again, one service after the other.
    Rolling,
    /// SIGSTOP, and SIGCONT after this time; a second replica takes over meanwhile.
    Freeze {
        /// Which.
        service: String,
        /// For how long.
        ms: u64,
    },
    /// `kill -9` of Redis and a start on its append-only file.
    RedisKill {
        /// How long it is away.
        away_ms: u64,
    },
    /// Redis answers nothing: CLIENT PAUSE, or SIGSTOP.
    RedisPause {
        /// By SIGSTOP instead of CLIENT PAUSE.
        stopped: bool,
        /// For how long.
        ms: u64,
    },
    /// All connections of Redis are closed.
    Cut,
    /// More replicas of a service, and fewer again.
    Scale {
        /// Which.
        service: String,
        /// How many.
        to: usize,
        /// For how long.
        ms: u64,
    },
    /// The next version of inventory and order, which writes another schema, beside the old one, then instead of
    /// it. A second time in one run both are the next one.
    Upgrade {
        /// How long both are there.
        ms: u64,
    },
    /// XGROUP DESTROY on all streams of a group.
    GroupDestroyed {
        /// Which.
        group: String,
    },
    /// Entries that are no events, written by another program: about one in a thousand.
    Poison {
        /// How many.
        entries: u64,
    },
    /// `maxmemory` below what is used, with `noeviction`.
    OutOfMemory {
        /// For how long.
        ms: u64,
    },
    /// Redis refuses writes: too few replicas, or it is made a replica itself.
    ReadOnly {
        /// A replica itself.
        replica: bool,
        /// For how long.
        ms: u64,
    },
    /// The append-only file cannot grow.
    DiskFull {
        /// For how long.
        ms: u64,
    },
    /// The clock of Redis is set back.
    ClockBack {
        /// By how much.
        seconds: u64,
    },
    /// The mail server is killed and started again.
    MailDown {
        /// How long it is away.
        ms: u64,
    },
    /// The mail server answers nothing for a while.
    MailSlow {
        /// For how long.
        ms: u64,
    },
    /// Services are away while more events arrive for each of them than a consumer holds at a time. They return one
    /// after the other under new names, and each is killed in the middle of its backlog.
    Backlog {
        /// Of what.
        of: Backlog,
        /// How many of them.
        count: u64,
    },
    /// Everything that the read model holds is deleted.
    Rebuild,
    /// What only a cluster has.
    OnCluster(OnCluster),
    /// Something is wrong between the services and Redis.
    Net {
        /// What.
        how: Net,
        /// For how long.
        ms: u64,
    },
}

/// What a backlog is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backlog {
    /// New customers, each of whom gets a mail.
    Customers,
    /// Orders that can all be served.
    Orders,
}

impl Backlog {
    /// The services that have an event of each to handle, in the order in which one waits for the other.
    #[must_use]
    pub fn services(self) -> &'static [&'static str] {
        match self {
            Self::Customers => &["crm", "notification"],
            Self::Orders => &["inventory", "order", "billing"],
        }
    }
}

/// What a proxy between the services and Redis does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Net {
    /// Connections are closed again and again.
    Cut,
    /// Commands arrive, answers do not.
    DropReplies,
    /// Everything takes longer.
    Delay,
    /// Everything comes byte by byte.
    Split,
}

/// How often the append-only file reaches the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fsync {
    /// Once a second.
    Everysec,
    /// Before every answer.
    Always,
}

impl Fsync {
    /// As Redis names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Everysec => "everysec",
            Self::Always => "always",
        }
    }
}

/// What a seed says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// How Redis writes.
    pub fsync: Fsync,
    /// The faults, each with the time before which it does not begin.
    pub steps: Vec<(Duration, Fault)>,
}

/// How many kinds of faults nine processes have.
const KINDS: usize = 21;

/// A consumer holds 1,200 entries of a stream.
const BACKLOG: u64 = 1_500;

/// The schedule of a seed on nine processes for a run of this length: a fault every `every`.
#[must_use]
pub fn schedule(seed: u64, length: Duration, every: Duration) -> Schedule {
    dealt(seed, length, every, KINDS, fault)
}

fn dealt(
    seed: u64,
    length: Duration,
    every: Duration,
    kinds: usize,
    fault: impl Fn(usize, &mut Rng) -> Fault,
) -> Schedule {
    let mut rng = Rng::new(seed, 1);
    let fsync = if seed.is_multiple_of(2) { Fsync::Everysec } else { Fsync::Always };
    let quiet = every / 2;
    let count = length.saturating_sub(quiet).as_millis() / every.as_millis().max(1);
    let count = usize::try_from(count).unwrap_or(0);
    let mut steps = Vec::new();
    for number in 0..count {
        let jitter = Duration::from_millis(rng.below(u64::try_from(every.as_millis()).unwrap_or(0) / 2));
        let at = quiet + every * u32::try_from(number).unwrap_or(0) + jitter;
        steps.push((at, fault(card(seed, number, count, kinds), &mut rng)));
    }
    Schedule { fsync, steps }
}

/// The kind that stands at this place of the endless row of shuffled decks, of which every seed has `count`.
fn card(seed: u64, number: usize, count: usize, kinds: usize) -> usize {
    let place = usize::try_from(seed).unwrap_or(0).wrapping_mul(count).wrapping_add(number);
    let mut deck: Vec<usize> = (0..kinds).collect();
    Rng::new(u64::try_from(place / kinds).unwrap_or(0), 2).shuffle(&mut deck);
    deck[place % kinds]
}

fn any(rng: &mut Rng, of: &[&str]) -> String {
    rng.pick(of).copied().unwrap_or_default().to_owned()
}

fn fault(kind: usize, rng: &mut Rng) -> Fault {
    match kind {
        0..=1 => Fault::Kill {
            service: any(rng, &SERVICES),
            renamed: rng.chance(50),
            away_ms: rng.between(0, 1500),
        },
        2 => Fault::Backlog { of: Backlog::Customers, count: BACKLOG },
        3 => Fault::KillAll,
        4 => Fault::Rolling,
        5 => Fault::Freeze {
            service: any(rng, &["inventory", "order", "billing", "crm"]),
            ms: rng.between(6500, 8000),
        },
        6 => Fault::RedisKill { away_ms: rng.between(0, 1500) },
        7 => Fault::RedisPause { stopped: rng.chance(50), ms: 5000 },
        8 => Fault::Cut,
        9 if rng.chance(50) => Fault::Scale { service: "crm".to_owned(), to: 4, ms: rng.between(2000, 5000) },
        9 => Fault::Scale { service: "inventory".to_owned(), to: 3, ms: rng.between(2000, 5000) },
        10 => Fault::GroupDestroyed { group: any(rng, &GROUPS) },
        11 => Fault::Poison { entries: rng.between(2, 5) },
        12 => Fault::OutOfMemory { ms: rng.between(1000, 3000) },
        13 => Fault::ReadOnly { replica: rng.chance(50), ms: rng.between(1000, 3000) },
        14 => Fault::DiskFull { ms: rng.between(1000, 3000) },
        15 => Fault::ClockBack { seconds: rng.between(2, 20) },
        16 if rng.chance(50) => Fault::MailDown { ms: rng.between(500, 3000) },
        16 => Fault::MailSlow { ms: rng.between(1000, 5000) },
        17 => Fault::Rebuild,
        18 => Fault::Upgrade { ms: rng.between(2000, 4000) },
        19 => Fault::Backlog { of: Backlog::Orders, count: BACKLOG },
        _ => {
            let how = [Net::Cut, Net::DropReplies, Net::Delay, Net::Split];
            Fault::Net { how: rng.pick(&how).copied().unwrap_or(Net::Cut), ms: rng.between(1500, 4000) }
        }
    }
}

impl Fault {
    /// Its name in tables.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Kill { service, .. } => format!("kill -9 {service}"),
            Self::KillAll => "kill -9 of all nine".to_owned(),
            Self::Rolling => "rolling restart by SIGTERM".to_owned(),
            Self::Freeze { service, .. } => format!("SIGSTOP past the claim time: {service}"),
            Self::RedisKill { .. } => "kill -9 Redis".to_owned(),
            Self::RedisPause { stopped: true, .. } => "Redis stopped for 5 s".to_owned(),
            Self::RedisPause { stopped: false, .. } => "Redis paused for 5 s".to_owned(),
            Self::Cut => "all connections of Redis closed".to_owned(),
            Self::Scale { service, to, .. } => format!("{service} 1 → {to} → 1"),
            Self::Upgrade { .. } => "old and next version side by side".to_owned(),
            Self::GroupDestroyed { group } => format!("group destroyed: {group}"),
            Self::Poison { .. } => "poisoned entries".to_owned(),
            Self::OutOfMemory { .. } => "Redis out of memory".to_owned(),
            Self::ReadOnly { replica: true, .. } => "Redis read-only: a replica".to_owned(),
            Self::ReadOnly { replica: false, .. } => "Redis read-only: too few replicas".to_owned(),
            Self::DiskFull { .. } => "disk of the append-only file full".to_owned(),
            Self::ClockBack { .. } => "clock of Redis set back".to_owned(),
            Self::MailDown { .. } => "mail server killed".to_owned(),
            Self::MailSlow { .. } => "mail server slow".to_owned(),
            Self::Backlog { of, count } => {
                format!("backlog of {count} handled under new names: {}", of.services().join(", "))
            }
            Self::Rebuild => "read model wiped".to_owned(),
            Self::OnCluster(fault) => fault.name(),
            Self::Net { how: Net::Cut, .. } => "network: connections cut".to_owned(),
            Self::Net { how: Net::DropReplies, .. } => "network: replies dropped".to_owned(),
            Self::Net { how: Net::Delay, .. } => "network: delayed".to_owned(),
            Self::Net { how: Net::Split, .. } => "network: split into bytes".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const LENGTH: Duration = Duration::from_mins(1);
    const EVERY: Duration = Duration::from_secs(6);

    #[test]
    fn a_seed_has_one_schedule() {
        assert_eq!(schedule(5, LENGTH, EVERY), schedule(5, LENGTH, EVERY));
        assert_ne!(schedule(5, LENGTH, EVERY).steps, schedule(6, LENGTH, EVERY).steps);
    }

    #[test]
    fn a_few_seeds_in_a_row_see_every_kind() {
        let count = schedule(0, LENGTH, EVERY).steps.len();
        let first = u64::try_from(KINDS).unwrap();
        let seen: BTreeSet<usize> = (first..first + 4)
            .flat_map(|seed| (0..count).map(move |number| card(seed, number, count, KINDS)))
            .collect();
        assert_eq!(seen.len(), KINDS);
    }

    #[test]
    fn faults_begin_in_order_and_within_the_run() {
        let steps = schedule(9, LENGTH, EVERY).steps;
        assert!(steps.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(steps.iter().all(|(at, _)| *at < LENGTH));
    }
}
