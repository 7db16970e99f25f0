//! Step 3, pure: all objects of a shop as they should be.
//!
//! One file per kind of object. The objects say only what the operator decides: what Kubernetes fills in by
//! itself is left out, so that it is not fought over.

pub(super) mod autoscaler;
pub(super) mod deployment;
pub(super) mod disruption_budget;
pub(super) mod ingress;
pub(super) mod network_policy;
mod pod;
pub(super) mod redis;
pub(super) mod scaled_object;
pub(super) mod secret;
pub(super) mod service;
pub(super) mod service_account;
pub(super) mod trigger_authentication;
pub(super) mod volume;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};
use serde::Serialize;

use super::{
    children::{Children, Prepared},
    hash, labels,
    validate::{Owner, ValidShop},
};
use crate::{crd::OrderShop, service::Service};

/// The objects cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An object is not JSON.
    #[error("an object cannot be written as JSON: {0}")]
    Serialize(#[from] serde_json::Error),
}

/// All objects of the shop.
pub fn build(shop: &ValidShop) -> Result<Children<Prepared>, BuildError> {
    Children::build(shop)
}

/// All components: the nine services, and Redis when the operator makes it.
fn components(shop: &ValidShop) -> impl Iterator<Item = &'static str> {
    let redis = shop.redis_url.is_none().then_some(labels::REDIS);
    Service::ALL.into_iter().map(Service::name).chain(redis)
}

/// The metadata of a component's object.
fn metadata(owner: &Owner, component: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(labels::object_name(&owner.name, component)),
        namespace: Some(owner.namespace.clone()),
        labels: Some(labels::labels(&owner.name, component)),
        owner_references: Some(vec![owner_reference(owner)]),
        ..ObjectMeta::default()
    }
}

/// The shop controls the object: it is deleted with the shop. It does not block the shop's deletion, which
/// would need a permission on its finalizers.
fn owner_reference(owner: &Owner) -> OwnerReference {
    OwnerReference {
        api_version: OrderShop::api_version(&()).into_owned(),
        kind: OrderShop::kind(&()).into_owned(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

/// Marks each object with the hash of all it says, and a workload with that of its pod template.
pub(super) fn stamped<K: ResourceExt + Serialize>(objects: Vec<K>) -> Result<Vec<K>, BuildError> {
    objects
        .into_iter()
        .map(|mut object| {
            if let Some(template) = serde_json::to_value(&object)?.pointer("/spec/template") {
                let hash = hash::of(template)?;
                object.annotations_mut().insert(labels::TEMPLATE_HASH.to_owned(), hash);
            }
            let hash = hash::of(&object)?;
            object.annotations_mut().insert(labels::APPLIED_HASH.to_owned(), hash);
            Ok(object)
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests;
