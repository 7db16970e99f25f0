//! Step 1: everything a reconciliation looks at, read from the API server.
//!
//! The shop itself is read again rather than taken from the watch, which may lag behind this operator's own
//! last write of the status: a stale status would be written twice and its transitions reported twice. It never
//! writes and never decides.

use std::fmt::Debug;

use futures_util::try_join;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    Api, Client, Resource,
    api::ListParams,
    core::{DeserializeGuard, NamespaceResourceScope, error_boundary::InvalidObject},
};
use serde::de::DeserializeOwned;

use super::{
    children::{Children, Live},
    hash, labels,
};
use crate::crd::{OrderShop, SecretKey};

/// What a reconciliation starts from.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The shop, fresh.
    pub shop: OrderShop,
    /// What carries the shop's labels.
    pub live: Children<Live>,
    /// The mail server's Secret, when the spec names one.
    pub smtp: Option<SmtpSecret>,
}

/// What was found where the spec says the mail server's URL is. The URL itself is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SmtpSecret {
    /// There is no such Secret.
    NoSecret,
    /// The Secret has no such key.
    NoKey,
    /// It is there.
    Found {
        /// A hash of the value, to notice a change.
        hash: String,
    },
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
    /// The mail server's Secret could not be read.
    #[error("reading the Secret {name:?} of spec.mail.smtpSecret: {source}")]
    Secret {
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
            Self::Secret { .. } => "FetchSecret",
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
    let (live, smtp) = try_join!(
        Children::<Live>::fetch(client, namespace, name),
        smtp(client, namespace, shop.spec.mail.smtp_secret.as_ref()),
    )?;
    Ok(Some(Fetched { shop, live, smtp }))
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

async fn smtp(
    client: &Client,
    namespace: &str,
    wanted: Option<&SecretKey>,
) -> Result<Option<SmtpSecret>, FetchError> {
    let Some(SecretKey { name, key }) = wanted else { return Ok(None) };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret =
        secrets.get_opt(name).await.map_err(|source| FetchError::Secret { name: name.clone(), source })?;
    Ok(Some(match secret.map(|secret| secret.data.unwrap_or_default()) {
        None => SmtpSecret::NoSecret,
        Some(data) => data
            .get(key)
            .map_or(SmtpSecret::NoKey, |value| SmtpSecret::Found { hash: hash::of_bytes(&value.0) }),
    }))
}
