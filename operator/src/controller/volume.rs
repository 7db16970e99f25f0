//! Redis' volume over time, pure: it grows when the spec asks for more, it never shrinks, and what was made with
//! a size keeps saying that size where Kubernetes allows no change.

use k8s_openapi::{
    api::{apps::v1::StatefulSet, core::v1::PersistentVolumeClaim},
    apimachinery::pkg::api::resource::Quantity as ApiQuantity,
};

use crate::crd::Quantity;

/// What a claim has and asks for, and what keeps it from more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// What it has; `None` before it is bound.
    pub has: Option<String>,
    /// What the spec asks for.
    pub wanted: String,
    /// Why it does not get that.
    pub refused: Option<String>,
}

impl Volume {
    /// What is worth saying about it: that it grows, or that it cannot.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        let has = self.has.as_deref()?;
        match &self.refused {
            Some(why) => Some(format!(
                "redis: the volume stays at {has}, its storage class cannot grow it to {}: {why}",
                self.wanted
            )),
            None => is_less(has, &self.wanted)
                .then(|| format!("redis: the volume grows from {has} to {}", self.wanted)),
        }
    }
}

/// The claim as it should be beside the one that is there: a volume never shrinks, so one that is larger, left
/// by a former shop of the same name, stays as it is.
#[must_use]
pub fn settled(
    mut wanted: PersistentVolumeClaim,
    live: Option<&PersistentVolumeClaim>,
) -> PersistentVolumeClaim {
    if let (Some(request), Some(there)) = (requested_mut(&mut wanted), live.and_then(requested))
        && is_less(&request.0, &there.0)
    {
        request.clone_from(there);
    }
    wanted
}

/// The StatefulSet as it should be beside the one that is there: Kubernetes lets nobody change its template of
/// the claim, which only counts for a claim that is not there yet.
#[must_use]
pub fn kept_template(mut wanted: StatefulSet, live: Option<&StatefulSet>) -> StatefulSet {
    let templates =
        |set: &StatefulSet| set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.clone());
    let live = live.and_then(templates).unwrap_or_default();
    let claims = wanted.spec.as_mut().and_then(|spec| spec.volume_claim_templates.as_mut());
    for claim in claims.into_iter().flatten() {
        let there = live.iter().find(|there| there.metadata.name == claim.metadata.name).and_then(requested);
        if let (Some(request), Some(there)) = (requested_mut(claim), there) {
            request.clone_from(there);
        }
    }
    wanted
}

/// The size that a claim asks for.
#[must_use]
pub fn requested(claim: &PersistentVolumeClaim) -> Option<&ApiQuantity> {
    claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage")
}

/// The size that a claim has.
#[must_use]
pub fn capacity(claim: &PersistentVolumeClaim) -> Option<&ApiQuantity> {
    claim.status.as_ref()?.capacity.as_ref()?.get("storage")
}

fn requested_mut(claim: &mut PersistentVolumeClaim) -> Option<&mut ApiQuantity> {
    claim.spec.as_mut()?.resources.as_mut()?.requests.as_mut()?.get_mut("storage")
}

/// Whether one size is less than another. What is no size is less than nothing.
fn is_less(left: &str, right: &str) -> bool {
    let value = |text: &str| Quantity::literal(text).nanos();
    matches!((value(left), value(right)), (Ok(left), Ok(right)) if left < right)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claim(size: &str) -> PersistentVolumeClaim {
        serde_json::from_value(spec(size)).unwrap()
    }

    fn spec(size: &str) -> Value {
        json!({"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": size}}}})
    }

    fn set(size: &str) -> StatefulSet {
        serde_json::from_value(json!({"spec": {
            "selector": {}, "template": {}, "serviceName": "x", "volumeClaimTemplates": [spec(size)],
        }}))
        .unwrap()
    }

    #[test]
    fn a_volume_grows_and_never_shrinks() {
        let asks = |wanted: &str, live: Option<&str>| {
            let live = live.map(claim);
            requested(&settled(claim(wanted), live.as_ref())).unwrap().0.clone()
        };
        assert_eq!(asks("1Gi", None), "1Gi");
        assert_eq!(asks("2Gi", Some("1Gi")), "2Gi");
        assert_eq!(asks("1Gi", Some("5Gi")), "5Gi");
        assert_eq!(asks("1024Mi", Some("1Gi")), "1024Mi", "the same size is no difference");
    }

    #[test]
    fn the_template_of_the_claim_stays_as_it_was_made() {
        let asks = |set: StatefulSet| {
            requested(&set.spec.unwrap().volume_claim_templates.unwrap()[0]).unwrap().0.clone()
        };
        assert_eq!(asks(kept_template(set("2Gi"), None)), "2Gi");
        assert_eq!(asks(kept_template(set("2Gi"), Some(&set("1Gi")))), "1Gi");
    }

    #[test]
    fn what_is_said_about_the_volume() {
        let volume = |has: Option<&str>, refused: Option<&str>| Volume {
            has: has.map(str::to_owned),
            wanted: "2Gi".to_owned(),
            refused: refused.map(str::to_owned),
        };
        assert_eq!(volume(None, None).note(), None);
        assert_eq!(volume(Some("2Gi"), None).note(), None);
        assert_eq!(volume(Some("3Gi"), None).note(), None);
        assert_eq!(volume(Some("1Gi"), None).note().unwrap(), "redis: the volume grows from 1Gi to 2Gi");
        assert_eq!(
            volume(Some("1Gi"), Some("it says no")).note().unwrap(),
            "redis: the volume stays at 1Gi, its storage class cannot grow it to 2Gi: it says no"
        );
    }
}
