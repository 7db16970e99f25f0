//! `kubectl ordershop restart SERVICE`: new pods of the same template, by the annotation that `kubectl rollout restart`
//! sets, too. The operator leaves it alone: it is not one of its fields.

use crate::cluster::{Cluster, Shop};
use crate::failure::Failure;
use event_store_cli::exit::Done;
use event_store_cli::output::Out;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use ordershop_operator::service::Service;
use serde_json::json;

/// Who changes it.
pub(crate) const MANAGER: &str = "kubectl-ordershop";

pub(crate) async fn run(
    cluster: &Cluster,
    shop: &Shop,
    service: Service,
    out: &mut Out,
) -> Result<Done, Failure> {
    let name = shop.object_name(service.name());
    let now = format!("{:.3}", Timestamp::now());
    let annotation = json!({"kubectl.kubernetes.io/restartedAt": now});
    let patch = json!({"spec": {"template": {"metadata": {"annotations": annotation}}}});
    let how = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let deployments = cluster.objects::<Deployment>();
    let patched = deployments.patch(&name, &how, &Patch::Strategic(patch)).await;
    let patched = patched.map_err(|e| Failure::of_cluster(&format!("the Deployment {name}"), &e))?;
    let replicas = patched.spec.and_then(|spec| spec.replicas).unwrap_or(1);
    if out.json {
        out.value(&json!({"service": service.name(), "deployment": name, "replicas": replicas, "at": now}))?;
    } else if replicas == 0 {
        out.line(format!("{} has no pods now; those to come are of the new template", service.name()))?;
    } else {
        out.line(format!("{} rolls its {replicas} pods; it is done when", service.name()))?;
        out.line(format!("  kubectl rollout status deployment/{name} -n {}", cluster.namespace))?;
    }
    Ok(Done::Fine)
}
