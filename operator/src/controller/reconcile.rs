//! One reconciliation: the five steps in their order, and what their errors mean.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Client, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        controller::Action,
        events::{Event, EventType, Recorder},
    },
};
use tracing::{Instrument, Span, debug, error, field, info, info_span, trace_span, warn};

use super::{
    apply::Applier,
    backoff::Backoff,
    build::{self, BuildError},
    children::{Children, Live},
    fetch::{self, FetchError, Fetched},
    hash, labels,
    outcome::ApplyError,
    passwords::{self, Passwords},
    plan::{self, Gate},
    rollout::Rollout,
    status::{self, StatusError},
    transitions::transitions,
    trouble::{self, Trouble},
    validate::{self, Defaults, Owner, ValidShop, ValidateError},
};
use crate::{
    crd::{ConditionType, OrderShop, OrderShopStatus},
    metrics::{Metrics, ReconcileOutcome},
};

/// How often a shop is looked at although nothing was seen to change.
const RESYNC: Duration = Duration::from_mins(10);

/// How often a shop is looked at that uses Secrets and ConfigMaps of others: those are not watched, since that
/// would let the operator read all of them.
const SOURCE_RESYNC: Duration = Duration::from_secs(30);

/// How long a reconciliation may take: a connection that was cut in the middle of an answer must not keep a shop
/// waiting for ever.
const LONGEST: Duration = Duration::from_mins(1);

/// Numbers the reconciliations of this process, so that the log lines of one can be told from those of another.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// What the watch knows of a shop: its metadata. The rest is fetched.
pub type Watched = PartialObjectMeta<OrderShop>;

/// What every reconciliation needs.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// What a shop gets that does not say otherwise.
    pub defaults: Defaults,
    /// What is counted.
    pub metrics: Metrics,
    /// Where Events go.
    pub recorder: Recorder,
    /// When a shop that failed is tried again.
    pub backoff: Backoff,
}

/// A reconciliation that is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The first step failed.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The third step failed.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Something was refused in the fourth step; the rest was applied, and the status says so.
    #[error("{0}")]
    Apply(#[from] ApplyError),
    /// The fifth step failed.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// The API server answers too slowly.
    #[error("not done within {LONGEST:?}")]
    TimedOut,
}

impl ReconcileError {
    /// The variant, for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Fetch(error) => error.reason(),
            Self::Build(_) => "Build",
            Self::Apply(error) => error.reason(),
            Self::Status(_) => "WriteStatus",
            Self::TimedOut => "TimedOut",
        }
    }
}

/// Reconciles one shop, counts and times it.
pub async fn reconcile(watched: Arc<Watched>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let (namespace, name) = (watched.namespace().unwrap_or_default(), watched.name_any());
    let id = NUMBER.fetch_add(1, Ordering::Relaxed);
    let span = info_span!(
        "reconcile",
        id,
        namespace,
        shop = name,
        generation = field::Empty,
        outcome = field::Empty,
        otel.status_code = field::Empty
    );
    let started = Instant::now();
    let work = Box::pin(steps(&context, &watched, &namespace, &name)).instrument(span.clone());
    let result = tokio::time::timeout(LONGEST, work).await.unwrap_or(Err(ReconcileError::TimedOut));
    let outcome = match &result {
        Ok((_, outcome)) => {
            context.backoff.succeeded(&namespace, &name);
            span.in_scope(|| debug!(?outcome, "done"));
            *outcome
        }
        Err(error) => {
            context.metrics.failed(error.reason());
            span.in_scope(|| warn!(reason = error.reason(), %error, "failed"));
            span.record("otel.status_code", "ERROR");
            ReconcileOutcome::Error
        }
    };
    span.record("outcome", outcome.as_str());
    if matches!(outcome, ReconcileOutcome::Gone | ReconcileOutcome::Invalid) {
        context.metrics.shop_ready(&namespace, &name, false);
    }
    context.metrics.reconciled(outcome, started.elapsed());
    result.map(|(action, _)| action)
}

/// When a shop whose reconciliation failed is tried again.
// The controller fixes the signature.
#[expect(clippy::needless_pass_by_value)]
pub fn retry(watched: Arc<Watched>, error: &ReconcileError, context: Arc<Context>) -> Action {
    let (namespace, name) = (watched.namespace().unwrap_or_default(), watched.name_any());
    let delay = context.backoff.failed(&namespace, &name);
    info!(namespace, shop = name, reason = error.reason(), ?delay, "tried again later");
    Action::requeue(delay)
}

