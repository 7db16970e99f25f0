//! What the operator made for a shop, as a snapshot that two moments can be compared by.

use super::shop::{SHOP, Shop};
use crate::deadline::eventually;
use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::{DynamicObject, ListParams};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

/// The nine services.
pub const SERVICES: [&str; 9] =
    ["gateway", "customer", "product", "inventory", "order", "billing", "crm", "notification", "read-model"];

/// Kind and name of every object, with a digest of what the operator writes of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Children(BTreeMap<String, String>);

impl Shop {
    /// The Deployment of a service.
    pub async fn deployment(&self, service: &str) -> Result<Deployment> {
        let name = format!("{SHOP}-{service}");
        self.objects::<Deployment>().get(&name).await.with_context(|| format!("Deployment {name}"))
    }

    /// The wanted replicas of all nine services.
    pub async fn replicas(&self) -> Result<BTreeMap<&'static str, i32>> {
        let mut replicas = BTreeMap::new();
        for service in SERVICES {
            let spec = self.deployment(service).await?.spec.unwrap_or_default();
            replicas.insert(service, spec.replicas.unwrap_or(1));
        }
        Ok(replicas)
    }

    /// Waits until a service has exactly this many pods, all of them ready.
    pub async fn has_replicas(&self, service: &str, wanted: i32, within: Duration) -> Result<()> {
        eventually(&format!("{service} has {wanted} ready pods"), within, async || {
            let status = self.deployment(service).await?.status.unwrap_or_default();
            let ready = status.ready_replicas.unwrap_or(0);
            let pods = self.pods(&Self::selector(service)).await?.len();
            ensure!(ready == wanted && i32::try_from(pods)? == wanted, "{ready} ready of {pods} pods");
            Ok(())
        })
        .await
    }

    /// All objects of the shop, itself included.
    pub async fn children(&self) -> Result<Children> {
        let mut all = Children::default();
        all.add_shop(&self.get().await?);
        let ours = ListParams::default().labels("app.kubernetes.io/part-of=ordershop");
        all.add("Deployment", self.objects::<Deployment>().list(&ours).await?)?;
        all.add("StatefulSet", self.objects::<StatefulSet>().list(&ours).await?)?;
        all.add("Service", self.objects::<Service>().list(&ours).await?)?;
        all.add("ServiceAccount", self.objects::<ServiceAccount>().list(&ours).await?)?;
        all.add("NetworkPolicy", self.objects::<NetworkPolicy>().list(&ours).await?)?;
        all.add("Secret", self.objects::<Secret>().list(&ours).await?)?;
        Ok(all)
    }

    /// Waits until nothing is written any more: no object changes for as long as `quiet`.
    pub async fn quiet(&self, quiet: Duration, within: Duration) -> Result<Children> {
        let mut last = (self.children().await?, Instant::now());
        eventually("the operator writes nothing any more", within, async || {
            let now = self.children().await?;
            if let Some(changed) = last.0.first_difference(&now) {
                last = (now, Instant::now());
                bail!("{changed} was just written");
            }
            ensure!(last.1.elapsed() >= quiet, "quiet for {:.1} s so far", last.1.elapsed().as_secs_f64());
            Ok(now)
        })
        .await
    }
}

impl Children {
    fn add_shop(&mut self, shop: &DynamicObject) {
        let version = shop.resource_version().unwrap_or_default();
        self.0.insert(format!("OrderShop {}", shop.name_any()), version);
    }

    /// The status of a child is written by Kubernetes' own controllers, at any time: when a pod has ended, say.
    fn add<K: kube::Resource + Serialize>(
        &mut self,
        kind: &str,
        objects: impl IntoIterator<Item = K>,
    ) -> Result<()> {
        for mut object in objects {
            let name = object.name_any();
            object.meta_mut().managed_fields = None;
            object.meta_mut().resource_version = None;
            let mut rest = serde_json::to_value(object)?;
            rest.as_object_mut().context("no object")?.remove("status");
            let mut digest = DefaultHasher::new();
            rest.to_string().hash(&mut digest);
            self.0.insert(format!("{kind} {name}"), format!("{:016x}", digest.finish()));
        }
        Ok(())
    }

    /// The same with the `OrderShop` as it is after a write of the test's own.
    #[must_use]
    pub fn with_shop(mut self, shop: &DynamicObject) -> Self {
        self.add_shop(shop);
        self
    }

    /// How many objects there are of a kind.
    #[must_use]
    pub fn count(&self, kind: &str) -> usize {
        self.0.keys().filter(|name| name.split(' ').next() == Some(kind)).count()
    }

    /// All objects that were made, removed or written between this snapshot and a later one.
    #[must_use]
    pub fn differences(&self, later: &Self) -> BTreeSet<String> {
        let names = self.0.keys().chain(later.0.keys());
        names.filter(|name| self.0.get(*name) != later.0.get(*name)).cloned().collect()
    }

    /// An object that was made, removed or written between this snapshot and a later one.
    #[must_use]
    pub fn first_difference(&self, later: &Self) -> Option<String> {
        self.differences(later).pop_first()
    }
}
