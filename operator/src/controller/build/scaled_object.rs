//! `ScaledObject`s of KEDA: for services whose load is the lag of their group.
//!
//! KEDA's kinds are not among those of Kubernetes: as much of them stands here as the operator says.

use kube::CustomResource;
use serde::{Deserialize, Serialize};

use super::{metadata, redis, trigger_authentication};
use crate::{
    controller::{
        autoscaling::{Autoscaling, Load},
        labels,
        validate::{ValidService, ValidShop},
    },
    rights::READER,
};

/// How often KEDA looks, in seconds.
const POLLING_INTERVAL: i32 = 10;

/// What KEDA scales by what.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[kube(
    group = "keda.sh",
    version = "v1alpha1",
    kind = "ScaledObject",
    plural = "scaledobjects",
    namespaced,
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct ScaledObjectSpec {
    /// The Deployment that is scaled.
    pub scale_target_ref: Named,
    /// The fewest pods.
    pub min_replica_count: i32,
    /// The most pods.
    pub max_replica_count: i32,
    /// How often KEDA looks, in seconds.
    pub polling_interval: i32,
    /// What the pods are counted by: the one that asks for most counts.
    pub triggers: Vec<Trigger>,
}

/// One thing that KEDA looks at.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trigger {
    /// The scaler.
    #[serde(rename = "type")]
    pub type_: String,
    /// What the scaler is told.
    pub metadata: StreamLag,
    /// Where its password is found.
    pub authentication_ref: Named,
}

/// An object of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Named {
    /// Its name.
    pub name: String,
}

/// The lag of a group on a stream. All values are texts to KEDA.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamLag {
    /// Redis.
    pub address: String,
    /// The user whose password the trigger's authentication names.
    pub username: String,
    /// The key of the stream.
    pub stream: String,
    /// The group.
    pub consumer_group: String,
    /// The lag for each pod.
    pub lag_count: String,
    /// The lag from which on there are more than the fewest pods.
    pub activation_lag_count: String,
}

/// One for each service that is scaled by the lag of its group.
pub(in crate::controller) fn scaled_objects(shop: &ValidShop) -> Vec<ScaledObject> {
    shop.services.iter().filter_map(|service| scaled_object(shop, service)).collect()
}

fn scaled_object(shop: &ValidShop, service: &ValidService) -> Option<ScaledObject> {
    let Autoscaling { min, max, by: Load::Lag(lag) } = service.autoscaling? else { return None };
    let name = service.service.name();
    let redis = labels::object_name(&shop.owner.name, labels::REDIS);
    let trigger = |stream: &&str| Trigger {
        type_: "redis-streams".to_owned(),
        metadata: StreamLag {
            // KEDA runs in a namespace of its own.
            address: format!("{redis}.{}:{}", shop.owner.namespace, redis::PORT),
            username: READER.to_owned(),
            stream: format!("events:{stream}"),
            consumer_group: name.to_owned(),
            lag_count: lag.to_string(),
            activation_lag_count: "0".to_owned(),
        },
        authentication_ref: Named {
            name: labels::object_name(&shop.owner.name, trigger_authentication::COMPONENT),
        },
    };
    Some(ScaledObject {
        metadata: metadata(&shop.owner, name),
        spec: ScaledObjectSpec {
            scale_target_ref: Named { name: labels::object_name(&shop.owner.name, name) },
            min_replica_count: min,
            max_replica_count: max,
            polling_interval: POLLING_INTERVAL,
            triggers: service.service.consumes().iter().map(trigger).collect(),
        },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{json, to_value};

    use super::super::tests::valid;
    use super::*;

    #[test]
    fn a_service_with_autoscaling_by_lag_has_a_trigger_for_each_stream_of_its_group() {
        assert_eq!(scaled_objects(&valid("{}")), []);
        let shop = valid("{services: {crm: {autoscaling: {maxReplicas: 4, lagPerReplica: 20}}}}");
        let [only] = &scaled_objects(&shop)[..] else { panic!("crm alone is scaled") };
        let object = to_value(only).unwrap();
        assert_eq!(object["apiVersion"], "keda.sh/v1alpha1");
        assert_eq!(object["kind"], "ScaledObject");
        assert_eq!(object["metadata"]["name"], "shop-crm");
        let spec = &object["spec"];
        assert_eq!(spec["scaleTargetRef"], json!({"name": "shop-crm"}));
        assert_eq!((&spec["minReplicaCount"], &spec["maxReplicaCount"]), (&json!(1), &json!(4)));
        let triggers = spec["triggers"].as_array().unwrap();
        let streams: Vec<_> = triggers.iter().map(|trigger| trigger["metadata"]["stream"].as_str()).collect();
        let expected = ["events:customer_created", "events:customer_deleted", "events:order_updated"];
        assert_eq!(streams, expected.map(Some));
        assert_eq!(
            triggers[0],
            json!({"type": "redis-streams", "authenticationRef": {"name": "shop-lag"}, "metadata": {
                "address": "shop-redis.ns:6379", "username": "reader", "stream": "events:customer_created",
                "consumerGroup": "crm", "lagCount": "20", "activationLagCount": "0",
            }})
        );
    }
}
