//! Step 1: everything a reconciliation looks at, read from the API server.
//!
//! The shop itself is read again rather than taken from the watch, which may lag behind this operator's own
//! last write of the status: a stale status would be written twice and its transitions reported twice. It never
//! writes and never decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use futures_util::{future::try_join_all, try_join};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::{
    Api, Client, Resource,
    api::ListParams,
    core::{DeserializeGuard, NamespaceResourceScope, error_boundary::InvalidObject},
};
use serde::de::DeserializeOwned;

use super::{
    children::{Children, Live},
    hash, labels,
    sources::{self, Source, SourceKind, Sources},
};
use crate::crd::OrderShop;

/// What a reconciliation starts from.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The shop, fresh.
    pub shop: OrderShop,
    /// What carries the shop's labels.
    pub live: Children<Live>,
    /// The Secrets and ConfigMaps that the spec names.
    pub sources: Sources,
}

/// The API server did not answer with what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The shop could not be read.
    #[error("reading the OrderShop: {0}")]
    Shop(#[source] kube::Error),
    /// The shop is not one this operator understands: it was stored by another version of the schema.
    #[error("the OrderShop cannot be decoded: {0}")]
    Undecodable(#[source] Box<InvalidObject>),
    /// Children could not be listed.
    #[error("listing {kind}: {source}")]
    Children {
        /// Their kind.
        kind: String,
        /// What the API server said.
        source: kube::Error,
    },
    /// A Secret or a ConfigMap that the spec names could not be read.
    #[error("reading the {kind} {name:?}: {source}")]
    Source {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What the API server said.
        source: kube::Error,
    },
}

impl FetchError {
    /// The variant, for metrics and events.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Shop(_) => "FetchShop",
            Self::Undecodable(_) => "Undecodable",
            Self::Children { .. } => "FetchChildren",
            Self::Source { .. } => "FetchSource",
        }
    }
}

/// Reads the shop and what belongs to it. `None`: there is no such shop, or it is being deleted and the garbage
/// collector does the rest.
pub async fn fetch(client: &Client, namespace: &str, name: &str) -> Result<Option<Fetched>, FetchError> {
    let shops: Api<DeserializeGuard<OrderShop>> = Api::namespaced(client.clone(), namespace);
    let Some(DeserializeGuard(shop)) = shops.get_opt(name).await.map_err(FetchError::Shop)? else {
        return Ok(None);
    };
    let shop = shop.map_err(|invalid| FetchError::Undecodable(Box::new(invalid)))?;
    if shop.meta().deletion_timestamp.is_some() {
        return Ok(None);
    }
    let (live, sources) = try_join!(
        Children::<Live>::fetch(client, namespace, name),
        sources(client, namespace, sources::wanted(&shop.spec)),
    )?;
    Ok(Some(Fetched { shop, live, sources }))
}

/// A kind of which the operator may list what is its own.
pub(super) async fn listed<K>(client: &Client, namespace: &str, shop: &str) -> Result<Vec<K>, FetchError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let list = api
        .list(&ListParams::default().labels(&labels::managed_for(shop)))
        .await
        .map_err(|source| FetchError::Children { kind: K::kind(&()).into_owned(), source })?;
    Ok(list.items)
}

/// The pods of some components, which are looked at only while these are not as they should be.
pub async fn pods(
    client: &Client,
    namespace: &str,
    shop: &str,
    components: &[&str],
) -> Result<Vec<Pod>, FetchError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let params = ListParams::default().labels(&labels::components_of(shop, components));
    let listed = pods.list(&params).await;
    Ok(listed.map_err(|source| FetchError::Children { kind: "Pod".to_owned(), source })?.items)
}

/// A kind of which the operator may only read what it knows the name of: the one object of Redis.
pub(super) async fn of_redis<K>(client: &Client, namespace: &str, shop: &str) -> Result<Vec<K>, FetchError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let found = api
        .get_opt(&labels::object_name(shop, labels::REDIS))
        .await
        .map_err(|source| FetchError::Children { kind: K::kind(&()).into_owned(), source })?;
    Ok(found.into_iter().collect())
}

/// Reads each of them once, and keeps hashes only: a reconciliation compares, it needs no value.
async fn sources(client: &Client, namespace: &str, wanted: BTreeSet<Source>) -> Result<Sources, FetchError> {
    let found = wanted.into_iter().map(|(kind, name)| async move {
        let keys = match kind {
            SourceKind::Secret => Api::<Secret>::namespaced(client.clone(), namespace)
                .get_opt(&name)
                .await
                .map(|secret| secret.map(|secret| hashes(secret.data, |value| &value.0))),
            SourceKind::ConfigMap => Api::<ConfigMap>::namespaced(client.clone(), namespace)
                .get_opt(&name)
                .await
                .map(|map| map.map(|map| hashes(map.data, String::as_bytes))),
        };
        match keys {
            Ok(keys) => Ok(((kind, name), keys)),
            Err(source) => Err(FetchError::Source { kind: kind.as_str(), name, source }),
        }
    });
    Ok(Sources(try_join_all(found).await?.into_iter().collect()))
}

/// A hash of the value of each key.
fn hashes<V>(data: Option<BTreeMap<String, V>>, bytes: impl Fn(&V) -> &[u8]) -> BTreeMap<String, String> {
    let data = data.unwrap_or_default();
    data.iter().map(|(key, value)| (key.clone(), hash::of_bytes(bytes(value)))).collect()
}

/// A kind that this cluster may not have: then there is none of it.
pub(super) async fn where_installed<K>(
    client: &Client,
    namespace: &str,
    shop: &str,
) -> Result<Vec<K>, FetchError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    match listed(client, namespace, shop).await {
        Err(FetchError::Children { source: kube::Error::Api(status), .. }) if status.code == 404 => {
            Ok(Vec::new())
        }
        found => found,
    }
}
