//! What the kustomizations give: the same as the chart, and what the API server accepts. Nothing is applied.

use anyhow::{Context, Result, ensure};
use e2e::cluster::{OPERATOR_NAMESPACE, RELEASE, Rendered, client};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const PROMETHEUS: &str = "monitoring.coreos.com/v1";

/// Labels that tell releases of the chart apart.
const OF_HELM: [&str; 4] = [
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "helm.sh/chart",
];

/// The objects by kind and name, without what is Helm's or Kustomize's own.
fn comparable(rendered: Rendered) -> Result<BTreeMap<String, Value>> {
    let mut objects = BTreeMap::new();
    let config: Option<Value> = rendered.0.iter().find(|object| is_configuration(object)).cloned();
    for mut object in rendered.0 {
        let helms = object["metadata"]["annotations"]["helm.sh/hook"].is_string();
        if object["kind"] == "Namespace" || is_configuration(&object) || helms {
            continue;
        }
        without_helm(&mut object);
        if object["kind"] == "Deployment" {
            environment_in_one_list(&mut object, config.as_ref().map(|config| &config["data"]))?;
        }
        let name = format!("{} {}", object["kind"], object["metadata"]["name"]);
        objects.insert(name, object);
    }
    Ok(objects)
}

/// The `ConfigMap` in which the kustomizations have what stands in the chart's Deployment.
fn is_configuration(object: &Value) -> bool {
    object["kind"] == "ConfigMap" && object["data"]["ORDERSHOP_LOG"].is_string()
}

fn without_helm(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for key in OF_HELM {
                fields.remove(key);
            }
            let annotations = fields.get_mut("annotations").and_then(Value::as_object_mut);
            if annotations.is_some_and(|annotations| {
                annotations.remove("helm.sh/resource-policy");
                annotations.is_empty()
            }) {
                fields.remove("annotations");
            }
            fields.values_mut().for_each(without_helm);
            // Labels that Helm alone has set leave nothing.
            fields.retain(|name, value| name != "labels" || *value != json!({}));
        }
        Value::Array(items) => items.iter_mut().for_each(without_helm),
        _ => {}
    }
}

/// All variables of the container, however they are given, by their name.
fn environment_in_one_list(deployment: &mut Value, config: Option<&Value>) -> Result<()> {
    let container = deployment.pointer_mut("/spec/template/spec/containers/0");
    let container = container.and_then(Value::as_object_mut).context("no container")?;
    let mut variables = Map::new();
    for variable in container.get("env").and_then(Value::as_array).into_iter().flatten() {
        let name = variable["name"].as_str().unwrap_or_default();
        variables.insert(name.to_owned(), variable.clone());
    }
    if container.remove("envFrom").is_some() {
        for (name, value) in config.and_then(Value::as_object).context("no configuration")? {
            variables.insert(name.clone(), json!({"name": name, "value": value}));
        }
    }
    container.insert("env".to_owned(), variables.into());
    Ok(())
}

/// The labels of the kustomizations' own objects are fewer: what counts is what an object does.
fn without_labels(mut objects: BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    for object in objects.values_mut() {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("labels");
        }
    }
    objects
}

async fn same(values: &Value, folder: &str, only: impl Fn(&Value) -> bool) -> Result<()> {
    let mut chart = Rendered::chart(RELEASE, OPERATOR_NAMESPACE, values).await?;
    chart.0.retain(&only);
    let mut kustomization = Rendered::kustomization(folder).await?;
    kustomization.0.retain(&only);
    let chart = without_labels(comparable(chart)?);
    let kustomization = without_labels(comparable(kustomization)?);
    assert_eq!(
        chart.keys().collect::<Vec<_>>(),
        kustomization.keys().collect::<Vec<_>>(),
        "{folder} has other objects than the chart"
    );
    for (name, object) in &chart {
        assert_eq!(object, &kustomization[name], "{name} of {folder}");
    }
    Ok(())
}

/// What neither the chart nor its kustomizations give: the sample shop.
fn of_the_operator(object: &Value) -> bool {
    object["kind"] != "OrderShop"
}

#[tokio::test]
async fn the_base_is_what_the_chart_installs_by_default() -> Result<()> {
    same(&json!({}), "base", of_the_operator).await
}

#[tokio::test]
async fn the_namespaced_overlay_is_the_chart_with_one_watched_namespace() -> Result<()> {
    same(&json!({"watchNamespaces": ["shops"]}), "overlays/namespaced", of_the_operator).await
}

#[tokio::test]
async fn the_complete_overlay_is_the_chart_with_everything_on() -> Result<()> {
    let values = json!({
        "networkPolicy": {"enabled": true},
        "monitoring": {
            "podMonitor": {"enabled": true}, "rules": {"enabled": true}, "dashboard": {"enabled": true},
        },
    });
    same(&values, "overlays/complete", of_the_operator).await
}

#[tokio::test]
async fn every_kustomization_is_accepted_by_the_api_server() -> Result<()> {
    let client = client().await?;
    for folder in ["base", "overlays/local", "overlays/namespaced", "overlays/complete"] {
        let mut rendered = Rendered::kustomization(folder).await?;
        // No cluster of tests has the kinds of the Prometheus operator.
        rendered.0.retain(|object| object["apiVersion"] != PROMETHEUS);
        ensure!(!rendered.0.is_empty(), "{folder} is empty");
        rendered.accepted(&client).await.with_context(|| folder.to_owned())?;
    }
    Ok(())
}

#[tokio::test]
async fn monitors_find_the_pods_and_their_ports() -> Result<()> {
    let chart = Rendered::kustomization("overlays/complete").await?;
    let template = &chart.get("Deployment ordershop-operator")?["spec"]["template"];
    let monitor = &chart.get("PodMonitor ordershop-operator")?["spec"];
    for (name, value) in monitor["selector"]["matchLabels"].as_object().context("no selector")? {
        assert_eq!(&template["metadata"]["labels"][name], value, "{name}");
    }
    assert_eq!(
        monitor["podMetricsEndpoints"][0]["port"],
        template["spec"]["containers"][0]["ports"][0]["name"]
    );

    let shops = &chart.get("PodMonitor ordershop-operator-shops")?["spec"];
    assert_eq!(shops["namespaceSelector"]["any"], true);
    assert_eq!(shops["selector"]["matchLabels"]["app.kubernetes.io/name"], "ordershop");

    let rules = &chart.get("PrometheusRule ordershop-operator")?["spec"]["groups"];
    let rules: Vec<&Value> = rules
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|group| group["rules"].as_array())
        .flatten()
        .collect();
    ensure!(rules.len() >= 8 && rules.iter().all(|rule| rule["expr"].is_string()), "{rules:#?}");

    let dashboard = &chart.get("ConfigMap ordershop-operator-dashboard")?["data"]["ordershop.json"];
    let dashboard: Value = serde_json::from_str(dashboard.as_str().context("no dashboard")?)?;
    ensure!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 10), "{dashboard:#}");
    Ok(())
}
