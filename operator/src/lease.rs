//! Which replica writes: one at a time, agreed upon by a Lease.
//!
//! Every change of the Lease carries the resource version it is based on, so of two replicas that try one
//! fails. The holder gives up [`RENEW_DEADLINE`] after its last renewal, the others wait for
//! [`LEASE_DURATION`] after the last one they saw, each by its own clock: the clocks of the machines are never
//! compared. Giving up means that the [`Fence`] lets no write out any more, also in a process that was stopped
//! for a while and does not know it yet, and then that the process ends.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{info, warn};

use crate::api::Fence;

/// The Lease's name.
pub const NAME: &str = "ordershop-operator";

/// How long a Lease that is not renewed is respected.
pub const LEASE_DURATION: Duration = Duration::from_secs(10);

/// How long after its last renewal a holder still writes.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(7);

/// How often the holder renews, and the others look.
pub const PERIOD: Duration = Duration::from_secs(2);

/// The lead is lost.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another replica holds the Lease.
    #[error("the Lease is held by {0:?}")]
    Taken(String),
    /// The Lease could not be renewed in time.
    #[error("the Lease was not renewed within {RENEW_DEADLINE:?}: {0}")]
    NotRenewed(String),
}

/// What a replica that does not lead does about the Lease it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// There is none: makes it.
    Create,
    /// It is free, expired or its own: takes it.
    Take,
    /// Somebody holds it.
    Wait,
}

