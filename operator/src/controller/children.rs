//! Everything that belongs to one shop, one list per kind.
//!
//! The type parameter says how far the objects are: a status can only be computed from what was applied. Where
//! a step goes through all kinds it takes the struct apart without `..`: a new kind that some step forgets does
//! not compile.

use std::marker::PhantomData;

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{ConfigMap, Service, ServiceAccount},
};
use kube::ResourceExt;

/// As it was found on the API server.
#[derive(Clone, Copy, Debug)]
pub enum Live {}

/// As it should be.
#[derive(Clone, Copy, Debug)]
pub enum Prepared {}

/// As it is after everything that could be applied was.
#[derive(Clone, Copy, Debug)]
pub enum Applied {}

/// The objects of one shop.
#[derive(Clone, Debug)]
pub struct Children<State> {
    /// One per component.
    pub service_accounts: Vec<ServiceAccount>,
    /// The environment that the services share.
    pub config_maps: Vec<ConfigMap>,
    /// One per component that listens.
    pub services: Vec<Service>,
    /// Redis.
    pub stateful_sets: Vec<StatefulSet>,
    /// The nine services.
    pub deployments: Vec<Deployment>,
    /// How far the objects are.
    pub state: PhantomData<State>,
}

impl<State> Default for Children<State> {
    fn default() -> Self {
        Self {
            service_accounts: Vec::new(),
            config_maps: Vec::new(),
            services: Vec::new(),
            stateful_sets: Vec::new(),
            deployments: Vec::new(),
            state: PhantomData,
        }
    }
}

/// The object with this name.
pub(crate) fn named<'a, K: ResourceExt>(objects: &'a [K], name: &str) -> Option<&'a K> {
    objects.iter().find(|object| object.meta().name.as_deref() == Some(name))
}
