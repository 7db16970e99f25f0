//! `TriggerAuthentication`s of KEDA: with which password it asks a shop's Redis, as the user who reads.

use kube::CustomResource;
use serde::{Deserialize, Serialize};

use super::{metadata, scaled_object};
use crate::{
    controller::{labels, passwords, validate::ValidShop},
    rights::READER,
};

/// The component of the one object that all `ScaledObject`s of a shop name.
pub(super) const COMPONENT: &str = "lag";

/// Where KEDA finds what a scaler needs.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[kube(
    group = "keda.sh",
    version = "v1alpha1",
    kind = "TriggerAuthentication",
    plural = "triggerauthentications",
    namespaced,
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct TriggerAuthenticationSpec {
    /// Out of Secrets of the same namespace.
    pub secret_target_ref: Vec<SecretTarget>,
}

/// One parameter of a scaler, out of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SecretTarget {
    /// The parameter.
    pub parameter: String,
    /// The Secret's name.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// One for the shop when a service of it is scaled by the lag of its group.
pub(in crate::controller) fn trigger_authentications(shop: &ValidShop) -> Vec<TriggerAuthentication> {
    if scaled_object::scaled_objects(shop).is_empty() {
        return Vec::new();
    }
    vec![TriggerAuthentication {
        metadata: metadata(&shop.owner, COMPONENT),
        spec: TriggerAuthenticationSpec {
            secret_target_ref: vec![SecretTarget {
                parameter: "password".to_owned(),
                name: labels::object_name(&shop.owner.name, labels::REDIS),
                key: passwords::key(READER, &shop.passwords.newest.id),
            }],
        },
    }]
}

#[cfg(test)]
mod tests {
    use serde_json::{json, to_value};

    use super::super::tests::valid;
    use super::*;

    #[test]
    fn a_shop_that_is_scaled_by_lag_lets_keda_ask_its_redis_as_the_user_who_reads() {
        assert_eq!(trigger_authentications(&valid("{}")), []);
        let mut shop = valid("{services: {crm: {autoscaling: {maxReplicas: 4}}}}");
        shop.passwords.newest.id = "e1".to_owned();
        let object = to_value(&trigger_authentications(&shop)[0]).unwrap();
        assert_eq!(
            object["spec"],
            json!({"secretTargetRef": [{"parameter": "password", "name": "shop-redis", "key": "reader.e1"}]})
        );
        let scaled = to_value(&scaled_object::scaled_objects(&shop)[0]).unwrap();
        let named = &scaled["spec"]["triggers"][0]["authenticationRef"]["name"];
        assert_eq!(named, &object["metadata"]["name"]);
    }
}