/// `unchanged`: for how long this replica has seen the Lease as it is.
fn claim(lease: Option<&Lease>, me: &str, unchanged: Duration) -> Claim {
    let Some(lease) = lease else { return Claim::Create };
    match holder(lease) {
        None => Claim::Take,
        Some(holder) if holder == me => Claim::Take,
        Some(_) if unchanged >= LEASE_DURATION => Claim::Take,
        Some(_) => Claim::Wait,
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// When a Lease is looked at again: soon enough to see a renewal, and at once when it expires.
fn next_look(since: Option<Instant>, now: Instant) -> Instant {
    let expires = since.map(|since| since + LEASE_DURATION).filter(|expires| *expires > now);
    expires.map_or(now + PERIOD, |expires| expires.min(now + PERIOD))
}

/// A replica that does not lead yet.
pub struct Elector {
    leases: Api<Lease>,
    identity: String,
    fence: Fence,
}

/// The lead, until it is lost or given back.
pub struct Lead {
    leases: Api<Lease>,
    identity: String,
    lease: Lease,
    renewed: Instant,
    fence: Fence,
    /// The times of the renewals since the last one that was answered: one of them may have been applied.
    unanswered: Vec<MicroTime>,
}

impl Elector {
    /// `namespace`: of the Lease, the client's own by default. `identity`: this replica's name, which no other
    /// may have; by default made of the host's, which is the pod's. `fence`: open for as long as this replica
    /// leads.
    #[must_use]
    pub fn new(client: Client, namespace: Option<&str>, identity: Option<String>, fence: Fence) -> Self {
        // Two processes of one host are two replicas; in a pod the id of a restarted process is the same.
        let host = || {
            let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "process".to_owned());
            format!("{host}-{}", std::process::id())
        };
        let leases = match namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::default_namespaced(client),
        };
        Self { leases, identity: identity.unwrap_or_else(host), fence }
    }

    /// This replica's name in the Lease.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Waits until this replica leads.
    pub async fn acquire(self) -> Lead {
        let mut seen: Option<(Option<String>, Instant)> = None;
        loop {
            let started = Instant::now();
            match self.attempt(&mut seen).await {
                Ok(Some(lease)) => {
                    let Self { leases, identity, fence } = self;
                    fence.open_until(started + RENEW_DEADLINE);
                    let unanswered = Vec::new();
                    return Lead { leases, identity, lease, renewed: started, fence, unanswered };
                }
                Ok(None) => {}
                Err(error) => warn!(%error, "the Lease"),
            }
            sleep_until(next_look(seen.as_ref().map(|(_, since)| *since), Instant::now())).await;
        }
    }

    /// One attempt. `seen`: the version of the Lease that was seen last, and when it was new.
    async fn attempt(
        &self,
        seen: &mut Option<(Option<String>, Instant)>,
    ) -> Result<Option<Lease>, kube::Error> {
        let found = self.leases.get_opt(NAME).await?;
        let version = found.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        let since = match seen {
            Some((last, since)) if *last == version => *since,
            _ => {
                info!(holder = found.as_ref().and_then(holder).unwrap_or_default(), "the Lease is looked at");
                Instant::now()
            }
        };
        *seen = Some((version, since));
        let written = match (claim(found.as_ref(), &self.identity, since.elapsed()), found) {
            (Claim::Wait, _) => return Ok(None),
            (Claim::Create, _) | (Claim::Take, None) => {
                let lease = held(
                    ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
                    None,
                    &self.identity,
                );
                self.leases.create(&PostParams::default(), &lease).await
            }
            (Claim::Take, Some(lease)) => {
                let lease = held(lease.metadata, lease.spec, &self.identity);
                self.leases.replace(NAME, &PostParams::default(), &lease).await
            }
        };
        match written {
            Ok(lease) => Ok(Some(lease)),
            // Another replica was quicker.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Lead {
    /// Renews the Lease for as long as that works; ends when the lead is lost.
    pub async fn keep(&mut self) -> LeaseError {
        loop {
            sleep_until(self.renewed + PERIOD).await;
            let deadline = self.renewed + RENEW_DEADLINE;
            let mut last = "no answer".to_owned();
            loop {
                match timeout_at(deadline, self.renew()).await {
                    Ok(Ok(())) => break,
                    Ok(Err(Renewal::Taken(holder))) => return LeaseError::Taken(holder),
                    Ok(Err(Renewal::Failed(error))) => {
                        warn!(%error, "the Lease was not renewed");
                        last = error.to_string();
                    }
                    Err(_) => return LeaseError::NotRenewed(last),
                }
                sleep(PERIOD / 4).await;
            }
        }
    }

    /// Gives the lead back, so that the next replica does not have to wait.
    pub async fn release(mut self) {
        self.fence.close();
        if let Some(spec) = &mut self.lease.spec {
            spec.holder_identity = None;
        }
        if let Err(error) = self.leases.replace(NAME, &PostParams::default(), &self.lease).await {
            warn!(%error, "the Lease was not given back");
        }
    }

    /// One renewal. The lead counts from before the request: it may have been applied long before its answer.
    async fn renew(&mut self) -> Result<(), Renewal> {
        let started = Instant::now();
        let lease = held(self.lease.metadata.clone(), self.lease.spec.clone(), &self.identity);
        self.unanswered.extend(renew_time(&lease).cloned());
        match self.leases.replace(NAME, &PostParams::default(), &lease).await {
            Ok(lease) => {
                self.lease = lease;
                self.renewed = started;
                self.unanswered.clear();
                self.fence.open_until(started + RENEW_DEADLINE);
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_conflict() => {
                let found = self.leases.get(NAME).await.map_err(Renewal::Failed)?;
                if !still_mine(&found, &self.lease, &self.identity, &self.unanswered) {
                    return Err(Renewal::Taken(holder(&found).unwrap_or_default().to_owned()));
                }
                self.lease = found;
                Err(Renewal::Failed(kube::Error::Api(status)))
            }
            Err(error) => Err(Renewal::Failed(error)),
        }
    }
}

enum Renewal {
    Taken(String),
    Failed(kube::Error),
}

/// Whether a Lease that somebody wrote is held by this very process: its own renewal was applied although the
/// answer was lost, or a hand only touched a label. Another process that was given the same identity renews at
/// other times.
fn still_mine(found: &Lease, known: &Lease, me: &str, unanswered: &[MicroTime]) -> bool {
    let renewed = renew_time(found);
    holder(found) == Some(me)
        && (renewed == renew_time(known) || renewed.is_some_and(|time| unanswered.contains(time)))
}

fn renew_time(lease: &Lease) -> Option<&MicroTime> {
    lease.spec.as_ref()?.renew_time.as_ref()
}

/// The Lease as this replica holds it, from now on.
fn held(metadata: ObjectMeta, spec: Option<LeaseSpec>, me: &str) -> Lease {
    // To the microsecond, as the API server keeps it: what is read back is the same.
    let now = Timestamp::now();
    let now = MicroTime(Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now));
    let before = spec.unwrap_or_default();
    let mine = before.holder_identity.as_deref() == Some(me);
    Lease {
        metadata: ObjectMeta { managed_fields: None, ..metadata },
        spec: Some(LeaseSpec {
            holder_identity: Some(me.to_owned()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            acquire_time: if mine { before.acquire_time } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(!mine)),
            ..LeaseSpec::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str) -> Lease {
        held(ObjectMeta::default(), None, holder)
    }

    #[test]
    fn a_lease_is_taken_only_when_nobody_holds_it() {
        let short = LEASE_DURATION / 2;
        for (case, found, unchanged, expected) in [
            ("there is none", None, short, Claim::Create),
            ("given back", Some(lease("")), short, Claim::Take),
            ("my own, from before a restart", Some(lease("me")), short, Claim::Take),
            ("held", Some(lease("other")), short, Claim::Wait),
            ("expired", Some(lease("other")), LEASE_DURATION, Claim::Take),
        ] {
            assert_eq!(claim(found.as_ref(), "me", unchanged), expected, "{case}");
        }
    }

    #[test]
    fn a_holder_gives_up_before_the_others_take_over() {
        assert!(RENEW_DEADLINE < LEASE_DURATION);
        assert!(PERIOD * 3 < RENEW_DEADLINE);
    }

    #[test]
    fn a_takeover_takes_less_than_fifteen_seconds() {
        let begin = Instant::now();
        // Seen at the latest one period after it was written, taken when it expires, whenever that is.
        assert_eq!(next_look(None, begin), begin + PERIOD);
        assert_eq!(next_look(Some(begin), begin), begin + PERIOD);
        let nearly = begin + LEASE_DURATION - PERIOD / 4;
        assert_eq!(next_look(Some(begin), nearly), begin + LEASE_DURATION);
        let later = begin + LEASE_DURATION;
        assert_eq!(next_look(Some(begin), later), later + PERIOD);
        assert!(
            PERIOD + LEASE_DURATION <= Duration::from_secs(12),
            "the rest is for the first reconciliation"
        );
    }

    #[test]
    fn a_conflict_is_survived_only_by_the_process_that_holds_the_lease() {
        let at = |holder: &str, second| {
            let mut lease = lease(holder);
            let time = MicroTime(Timestamp::from_second(second).unwrap());
            lease.spec.as_mut().unwrap().renew_time = Some(time);
            lease
        };
        let known = at("me", 1);
        let unanswered = [2, 3].map(|second| MicroTime(Timestamp::from_second(second).unwrap()));
        for (case, found, expected) in [
            ("a hand touched a label", at("me", 1), true),
            ("a lost answer", at("me", 2), true),
            ("the second of two lost answers", at("me", 3), true),
            ("another process of the same name", at("me", 9), false),
            ("another replica", at("other", 2), false),
            ("given back", at("", 1), false),
        ] {
            assert_eq!(still_mine(&found, &known, "me", &unanswered), expected, "{case}");
        }
    }

    #[test]
    fn a_renewal_keeps_the_time_of_the_takeover_and_a_takeover_is_counted() {
        let first = lease("a");
        let renewed = held(first.metadata.clone(), first.spec.clone(), "a").spec.unwrap();
        assert_eq!(renewed.acquire_time, first.spec.clone().unwrap().acquire_time);
        assert_eq!(renewed.lease_transitions, first.spec.clone().unwrap().lease_transitions);
        let taken = held(first.metadata, first.spec.clone(), "b").spec.unwrap();
        assert_eq!(taken.lease_transitions, first.spec.unwrap().lease_transitions.map(|count| count + 1));
    }
}