/// Each step is a span of a lower level than any line of the log: so a line still names its reconciliation.
async fn steps(
    context: &Context,
    watched: &Watched,
    namespace: &str,
    name: &str,
) -> Result<(Action, ReconcileOutcome), ReconcileError> {
    let Context { client, defaults, metrics, .. } = context;
    let fetching = Box::pin(fetch::fetch(client, namespace, name)).instrument(trace_span!("fetch"));
    let fetched = match fetching.await {
        Ok(Some(fetched)) => fetched,
        Ok(None) => return Ok((Action::await_change(), ReconcileOutcome::Gone)),
        Err(error @ FetchError::Undecodable(_)) => {
            undecodable(context, watched, &error).await;
            return Ok((Action::await_change(), ReconcileOutcome::Invalid));
        }
        Err(error) => return Err(error.into()),
    };
    let Fetched { shop, live, sources } = fetched;
    let old = shop.status.clone().unwrap_or_default();
    Span::current().record("generation", shop.meta().generation);

    let validating = || validate::validate(&shop, defaults, &sources);
    let mut valid = match trace_span!("validate").in_scope(validating) {
        Ok(valid) => valid,
        Err(error) => {
            metrics.failed(error.reason());
            let new = status::invalid(&old, shop.meta().generation, &error, &now());
            report(context, &shop, &old, &new).await?;
            // What is missing comes without a change of the shop.
            let again = match error {
                ValidateError::NoRedis(_) => Action::requeue(SOURCE_RESYNC),
                _ => Action::await_change(),
            };
            return Ok((again, ReconcileOutcome::Invalid));
        }
    };
    valid.passwords = passwords(&valid, &live);
    let prepared = trace_span!("build").in_scope(|| build::build(&valid))?;
    let autoscaled: Vec<_> = valid
        .services
        .iter()
        .filter(|service| service.autoscaling.is_some())
        .map(|service| labels::object_name(&valid.owner.name, service.service.name()))
        .collect();
    let applier = Applier {
        client,
        metrics,
        owner: &valid.owner,
        paused: valid.paused,
        ran_once: old.version.is_some(),
        redis_is_external: valid.redis_url.is_some(),
        sleep_gate: sleep_gate(client, &valid, &live).await?,
        autoscaled: &autoscaled,
    };
    let mut outcome = applier.apply(prepared, live).instrument(trace_span!("apply")).await;
    let incomplete = outcome.incomplete(&valid.owner.name);
    outcome.troubles = troubles(client, &valid.owner, &incomplete).await?;
    let new = status::status(&old, &valid, &outcome, &now());
    report(context, &shop, &old, &new).await?;
    metrics.shop_ready(namespace, name, new.is(ConditionType::Ready));

    // The status names all of them; the first is as good as any to be tried again for.
    if !outcome.failures.is_empty() {
        return Err(outcome.failures.swap_remove(0).into());
    }
    let resync = if valid.reads_sources { SOURCE_RESYNC } else { RESYNC };
    // Where no workload is on its way, time alone changes nothing: a thousand paused shops cost nothing.
    let soon = status::look_again(&new, Timestamp::now()).filter(|_| !incomplete.is_empty());
    Ok((Action::requeue(soon.map_or(resync, |soon| soon.min(resync))), ReconcileOutcome::Success))
}

/// What keeps the workloads that are not as they should be; nothing is asked when all are.
async fn troubles(
    client: &Client,
    owner: &Owner,
    incomplete: &[(String, String)],
) -> Result<Vec<Trouble>, FetchError> {
    if incomplete.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<_> = incomplete.iter().map(|(name, _)| name.as_str()).collect();
    let pods = fetch::pods(client, &owner.namespace, &owner.name, &names).await?;
    let image = |component: &str| {
        let found = incomplete.iter().find(|(name, _)| name == component);
        found.map(|(_, image)| image.as_str())
    };
    Ok(trouble::troubles(&pods, image, Timestamp::now()))
}

/// The passwords as they are to be, from what is there. A Redis that is not the shop's own has its own.
fn passwords(shop: &ValidShop, live: &Children<Live>) -> Passwords {
    if shop.redis_url.is_some() {
        return Passwords::default();
    }
    let owner = &shop.owner;
    let there = live.secrets.first().and_then(|secret| passwords::read(secret, owner));
    let edition = there.as_ref().map_or("", |there| &there.newest.id);
    let settled = passwords::settled(owner, edition, &live.deployments);
    passwords::next(there, &shop.redis.password_rotation, settled, || hash::hex(&rand::random::<[u8; 32]>()))
}

/// Whether the services are stopped, after which Redis may be. A Deployment does not count the pods that are ending,
/// and those still finish what they have in hand.
async fn sleep_gate(client: &Client, shop: &ValidShop, live: &Children<Live>) -> Result<Gate, FetchError> {
    let awake = live.stateful_sets.iter().any(|set| Rollout::from(set).desired > 0);
    if !shop.hibernated || !awake {
        return Ok(Gate::Open);
    }
    let Owner { namespace, name, .. } = &shop.owner;
    let services: Vec<_> = shop.services.iter().map(|service| service.service.name()).collect();
    let pods = fetch::pods(client, namespace, name, &services).await?;
    let present =
        pods.iter().filter(|pod| !has_ended(pod)).filter_map(|pod| labels::component_of(pod.labels()));
    let counted = live.deployments.iter().filter(|deployment| Rollout::from(*deployment).replicas > 0);
    let counted = counted.filter_map(|it| Some(labels::component(name, it.metadata.name.as_deref()?)));
    Ok(plan::sleep_gate(present.chain(counted)))
}

/// Whether its containers run no more: an evicted pod stays in the list until somebody removes it.
fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Writes the status if it changed, and the Events of what changed in it.
async fn report(
    context: &Context,
    shop: &OrderShop,
    old: &OrderShopStatus,
    new: &OrderShopStatus,
) -> Result<(), StatusError> {
    if !status::write(&context.client, shop, new).instrument(trace_span!("status")).await? {
        return Ok(());
    }
    for event in transitions(old, new) {
        info!(reason = event.reason, note = event.note, "event");
        publish(context, &event, shop.object_ref(&())).await;
    }
    Ok(())
}

/// A shop that this operator does not understand is left alone until somebody changes it.
async fn undecodable(context: &Context, watched: &Watched, error: &FetchError) {
    context.metrics.failed(error.reason());
    error!(%error, "left alone until it changes");
    let event = Event {
        type_: EventType::Warning,
        reason: error.reason().to_owned(),
        note: Some(error.to_string().chars().take(1000).collect()),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    publish(context, &event, watched.object_ref(&())).await;
}

/// An Event that is lost is no reason to reconcile again.
async fn publish(context: &Context, event: &Event, shop: k8s_openapi::api::core::v1::ObjectReference) {
    if let Err(error) = context.recorder.publish(event, &shop).await {
        warn!(%error, reason = event.reason, "the Event was not written");
    }
}

/// The time as conditions have it.
fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
