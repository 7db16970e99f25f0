//! Turns every OrderShop within the operator's [`scope`] into its objects, and keeps it so.
//!
//! ```text
//! watches (metadata only) → queue → fetch → validate → build → apply → status
//!                                    I/O     pure       pure    I/O     pure, then one write
//! ```
//!
//! | step | file | answers |
//! |---|---|---|
//! | 1 | [`fetch`] | what is there? |
//! | 2 | [`validate`] | what does the spec mean? |
//! | 3 | [`build`] | which objects should there be? |
//! | 4 | [`apply`] | which of them have to be written now? ([`plan`], [`diff`], [`rollout`] decide) |
//! | 5 | [`status`] | what is the shop now, what keeps it ([`trouble`]), which change is worth an Event ([`transitions`])? |
//!
//! The watches carry metadata only: shops and children alike are read when they are reconciled, so the memory
//! does not grow with the objects, and a shop that cannot be decoded does not stop the watch of the others.

pub mod apply;
pub mod autoscaling;
pub mod backoff;
pub mod build;
pub mod children;
pub mod diff;
pub mod fetch;
mod hash;
pub mod labels;
pub mod outcome;
pub mod passwords;
pub mod plan;
pub mod reconcile;
pub mod rollout;
pub mod scope;
pub mod sources;
pub mod status;
pub mod transitions;
pub mod trouble;
pub mod validate;
pub mod volume;
mod watch;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::join_all};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::ListParams,
    runtime::{
        Config, Controller, Predicate, PredicateConfig, WatchStreamExt, controller, predicates,
        reflector::{self, Store, store::Writer},
        watcher::{self, watcher},
    },
};
use tracing::{debug, warn};

use self::{
    reconcile::{Context, Watched, reconcile, retry},
    scope::{Part, Scope},
};
use crate::crd::OrderShop;

/// Changes of a shop's objects come in bursts: one reconciliation answers for those of this time.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// How many shops are reconciled at a time.
const CONCURRENCY: u16 = 16;

/// Runs until `shutdown`, then finishes what is under way.
pub async fn run(
    context: Arc<Context>,
    scope: &Scope,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let shutdown = shutdown.shared();
    let (readers, parts): (Vec<_>, Vec<_>) = scope
        .parts()
        .into_iter()
        .map(|part| {
            let (reader, writer) = reflector::store();
            (reader.clone(), (part, reader, writer))
        })
        .unzip();
    let all = parts.into_iter().map(|(part, reader, writer)| {
        let controller = controller(&context.client, &part, reader, writer);
        let controller = controller.graceful_shutdown_on(shutdown.clone());
        let (readers, metrics) = (readers.clone(), context.metrics.clone());
        controller.run(reconcile, retry, Arc::clone(&context)).for_each(move |result| {
            metrics.shops(readers.iter().map(Store::len).sum());
            match result {
                Ok((shop, _)) => debug!(%shop, "reconciled"),
                // A failed reconciliation was reported where it failed.
                Err(controller::Error::ReconcilerFailed(..)) => {}
                Err(controller::Error::ObjectNotFound(shop)) => {
                    metrics.shop_ready(shop.namespace.as_deref().unwrap_or_default(), &shop.name, false);
                }
                Err(error) => warn!(%error, "watching"),
            }
            std::future::ready(())
        })
    });
    join_all(all).await;
}

/// Watches the shops of one part of the scope and all that was made for them.
fn controller(
    client: &Client,
    part: &Part,
    reader: Store<Watched>,
    writer: Writer<Watched>,
) -> Controller<Watched> {
    let shops = watcher(watch::metadata::<OrderShop>(client, part), watcher::Config::default())
        .default_backoff()
        .modify(watch::slim)
        .reflect(writer)
        .applied_objects()
        // This operator's own write of the status is no news.
        .predicate_filter(
            predicates::generation.combine(predicates::annotations),
            PredicateConfig::default(),
        );
    let controller = Controller::for_stream(watch::unhindered(shops), reader)
        .with_config(Config::default().debounce(DEBOUNCE).concurrency(CONCURRENCY));
    // Pods are nobody's children here, but they know first what keeps a workload from getting ready.
    let controller = watch::listed::<Pod>(controller, client, part);
    children::watched(controller, client, part)
}

/// Waits until the API server knows OrderShops everywhere in the scope, since the operator may be started before
/// its CRD is installed. `pending` is told why it still waits.
pub async fn wait_for_crd(client: &Client, scope: &Scope, pending: impl Fn(&str)) {
    let mut last = String::new();
    for part in scope.parts() {
        let shops: Api<OrderShop> = part.api(client);
        while let Err(error) = shops.list_metadata(&ListParams::default().limit(1)).await {
            let why = match error {
                // The API server answers for an unknown kind in plain text, so only the code tells.
                kube::Error::Api(status) if status.code == 404 => {
                    format!("waits for the CustomResourceDefinition {}", crate::crd::manifest::NAME)
                }
                error => format!("waits for the API server: {error}"),
            };
            if why != last {
                warn!("{why}");
                pending(&why);
                last = why;
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }
}
