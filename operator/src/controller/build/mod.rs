//! Step 3, pure: all objects of a shop as they should be.
//!
//! One file per kind of object. The objects say only what the operator decides: what Kubernetes fills in by
//! itself is left out, so that it is not fought over.

mod deployment;
mod pod;
mod redis;
mod shared;

use k8s_openapi::{
    api::apps::v1::{Deployment, StatefulSet},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
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
    let components = || Service::ALL.into_iter().map(Service::name).chain([labels::REDIS]);
    let config = shared::config_map(shop);
    let config_hash = hash::of(&config.data)?;
    let deployments = shop.services.iter().map(|service| deployment::deployment(shop, service, &config_hash));
    let stateful_set = redis::stateful_set(shop);
    Ok(Children {
        service_accounts: stamped(components().map(|name| shared::service_account(shop, name)))?,
        config_maps: stamped([config])?,
        services: stamped(
            Service::ALL
                .into_iter()
                .filter_map(|service| shared::service(shop, service))
                .chain([redis::service(shop)]),
        )?,
        stateful_sets: stamped([template_stamped(stateful_set, |set: &StatefulSet| {
            set.spec.as_ref().map(|spec| &spec.template)
        })?])?,
        deployments: stamped(
            deployments
                .map(|deployment| {
                    template_stamped(deployment, |deployment: &Deployment| {
                        deployment.spec.as_ref().map(|spec| &spec.template)
                    })
                })
                .collect::<Result<Vec<_>, _>>()?,
        )?,
        state: std::marker::PhantomData,
    })
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

/// Marks a workload with the hash of its pod template.
fn template_stamped<K: ResourceExt, T: Serialize>(
    mut workload: K,
    template: impl Fn(&K) -> Option<&T>,
) -> Result<K, BuildError> {
    let hash = hash::of(&template(&workload))?;
    workload.annotations_mut().insert(labels::TEMPLATE_HASH.to_owned(), hash);
    Ok(workload)
}

/// Marks each object with the hash of all it says.
fn stamped<K: ResourceExt + Serialize>(objects: impl IntoIterator<Item = K>) -> Result<Vec<K>, BuildError> {
    objects
        .into_iter()
        .map(|mut object| {
            let hash = hash::of(&object)?;
            object.annotations_mut().insert(labels::APPLIED_HASH.to_owned(), hash);
            Ok(object)
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests;
