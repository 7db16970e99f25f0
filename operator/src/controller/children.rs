//! Everything that belongs to one shop, one list per kind: the only place where the kinds are counted up.
//!
//! A kind is one line of `children!` and one builder in `build/`. From the line come its place in the struct
//! and in every step that goes through all kinds: building, reading, watching, applying and sweeping. So a kind
//! that some step forgets cannot be written. The order of the lines is the order in which they are applied:
//! workloads last.
//!
//! The type parameter says how far the objects are: a status can only be computed from what was applied.

use std::marker::PhantomData;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, StatefulSet},
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::{PersistentVolumeClaim, Secret, Service, ServiceAccount},
        networking::v1::{Ingress, NetworkPolicy},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Client, Resource, ResourceExt, runtime::Controller};

use super::{
    apply::Applier,
    build::{self, BuildError, scaled_object::ScaledObject, trigger_authentication::TriggerAuthentication},
    fetch::{self, FetchError},
    outcome::Outcome,
    reconcile::Watched,
    scope::Part,
    validate::ValidShop,
    watch,
};

/// As it was found on the API server.
#[derive(Clone, Copy, Debug)]
pub enum Live {}

/// As it should be.
#[derive(Clone, Copy, Debug)]
pub enum Prepared {}

/// As it is after everything that could be applied was.
#[derive(Clone, Copy, Debug)]
pub enum Applied {}

macro_rules! children {
    ($($(#[$doc:meta])* $field:ident: $kind:ident = $builder:ident::$build:ident, $read:ident, $apply:ident;)+) => {
        /// The objects of one shop.
        #[derive(Clone, Debug)]
        pub struct Children<State> {
            $($(#[$doc])* pub $field: Vec<$kind>,)+
            /// How far the objects are.
            pub state: PhantomData<State>,
        }

        impl<State> Default for Children<State> {
            fn default() -> Self {
                Self { $($field: Vec::new(),)+ state: PhantomData }
            }
        }

        impl Children<Prepared> {
            /// Step 3: all objects as they should be.
            pub(super) fn build(shop: &ValidShop) -> Result<Self, BuildError> {
                Ok(Self { $($field: build::stamped(build::$builder::$build(shop))?,)+ state: PhantomData })
            }

            /// Step 4: all kinds in their order.
            pub(super) async fn apply(self, live: Children<Live>, applier: &Applier<'_>) -> Outcome {
                let mut outcome = Outcome::default();
                $(outcome.children.$field = applier.$apply(self.$field, live.$field, &mut outcome).await;)+
                outcome
            }

            /// All of them as if they had been applied.
            #[cfg(test)]
            pub(super) fn applied(self) -> Children<Applied> {
                Children { $($field: self.$field,)+ state: PhantomData }
            }
        }

        impl Children<Live> {
            /// Step 1: all kinds at a time.
            pub(super) async fn fetch(
                client: &Client,
                namespace: &str,
                shop: &str,
            ) -> Result<Self, FetchError> {
                let ($($field,)+) =
                    futures_util::try_join!($(fetch::$read::<$kind>(client, namespace, shop)),+)?;
                Ok(Self { $($field,)+ state: PhantomData })
            }
        }

        impl<State> Children<State> {
            /// The kind and the metadata of every object.
            pub fn metadata(&self) -> impl Iterator<Item = (String, &ObjectMeta)> {
                std::iter::empty()
                    $(.chain(self.$field.iter().map(|it| ($kind::kind(&()).into_owned(), &it.metadata))))+
            }
        }

        /// Lets a change of any of them lead to its shop.
        pub(super) fn watched(
            controller: Controller<Watched>,
            client: &Client,
            part: &Part,
        ) -> Controller<Watched> {
            $(let controller = watch::$read::<$kind>(controller, client, part);)+
            controller
        }
    };
}

// field: kind = builder, how it is read and watched (`fetch`, `watch`), how it is applied (`apply`).
children! {
    /// One per component.
    service_accounts: ServiceAccount = service_account::service_accounts, listed, all;
    /// The users of Redis and their passwords.
    secrets: Secret = secret::secrets, of_redis, passwords;
    /// One per component: no pod runs before what closes it is there.
    network_policies: NetworkPolicy = network_policy::network_policies, listed, all;
    /// One per component that listens.
    services: Service = service::services, listed, all;
    /// The way to the gateway from outside.
    ingresses: Ingress = ingress::ingresses, listed, all;
    /// The claim of Redis' volume.
    volume_claims: PersistentVolumeClaim = volume::volume_claims, listed, volume_claims;
    /// One per service that has several pods.
    disruption_budgets: PodDisruptionBudget = disruption_budget::disruption_budgets, listed, all;
    /// Redis.
    stateful_sets: StatefulSet = redis::stateful_sets, listed, redis;
    /// The nine services.
    deployments: Deployment = deployment::deployments, listed, deployments;
    /// One per service that is scaled by its CPU.
    autoscalers: HorizontalPodAutoscaler = autoscaler::autoscalers, listed, all;
    /// How KEDA may ask Redis, where a service is scaled by the lag of its group.
    trigger_authentications: TriggerAuthentication =
        trigger_authentication::trigger_authentications, where_installed, where_installed;
    /// One per service that is scaled by the lag of its group.
    scaled_objects: ScaledObject = scaled_object::scaled_objects, where_installed, where_installed;
}

/// The object with this name.
pub(crate) fn named<'a, K: ResourceExt>(objects: &'a [K], name: &str) -> Option<&'a K> {
    objects.iter().find(|object| object.meta().name.as_deref() == Some(name))
}
