//! Which shops a changed object leads to, and how a kind of object is watched.
//!
//! The watches carry metadata only: the memory does not grow with the objects. One that fails is tried again by
//! itself and does not hold up the others.

use std::{collections::HashSet, fmt::Debug, time::Duration};

use futures_util::{Stream, StreamExt, stream};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::ListParams,
    core::PartialObjectMeta,
    runtime::{
        Controller, WatchStreamExt,
        reflector::ObjectRef,
        watcher::{self, watcher},
    },
};
use serde::de::DeserializeOwned;
use tracing::{debug, warn};

use super::{apply::Child, labels, reconcile::Watched, scope::Part};
use crate::crd::OrderShop;

/// How often it is looked whether a kind has been installed meanwhile.
const INSTALLED_PERIOD: Duration = Duration::from_mins(1);

/// A kind of which the operator may list what is its own.
pub(super) fn listed<K>(controller: Controller<Watched>, client: &Client, part: &Part) -> Controller<Watched>
where
    K: Child + Send + 'static,
{
    let managed = watcher::Config::default().labels(&labels::managed());
    let objects = watcher(metadata::<K>(client, part), managed).default_backoff().modify(slim);
    controller.watches_stream(unhindered(objects.touched_objects()), shops_of)
}

/// Tells of errors by itself: passed on, they would make the controller wait with all of its watches.
pub(super) fn unhindered<K: Resource<DynamicType = ()> + Send>(
    objects: impl Stream<Item = watcher::Result<K>> + Send,
) -> impl Stream<Item = watcher::Result<K>> + Send {
    objects.filter_map(|object| {
        if let Err(error) = &object {
            warn!(kind = %K::kind(&()), %error, "watching");
        }
        std::future::ready(object.ok().map(Ok))
    })
}

/// Drops the part of the metadata that is the largest and that nobody here reads.
pub(super) fn slim<K: ResourceExt>(object: &mut K) {
    object.managed_fields_mut().clear();
}

/// A kind of which the operator may only read what it knows the name of. What is deleted by hand shows when a pod
/// needs it: its Deployment changes, and that is watched.
pub(super) fn of_redis<K: Resource<DynamicType = ()>>(
    controller: Controller<Watched>,
    _: &Client,
    _: &Part,
) -> Controller<Watched> {
    debug!(kind = %K::kind(&()), "not watched: read by its name");
    controller
}

/// A kind that this cluster may not have: it is watched from when it is there.
pub(super) fn where_installed<K>(
    controller: Controller<Watched>,
    client: &Client,
    part: &Part,
) -> Controller<Watched>
where
    K: Child + Send + 'static,
{
    let managed = watcher::Config::default().labels(&labels::managed());
    let (kinds, objects) = (part.api::<K>(client), metadata::<K>(client, part));
    let changes = stream::once(installed(kinds)).flat_map(move |()| {
        watcher(objects.clone(), managed.clone()).default_backoff().modify(slim).touched_objects()
    });
    controller.watches_stream(unhindered(changes), shops_of)
}

/// Waits until the API server knows the kind.
async fn installed<K: Clone + Debug + DeserializeOwned>(kinds: Api<K>) {
    while kinds.list_metadata(&ListParams::default().limit(1)).await.is_err() {
        tokio::time::sleep(INSTALLED_PERIOD).await;
    }
}

/// The metadata of one kind of object.
pub(super) fn metadata<K>(client: &Client, part: &Part) -> Api<PartialObjectMeta<K>>
where
    K: Child,
{
    part.api(client)
}

/// The shops that an object may belong to: by its owners and by its labels, since a hand can remove either.
pub(super) fn shops_of<K: Resource>(object: PartialObjectMeta<K>) -> HashSet<ObjectRef<Watched>> {
    let metadata = object.metadata;
    let owners = metadata.owner_references.iter().flatten();
    let owners = owners.filter(|owner| owner.kind == OrderShop::kind(&())).map(|owner| owner.name.clone());
    let label = metadata.labels.as_ref().and_then(labels::instance);
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    owners.chain(label.map(str::to_owned)).map(|name| ObjectRef::new(&name).within(namespace)).collect()
}
