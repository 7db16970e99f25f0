//! One reconciliation: the five steps in their order, and what their errors mean.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kube::{
    Client, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        controller::Action,
        events::{Event, EventType, Recorder},
    },
};
use tracing::{Instrument, error, info, info_span, warn};

use super::{
    apply::{Applier, ApplyError},
    backoff::Backoff,
    build::{self, BuildError},
    fetch::{self, FetchError, Fetched},
    status::{self, StatusError},
    transitions::transitions,
    validate::{self, Defaults},
};
use crate::{
    crd::{OrderShop, OrderShopStatus},
    metrics::{Metrics, ReconcileOutcome},
};

/// How often a shop is looked at although nothing was seen to change.
const RESYNC: Duration = Duration::from_mins(10);

/// How often a shop is looked at that uses a Secret: Secrets are not watched, since that would let the operator
/// read all of them.
const SECRET_RESYNC: Duration = Duration::from_secs(30);

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
        }
    }
}

/// Reconciles one shop, counts and times it.
pub async fn reconcile(watched: Arc<Watched>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let (namespace, name) = (watched.namespace().unwrap_or_default(), watched.name_any());
    let span = info_span!("reconcile", namespace, shop = name);
    let started = Instant::now();
    let result = Box::pin(steps(&context, &watched, &namespace, &name)).instrument(span).await;
    let outcome = match &result {
        Ok((_, outcome)) => {
            context.backoff.succeeded(&namespace, &name);
            *outcome
        }
        Err(error) => {
            context.metrics.failed(error.reason());
            ReconcileOutcome::Error
        }
    };
    context.metrics.reconciled(outcome, started.elapsed());
    result.map(|(action, _)| action)
}

/// When a shop whose reconciliation failed is tried again.
// The controller fixes the signature.
#[expect(clippy::needless_pass_by_value)]
pub fn retry(watched: Arc<Watched>, error: &ReconcileError, context: Arc<Context>) -> Action {
    let (namespace, name) = (watched.namespace().unwrap_or_default(), watched.name_any());
    let delay = context.backoff.failed(&namespace, &name);
    warn!(namespace, shop = name, reason = error.reason(), %error, ?delay, "tried again later");
    Action::requeue(delay)
}

async fn steps(
    context: &Context,
    watched: &Watched,
    namespace: &str,
    name: &str,
) -> Result<(Action, ReconcileOutcome), ReconcileError> {
    let Context { client, defaults, metrics, .. } = context;
    let fetched = match fetch::fetch(client, namespace, name).await {
        Ok(Some(fetched)) => fetched,
        Ok(None) => return Ok((Action::await_change(), ReconcileOutcome::Gone)),
        Err(error @ FetchError::Undecodable(_)) => {
            undecodable(context, watched, &error).await;
            return Ok((Action::await_change(), ReconcileOutcome::Invalid));
        }
        Err(error) => return Err(error.into()),
    };
    let Fetched { shop, live, smtp } = fetched;
    let old = shop.status.clone().unwrap_or_default();

    let valid = match validate::validate(&shop, defaults, smtp.as_ref()) {
        Ok(valid) => valid,
        Err(error) => {
            metrics.failed(error.reason());
            let new = status::invalid(&old, shop.meta().generation, &error, &now());
            report(context, &shop, &old, &new).await?;
            return Ok((Action::await_change(), ReconcileOutcome::Invalid));
        }
    };
    let prepared = build::build(&valid)?;
    let applier = Applier {
        client,
        metrics,
        owner: &valid.owner,
        paused: valid.paused,
        ran_once: old.version.is_some(),
    };
    let mut outcome = applier.apply(prepared, live).await;
    let new = status::status(&old, &valid, &outcome, &now());
    report(context, &shop, &old, &new).await?;

    // The status names all of them; the first is as good as any to be tried again for.
    if !outcome.failures.is_empty() {
        return Err(outcome.failures.swap_remove(0).into());
    }
    let resync = if valid.smtp.is_some() { SECRET_RESYNC } else { RESYNC };
    Ok((Action::requeue(resync), ReconcileOutcome::Success))
}

/// Writes the status if it changed, and the Events of what changed in it.
async fn report(
    context: &Context,
    shop: &OrderShop,
    old: &OrderShopStatus,
    new: &OrderShopStatus,
) -> Result<(), StatusError> {
    if !status::write(&context.client, shop, new).await? {
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
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
