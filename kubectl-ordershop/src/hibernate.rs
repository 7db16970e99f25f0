//! `kubectl ordershop hibernate [--off]`: asks the operator for it, by the field `spec.hibernated`.

use crate::cluster::{Cluster, Shop};
use crate::failure::Failure;
use crate::restart::MANAGER;
use event_store_cli::exit::Done;
use event_store_cli::output::Out;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

pub(crate) async fn run(cluster: &Cluster, shop: &Shop, off: bool, out: &mut Out) -> Result<Done, Failure> {
    let wanted = !off;
    let how = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({"spec": {"hibernated": wanted}}));
    let patched = cluster.shops().patch(&shop.name(), &how, &patch).await;
    let patched = patched.map_err(|e| Failure::of_cluster("the OrderShop", &e))?;
    check(patched.data.pointer("/spec/hibernated"), wanted)?;
    if out.json {
        out.value(&json!({"shop": shop.name(), "hibernated": wanted}))?;
    } else if wanted {
        out.line(format!("{} hibernates: its pods end, Redis' data stays", shop.name()))?;
        out.line("  kubectl ordershop hibernate --off      wakes it up")?;
    } else {
        out.line(format!("{} wakes up; it is open when", shop.name()))?;
        let namespace = &cluster.namespace;
        out.line(format!("  kubectl wait --for=condition=Ready shop/{} -n {namespace}", shop.name()))?;
    }
    Ok(Done::Fine)
}

/// The API server drops a field that it does not know without a word.
fn check(hibernated: Option<&Value>, wanted: bool) -> Result<(), Failure> {
    if hibernated.and_then(Value::as_bool).unwrap_or(false) == wanted {
        return Ok(());
    }
    let text = "the OrderShops of this cluster know no spec.hibernated: upgrade the operator first";
    Err(Failure::Failed(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_knows_no_hibernation_is_told_from_one_that_does() {
        assert!(check(Some(&json!(true)), true).is_ok());
        assert!(check(Some(&json!(false)), false).is_ok());
        assert!(check(None, false).is_ok());
        assert!(check(None, true).is_err());
    }
}
