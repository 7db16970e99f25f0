//! The claim of Redis' volume, under the name by which the StatefulSet looks for it. It is made here and not left
//! to the StatefulSet, whose template of it can never be changed: so the volume can grow.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements},
    apimachinery::pkg::{api::resource::Quantity as ApiQuantity, apis::meta::v1::ObjectMeta},
};

use crate::controller::{labels, validate::ValidShop};

/// The name of the volume in Redis' pod, and of the StatefulSet's template of the claim.
pub(super) const NAME: &str = "data";

/// The claim of the one pod of Redis.
pub(in crate::controller) fn volume_claims(shop: &ValidShop) -> Vec<PersistentVolumeClaim> {
    if shop.redis_url.is_some() {
        return Vec::new();
    }
    let set = labels::object_name(&shop.owner.name, labels::REDIS);
    let mut claim = template(shop);
    claim.metadata.name = Some(format!("{NAME}-{set}-0"));
    claim.metadata.namespace = Some(shop.owner.namespace.clone());
    vec![claim]
}

/// What the claims of the StatefulSet are made from. No owner: the data outlives the shop, and a shop of the same
/// name finds it again.
pub(super) fn template(shop: &ValidShop) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            labels: Some(labels::labels(&shop.owner.name, labels::REDIS)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: shop.redis.storage_class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([(
                    "storage".to_owned(),
                    ApiQuantity(shop.redis.storage_size.as_str().to_owned()),
                )])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use crate::controller::build::tests::built;

    #[test]
    fn the_claim_has_the_name_the_statefulset_looks_for_and_no_owner() {
        let children = built("{ redis: { storage: { size: 3Gi } } }");
        let (claim, set) = (&children.volume_claims[0], &children.stateful_sets[0]);
        let template = &set.spec.as_ref().unwrap().volume_claim_templates.as_ref().unwrap()[0];
        let (of_template, of_set) =
            (template.metadata.name.as_ref().unwrap(), set.metadata.name.as_ref().unwrap());
        assert_eq!(claim.metadata.name, Some(format!("{of_template}-{of_set}-0")));
        assert_eq!(claim.spec, template.spec);
        assert_eq!(claim.metadata.labels, template.metadata.labels);
        assert!(claim.metadata.owner_references.is_none(), "the data outlives the shop");
    }
}
