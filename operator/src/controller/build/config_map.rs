//! The environment of every service that talks to Redis.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::metadata;
use crate::controller::{hash, labels, validate::ValidShop};

/// The component name of the ConfigMap.
pub(super) const CONFIG: &str = "config";

/// The common environment.
pub(in crate::controller) fn config_maps(shop: &ValidShop) -> Vec<ConfigMap> {
    if shop.redis_url.is_some() {
        return Vec::new();
    }
    vec![ConfigMap {
        metadata: metadata(&shop.owner, CONFIG),
        data: Some(data(shop)),
        ..ConfigMap::default()
    }]
}

fn data(shop: &ValidShop) -> BTreeMap<String, String> {
    let redis = labels::object_name(&shop.owner.name, labels::REDIS);
    let url = format!("redis://{redis}:{}", super::redis::PORT);
    BTreeMap::from([("ORDERSHOP_REDIS_URL".to_owned(), url)])
}

/// A hash of what it says: pods that read it are rolled when it changes.
pub(super) fn hash(shop: &ValidShop) -> String {
    let lines: Vec<_> = data(shop).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    hash::of_bytes(lines.join("\n").as_bytes())
}
