//! The `OrderShop` itself: applied, read, waited for.

use super::status::condition;
use crate::deadline::eventually;
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The name of every test's shop; the namespaces differ.
pub const SHOP: &str = "shop";
const MANAGER: &str = "e2e";

/// A shop in a namespace.
pub struct Shop {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) forward: tokio::sync::OnceCell<pod_forward::Forward>,
}

/// The `OrderShop`s of a namespace.
#[must_use]
pub fn order_shops(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("ordershop.dev", "v1alpha1", "OrderShop");
    Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&kind))
}

impl Shop {
    /// The one of this namespace, there or not.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned(), forward: tokio::sync::OnceCell::new() }
    }

    /// Where it is.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Applies the shop that has every default: `spec: {}`.
    pub async fn apply(&self) -> Result<()> {
        self.apply_spec(SHOP, &json!({})).await
    }

    /// Applies a shop with this name and spec.
    pub async fn apply_spec(&self, name: &str, spec: &Value) -> Result<()> {
        let object = json!({
            "apiVersion": "ordershop.dev/v1alpha1",
            "kind": "OrderShop",
            "metadata": {"name": name},
            "spec": spec,
        });
        let how = PatchParams::apply(MANAGER).force();
        self.api().patch(name, &how, &Patch::Apply(object)).await.context("cannot apply the OrderShop")?;
        Ok(())
    }

    /// All shops of the namespace.
    #[must_use]
    pub fn order_shops(&self) -> Api<DynamicObject> {
        self.api()
    }

    /// A merge patch of the resource; what it is afterwards.
    pub async fn patch(&self, patch: Value) -> Result<DynamicObject> {
        Ok(self.api().patch(SHOP, &PatchParams::default(), &Patch::Merge(patch)).await?)
    }

    /// Sets the number of crm's replicas through the scale subresource, as `kubectl scale` does.
    pub async fn scale(&self, replicas: u32) -> Result<()> {
        let patch = json!({"spec": {"replicas": replicas}});
        self.api().patch_scale(SHOP, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// The label selector that the scale subresource names.
    pub async fn scale_selector(&self) -> Result<String> {
        let scale = self.api().get_scale(SHOP).await?;
        scale.status.and_then(|status| status.selector).context("the scale subresource names no selector")
    }

    /// Waits until the condition Ready is true for the newest spec; how long that took.
    pub async fn ready(&self, within: Duration) -> Result<Duration> {
        let begin = Instant::now();
        eventually("the shop is Ready", within, async || {
            let shop = self.get().await?;
            let condition = condition(&shop.data["status"], "Ready").context("no condition Ready yet")?;
            ensure!(condition["status"] == "True", "{condition}");
            let generation = shop.metadata.generation;
            ensure!(condition["observedGeneration"].as_i64() == generation, "an older spec: {condition}");
            Ok(())
        })
        .await?;
        Ok(begin.elapsed())
    }

    /// The resource as the API server has it.
    pub async fn get(&self) -> Result<DynamicObject> {
        Ok(self.api().get(SHOP).await?)
    }

    /// The pods that a label selector finds.
    pub async fn pods(&self, selector: &str) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        Ok(pods.list(&ListParams::default().labels(selector)).await?.items)
    }

    /// A typed API of the shop's namespace.
    #[must_use]
    pub fn objects<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn api(&self) -> Api<DynamicObject> {
        order_shops(&self.client, &self.namespace)
    }
}
