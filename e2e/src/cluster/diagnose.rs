//! What explains a failure: the resource, the pods, the events and the end of every log. Never fails itself.

use super::{OPERATOR_NAMESPACE, order_shops};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ListParams, LogParams};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

const LOG_LINES: i64 = 15;
const OPERATOR_LOG_LINES: i64 = 40;

/// Prints all of it to stderr.
pub(super) async fn print(client: &Client, namespace: &str) {
    eprintln!("\n---- what is in namespace {namespace}");
    match order_shops(client, namespace).list(&ListParams::default()).await {
        Ok(shops) => shops.iter().for_each(|shop| {
            eprintln!("OrderShop {}: {:#}", shop.name_any(), shop.data.get("status").unwrap_or(&Value::Null));
        }),
        Err(error) => eprintln!("OrderShops: {error}"),
    }
    print_events(client, namespace).await;
    print_pods(client, namespace, LOG_LINES).await;
    eprintln!("---- the operator");
    print_pods(client, OPERATOR_NAMESPACE, OPERATOR_LOG_LINES).await;
    eprintln!("----");
}

async fn print_events(client: &Client, namespace: &str) {
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    match events.list(&ListParams::default()).await {
        Ok(events) => {
            for event in events {
                let text = |text: Option<String>| text.unwrap_or_default();
                eprintln!(
                    "event {} {}/{} {}: {}",
                    text(event.type_),
                    text(event.involved_object.kind),
                    text(event.involved_object.name),
                    text(event.reason),
                    text(event.message)
                );
            }
        }
        Err(error) => eprintln!("events: {error}"),
    }
}

async fn print_pods(client: &Client, namespace: &str, lines: i64) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let listed = match pods.list(&ListParams::default()).await {
        Ok(listed) => listed,
        Err(error) => return eprintln!("pods: {error}"),
    };
    for pod in listed {
        let name = pod.name_any();
        let status = pod.status.unwrap_or_default();
        eprintln!("pod {name}: {}", status.phase.unwrap_or_default());
        for container in status.container_statuses.unwrap_or_default() {
            eprintln!(
                "  {} ready={} restarts={} now {:?} before {:?}",
                container.name,
                container.ready,
                container.restart_count,
                container.state,
                container.last_state
            );
        }
        let how = LogParams { tail_lines: Some(lines), ..LogParams::default() };
        match pods.logs(&name, &how).await {
            Ok(log) => log.lines().for_each(|line| eprintln!("  | {line}")),
            Err(error) => eprintln!("  no log: {error}"),
        }
    }
}
