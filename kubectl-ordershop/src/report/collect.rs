//! Asking Kubernetes for what goes into a report. What it refuses is a problem of the report and no end of it; a kind
//! that it does not know is none.

use super::archive::Bundle;
use super::redact::Redaction;
use crate::cluster::{Cluster, Shop};
use crate::failure::Failure;
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::api::{ApiResource, DynamicObject, ListParams, LogParams};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt};
use ordershop_operator::controller::labels;
use serde_json::json;

/// At most so much of one container's log.
const LOG_BYTES: i64 = 1 << 20;

/// What the operator makes for a shop, and what belongs to it: group, version, kind. No Secrets.
const KINDS: [(&str, &str, &str); 12] = [
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "StatefulSet"),
    ("apps", "v1", "ReplicaSet"),
    ("", "v1", "Service"),
    ("", "v1", "ConfigMap"),
    ("", "v1", "ServiceAccount"),
    ("", "v1", "PersistentVolumeClaim"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler"),
    ("policy", "v1", "PodDisruptionBudget"),
    ("networking.k8s.io", "v1", "Ingress"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
    ("keda.sh", "v1alpha1", "ScaledObject"),
];

/// An empty report that knows what to hide, and the names of the Secrets without a value.
pub(super) async fn secrets(cluster: &Cluster, shop: &Shop) -> Bundle {
    let all = cluster.objects::<Secret>().list(&ListParams::default()).await;
    let secrets = match all {
        Ok(all) => all.items,
        Err(e) => {
            let mut bundle = Bundle::new(Redaction::of(&[]));
            bundle.problem(&Failure::of_cluster("the Secrets", &e).to_string());
            return bundle;
        }
    };
    let mut bundle = Bundle::new(Redaction::of(&secrets));
    let spec = shop.object.data.to_string();
    let is_ours = |secret: &&Secret| {
        labels::are_managed_for(secret.labels(), &shop.name())
            || spec.contains(&format!("\"{}\"", secret.name_any()))
    };
    let outline = |secret: &Secret| {
        let lengths: serde_json::Map<_, _> =
            secret.data.iter().flatten().map(|(key, value)| (key.clone(), json!(value.0.len()))).collect();
        json!({"name": secret.name_any(), "type": secret.type_, "bytes": lengths})
    };
    let ours: Vec<_> = secrets.iter().filter(is_ours).map(outline).collect();
    bundle.json("secrets.json", &json!(ours));
    bundle
}

/// The shop's objects.
pub(super) async fn children(cluster: &Cluster, shop: &Shop, bundle: &mut Bundle) {
    let labelled = ListParams::default().labels(&format!("app.kubernetes.io/instance={}", shop.name()));
    for (group, version, kind) in KINDS {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api: Api<DynamicObject> =
            Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource);
        match api.list(&labelled).await {
            Ok(found) => {
                for object in found {
                    bundle.object(
                        format!("children/{}-{}.yaml", kind.to_lowercase(), object.name_any()),
                        &object,
                    );
                }
            }
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(e) => bundle.problem(&Failure::of_cluster(&format!("kind {kind}"), &e).to_string()),
        }
    }
}

/// Pods and the ends of their logs, those of a container's last end too.
pub(super) async fn pods(cluster: &Cluster, labels: &str, folder: &str, lines: i64, bundle: &mut Bundle) {
    let api = cluster.objects::<Pod>();
    let pods = match api.list(&ListParams::default().labels(labels)).await {
        Ok(pods) => pods.items,
        Err(e) => return bundle.problem(&Failure::of_cluster(&format!("{folder}pods"), &e).to_string()),
    };
    for pod in &pods {
        let name = pod.name_any();
        bundle.object(format!("{folder}pods/{name}.yaml"), pod);
        for (container, ended) in containers(pod) {
            for previous in [false, true].into_iter().filter(|previous| ended || !previous) {
                let which = if previous { "-previous" } else { "" };
                let path = format!("{folder}logs/{name}-{container}{which}.log");
                let how = LogParams {
                    container: Some(container.clone()),
                    limit_bytes: Some(LOG_BYTES),
                    tail_lines: Some(lines),
                    previous,
                    ..LogParams::default()
                };
                match api.logs(&name, &how).await {
                    Ok(log) => bundle.text(path, &log),
                    Err(e) => bundle.problem(&Failure::of_cluster(&path, &e).to_string()),
                }
            }
        }
    }
}

/// The containers of a pod, and whether each has ended before.
fn containers(pod: &Pod) -> Vec<(String, bool)> {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let restarted: Vec<_> =
        statuses.filter(|status| status.restart_count > 0).map(|status| status.name.as_str()).collect();
    let spec = pod.spec.iter().flat_map(|spec| &spec.containers);
    spec.map(|container| (container.name.clone(), restarted.contains(&container.name.as_str()))).collect()
}

/// Kubernetes' events of the namespace, the oldest first, a line each.
pub(super) async fn events(cluster: &Cluster, folder: &str, bundle: &mut Bundle) {
    let path = format!("{folder}events.txt");
    match cluster.objects::<Event>().list(&ListParams::default()).await {
        Ok(events) => {
            let mut lines: Vec<String> = events.items.iter().map(line).collect();
            lines.sort();
            bundle.text(path, &(lines.join("\n") + "\n"));
        }
        Err(e) => bundle.problem(&Failure::of_cluster(&path, &e).to_string()),
    }
}

fn line(event: &Event) -> String {
    let last = event.last_timestamp.as_ref().map(|time| time.0.to_string());
    let first = || event.event_time.as_ref().map(|time| time.0.to_string());
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let about = &event.involved_object;
    format!(
        "{} {} {}/{} {} (x{}): {}",
        last.or_else(first).unwrap_or_else(|| "at an unknown time".to_owned()),
        text(&event.type_),
        text(&about.kind),
        text(&about.name),
        text(&event.reason),
        event.count.unwrap_or(1),
        text(&event.message),
    )
}

/// The versions of the cluster and of this program.
pub(super) async fn version(cluster: &Cluster, bundle: &mut Bundle) {
    match cluster.client.apiserver_version().await {
        Ok(version) => {
            let version = json!({"cluster": version.git_version, "plugin": env!("CARGO_PKG_VERSION")});
            bundle.json("version.json", &version);
        }
        Err(e) => bundle.problem(&Failure::of_cluster("the cluster's version", &e).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_has_ended_before_has_two_logs() {
        let pod: Pod = serde_json::from_value(json!({
            "spec": {"containers": [{"name": "a"}, {"name": "b"}]},
            "status": {"containerStatuses": [
                {"name": "a", "restartCount": 0, "ready": true, "image": "", "imageID": ""},
                {"name": "b", "restartCount": 2, "ready": true, "image": "", "imageID": ""}]},
        }))
        .unwrap();
        assert_eq!(containers(&pod), [("a".to_owned(), false), ("b".to_owned(), true)]);
    }

    #[test]
    fn an_event_is_a_line() {
        let event: Event = serde_json::from_value(json!({
            "metadata": {"name": "e"}, "type": "Warning", "reason": "BackOff", "count": 3, "message": "crm: no",
            "involvedObject": {"kind": "Pod", "name": "shop-crm-1"}, "lastTimestamp": "2026-11-23T01:00:00Z",
        }))
        .unwrap();
        assert_eq!(line(&event), "2026-11-23T01:00:00Z Warning Pod/shop-crm-1 BackOff (x3): crm: no");
    }
}
