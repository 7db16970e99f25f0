//! The cluster that the kubeconfig names, and the shop on it. Reads only.

use crate::args::Which;
use crate::failure::Failure;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::config::{Config, KubeConfigOptions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use ordershop_operator::controller::labels;
use ordershop_operator::crd::{OrderShop, OrderShopStatus};
use serde_json::Value;
use std::time::Duration;

/// A cluster that does not answer is said to be away after this.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// A cluster and a namespace.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

/// A shop as the API server has it. Its spec may be of another version than this program.
pub(crate) struct Shop {
    pub(crate) object: DynamicObject,
    /// What the operator said last.
    pub(crate) status: OrderShopStatus,
}

impl Cluster {
    /// Reads the kubeconfig; asks nobody yet.
    pub(crate) async fn open(which: &Which) -> Result<Self, Failure> {
        let unusable = |e: &dyn std::error::Error| Failure::Unreachable(format!("no cluster: {e}"));
        let mut config = match &which.context {
            Some(context) => {
                let options =
                    KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
                let config = Config::from_kubeconfig(&options).await;
                config.map_err(|e| Failure::Usage(format!("context {context:?} of the kubeconfig: {e}")))?
            }
            None => Config::infer().await.map_err(|e| unusable(&e))?,
        };
        config.connect_timeout = Some(CONNECT_WITHIN);
        let namespace = which.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|e| unusable(&e))?;
        Ok(Self { client, namespace })
    }

    /// Objects of a kind in the namespace.
    pub(crate) fn objects<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The shops of the namespace.
    pub(crate) fn shops(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &ApiResource::erase::<OrderShop>(&()))
    }

    /// The shop that was named, or the only one there is.
    pub(crate) async fn shop(&self, name: Option<&str>) -> Result<Shop, Failure> {
        let object = if let Some(name) = name {
            let found = self.shops().get_opt(name).await;
            let found = found.map_err(|e| Failure::of_cluster("the OrderShop", &e))?;
            let missing = || format!("there is no OrderShop {name} in namespace {}", self.namespace);
            found.ok_or_else(|| Failure::NotFound(missing()))?
        } else {
            let listed = self.shops().list(&ListParams::default()).await;
            only(listed.map_err(|e| no_definition(&e))?.items, &self.namespace)?
        };
        let status =
            object.data.get("status").cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        let status = serde_json::from_value(status).map_err(|e| {
            Failure::Failed(format!(
                "the OrderShop's status is of a version that this program does not know: {e}"
            ))
        })?;
        Ok(Shop { object, status })
    }
}

impl Shop {
    pub(crate) fn name(&self) -> String {
        self.object.name_any()
    }

    /// A field of the spec, `/redis/persistence`; `Null` where it is not given.
    pub(crate) fn spec(&self, pointer: &str) -> &Value {
        self.object.data.get("spec").and_then(|spec| spec.pointer(pointer)).unwrap_or(&Value::Null)
    }

    /// The name of a component's objects.
    pub(crate) fn object_name(&self, component: &str) -> String {
        labels::object_name(&self.name(), component)
    }

    /// Selects a component's pods.
    pub(crate) fn pods_of(&self, component: &str) -> String {
        let labels = labels::selector(&self.name(), component);
        labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
    }
}

/// Pure.
fn only(shops: Vec<DynamicObject>, namespace: &str) -> Result<DynamicObject, Failure> {
    let names: Vec<String> = shops.iter().map(ResourceExt::name_any).collect();
    let mut shops = shops.into_iter();
    match (shops.next(), names.len()) {
        (Some(shop), 1) => Ok(shop),
        (None, _) => {
            let text = format!("there is no OrderShop in namespace {namespace}; -n names another one");
            Err(Failure::NotFound(text))
        }
        _ => {
            let text =
                format!("namespace {namespace} has several OrderShops, say --shop: {}", names.join(", "));
            Err(Failure::Usage(text))
        }
    }
}

fn no_definition(error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) if status.code == 404 => {
            Failure::NotFound("this cluster knows no OrderShops: is the operator installed?".to_owned())
        }
        other => Failure::of_cluster("the OrderShops", other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop(name: &str) -> DynamicObject {
        DynamicObject::new(name, &ApiResource::erase::<OrderShop>(&()))
    }

    #[test]
    fn the_only_shop_is_meant_and_one_of_several_must_be_named() {
        assert_eq!(only(vec![shop("a")], "x").unwrap().name_any(), "a");
        assert!(matches!(only(vec![], "x"), Err(Failure::NotFound(text)) if text.contains("namespace x")));
        let several = only(vec![shop("a"), shop("b")], "x");
        assert!(matches!(several, Err(Failure::Usage(text)) if text.contains("a, b")));
    }
}
