//! What the chart renders: by default, with each switch, and with values that are wrong. Nothing is installed.

use anyhow::{Context, Result, ensure};
use e2e::cluster::{OPERATOR_NAMESPACE, RELEASE, Rendered, client, package};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Everything that the chart has without being asked.
const DEFAULT: [&str; 9] = [
    "ClusterRole ordershop-operator",
    "ClusterRoleBinding ordershop-operator",
    "CustomResourceDefinition ordershops.ordershop.dev",
    "Deployment ordershop-operator",
    "Pod ordershop-operator-check",
    "PodDisruptionBudget ordershop-operator",
    "Role ordershop-operator-lease",
    "RoleBinding ordershop-operator-lease",
    "ServiceAccount ordershop-operator",
];
const OPERATOR: &str = "Deployment ordershop-operator";

async fn rendered(values: &Value) -> Result<Rendered> {
    Rendered::chart(RELEASE, OPERATOR_NAMESPACE, values).await
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn by_default_two_operators_stand_on_different_nodes_and_one_stays_while_they_are_drained() -> Result<()>
{
    let chart = rendered(&json!({})).await?;
    assert_eq!(chart.names(), set(&DEFAULT));
    let spec = &chart.get(OPERATOR)?["spec"];
    let labels = &spec["selector"]["matchLabels"];
    assert_eq!(spec["replicas"], 2);
    let spread = &spec["template"]["spec"]["topologySpreadConstraints"][0];
    assert_eq!(spread["topologyKey"], "kubernetes.io/hostname");
    assert_eq!(&spread["labelSelector"]["matchLabels"], labels);
    let budget = &chart.get("PodDisruptionBudget ordershop-operator")?["spec"];
    assert_eq!(budget["maxUnavailable"], 1);
    assert_eq!(&budget["selector"]["matchLabels"], labels);
    for pod in [&spec["template"]["spec"], &chart.get("Pod ordershop-operator-check")?["spec"]] {
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let container = &pod["containers"][0];
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
        assert_eq!(container["image"], "localhost/ordershop/ordershop-operator:0.1.0");
    }
    Ok(())
}

#[tokio::test]
async fn each_switch_adds_or_removes_what_it_says_and_nothing_else() -> Result<()> {
    let operator = |kind: &str| format!("{kind} {RELEASE}");
    let shops = |kind: &str| format!("{kind} {RELEASE}-shops");
    for (values, removed, added) in [
        (
            json!({"crd": {"install": false}}),
            vec!["CustomResourceDefinition ordershops.ordershop.dev".into()],
            vec![],
        ),
        (json!({"replicas": 1}), vec![operator("PodDisruptionBudget")], vec![]),
        (json!({"podDisruptionBudget": {"enabled": false}}), vec![operator("PodDisruptionBudget")], vec![]),
        (json!({"metrics": {"service": true}}), vec![], vec![operator("Service")]),
        (json!({"networkPolicy": {"enabled": true}}), vec![], vec![operator("NetworkPolicy")]),
        (
            json!({"monitoring": {"podMonitor": {"enabled": true}}}),
            vec![],
            vec![operator("PodMonitor"), shops("PodMonitor")],
        ),
        (
            json!({"monitoring": {"serviceMonitor": {"enabled": true}}}),
            vec![],
            vec![operator("Service"), operator("ServiceMonitor")],
        ),
        (
            json!({"monitoring": {"podMonitor": {"enabled": true}, "serviceMonitor": {"enabled": true}}}),
            vec![],
            vec![shops("PodMonitor"), operator("Service"), operator("ServiceMonitor")],
        ),
        (json!({"monitoring": {"rules": {"enabled": true}}}), vec![], vec![operator("PrometheusRule")]),
        (
            json!({"monitoring": {"dashboard": {"enabled": true}}}),
            vec![],
            vec!["ConfigMap ordershop-operator-dashboard".into()],
        ),
        (
            json!({"watchNamespaces": ["a", "b"]}),
            vec![operator("ClusterRole"), operator("ClusterRoleBinding")],
            vec![shops("Role"), shops("RoleBinding")],
        ),
    ] {
        let names = rendered(&values).await?.names();
        let default = set(&DEFAULT);
        let difference = |left: &BTreeSet<String>, right| left.difference(right).cloned().collect::<Vec<_>>();
        assert_eq!(difference(&default, &names), removed, "removed by {values}");
        assert_eq!(difference(&names, &default), added, "added by {values}");
    }
    Ok(())
}

#[tokio::test]
async fn what_a_value_says_reaches_its_place() -> Result<()> {
    let toleration = json!([{"key": "edge", "operator": "Exists"}]);
    let affinity = json!({"nodeAffinity": {}});
    let spread = json!([{"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]);
    let chart = rendered(&json!({
        "image": {"repository": "r/o", "tag": "7", "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "pull"}],
        "operands": {"registry": "r", "version": "8", "redisImage": "valkey:8"},
        "replicas": 3,
        "log": "debug",
        "telemetry": {"otlpEndpoint": "http://otel:4318"},
        "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}},
        "serviceAccount": {"annotations": {"a": "b"}},
        "podAnnotations": {"c": "d"},
        "podLabels": {"e": "f"},
        "nodeSelector": {"g": "h"},
        "tolerations": toleration,
        "affinity": affinity,
        "topologySpreadConstraints": spread,
        "priorityClassName": "high",
    }))
    .await?;
    let deployment = chart.get(OPERATOR)?;
    let template = &deployment["spec"]["template"];
    let container = &template["spec"]["containers"][0];
    let env = |name: &str| {
        let variables = container["env"].as_array().into_iter().flatten();
        variables.into_iter().find(|variable| variable["name"] == name).map(|found| found["value"].clone())
    };
    assert_eq!(deployment["spec"]["replicas"], 3);
    assert_eq!(container["image"], "r/o:7");
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(container["resources"]["requests"]["cpu"], "1");
    assert_eq!(container["resources"]["limits"]["memory"], "1Gi");
    assert_eq!(env("ORDERSHOP_DEFAULT_REGISTRY"), Some(json!("r")));
    assert_eq!(env("ORDERSHOP_DEFAULT_VERSION"), Some(json!("8")));
    assert_eq!(env("ORDERSHOP_DEFAULT_REDIS_IMAGE"), Some(json!("valkey:8")));
    assert_eq!(env("ORDERSHOP_LOG"), Some(json!("debug")));
    assert_eq!(env("OTEL_EXPORTER_OTLP_ENDPOINT"), Some(json!("http://otel:4318")));
    assert_eq!(env("ORDERSHOP_WATCH_NAMESPACE"), None);
    assert_eq!(template["metadata"]["annotations"]["c"], "d");
    assert_eq!(template["metadata"]["labels"]["e"], "f");
    assert_eq!(template["spec"]["imagePullSecrets"][0]["name"], "pull");
    assert_eq!(template["spec"]["nodeSelector"]["g"], "h");
    assert_eq!(template["spec"]["tolerations"], toleration);
    assert_eq!(template["spec"]["affinity"], affinity);
    assert_eq!(template["spec"]["topologySpreadConstraints"], spread);
    assert_eq!(template["spec"]["priorityClassName"], "high");
    let account = chart.get("ServiceAccount ordershop-operator")?;
    assert_eq!(account["metadata"]["annotations"]["a"], "b");
    Ok(())
}

#[tokio::test]
async fn watched_namespaces_get_a_role_each_and_hold_the_lease_and_the_cluster_gets_none() -> Result<()> {
    let everywhere = rendered(&json!({})).await?;
    let chart = rendered(&json!({"watchNamespaces": ["b", "a"]})).await?;
    let rules = &everywhere.get("ClusterRole ordershop-operator")?["rules"];
    let of = |kind: &str| {
        let objects = chart.0.iter().filter(|object| object["kind"] == kind);
        objects.filter(|object| object["metadata"]["name"] == "ordershop-operator-shops").collect::<Vec<_>>()
    };
    let namespaces = |objects: &[&Value]| {
        objects.iter().map(|object| object["metadata"]["namespace"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(namespaces(&of("Role")), ["b", "a"]);
    assert_eq!(namespaces(&of("RoleBinding")), ["b", "a"]);
    // Two releases for the same namespaces exclude each other by a Lease in the first of them.
    assert_eq!(chart.get("Role ordershop-operator-lease")?["metadata"]["namespace"], "a");
    assert!(of("Role").iter().all(|role| &role["rules"] == rules), "the same rules in both modes");
    for binding in of("RoleBinding") {
        assert_eq!(binding["subjects"][0]["namespace"], OPERATOR_NAMESPACE);
    }
    for pod in [&chart.get(OPERATOR)?["spec"]["template"], chart.get("Pod ordershop-operator-check")?] {
        let env = pod["spec"]["containers"][0]["env"].as_array().context("no environment")?;
        for (name, value) in [("ORDERSHOP_WATCH_NAMESPACE", "b,a"), ("ORDERSHOP_LEASE_NAMESPACE", "a")] {
            ensure!(env.contains(&json!({"name": name, "value": value})), "{env:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_single_alert_can_be_changed_or_left_out_and_the_others_stay() -> Result<()> {
    let alerts = async |overrides: Value| -> Result<Vec<Value>> {
        let values = json!({"monitoring": {"rules": {"enabled": true, "overrides": overrides}}});
        let chart = rendered(&values).await?;
        let groups = &chart.get("PrometheusRule ordershop-operator")?["spec"]["groups"];
        let rules = groups.as_array().into_iter().flatten().filter_map(|group| group["rules"].as_array());
        Ok(rules.flatten().cloned().collect())
    };
    let all = alerts(json!({})).await?;
    let changed = json!({"expr": "up == 0", "for": "1h", "severity": "info"});
    let some =
        alerts(json!({"OrderShopDeadLetters": changed, "OrderShopNotReady": {"enabled": false}})).await?;
    let mut expected = all;
    expected.retain(|alert| alert["alert"] != "OrderShopNotReady");
    let dead = expected.iter_mut().find(|alert| alert["alert"] == "OrderShopDeadLetters").context("none")?;
    dead["expr"] = json!("up == 0");
    dead["for"] = json!("1h");
    dead["labels"]["severity"] = json!("info");
    assert_eq!(some, expected);
    Ok(())
}

#[tokio::test]
async fn a_value_that_is_misspelt_or_of_another_kind_is_refused_by_its_name() -> Result<()> {
    for (values, said) in [
        (json!({"replica": 1}), "'replica' not allowed"),
        (json!({"image": {"tags": "1"}}), "'tags' not allowed"),
        (json!({"replicas": "two"}), "/replicas': got string, want integer"),
        (json!({"replicas": 99}), "/replicas': maximum"),
        (json!({"image": {"pullPolicy": "Sometimes"}}), "/image/pullPolicy'"),
        (json!({"watchNamespaces": ["Shop"]}), "/watchNamespaces/0'"),
        (json!({"resources": {"limits": {"memory": "much"}}}), "/resources/limits/memory'"),
        (json!({"operands": {"version": "a b"}}), "/operands/version'"),
        (
            json!({"monitoring": {"rules": {"overrides": {"OrderShopDown": {}}}}}),
            "invalid propertyName 'OrderShopDown'",
        ),
        (json!({"tolerations": [{"keys": "x"}]}), "'keys' not allowed"),
    ] {
        let Err(error) = rendered(&values).await else { anyhow::bail!("{values} was accepted") };
        let error = format!("{error:#}");
        ensure!(error.contains("values don't meet") && error.contains(said), "{values}: {error}");
    }
    Ok(())
}

#[tokio::test]
async fn whatever_is_rendered_is_accepted_by_the_api_server() -> Result<()> {
    let client = client().await?;
    for values in [
        json!({"networkPolicy": {"enabled": true}, "monitoring": {"dashboard": {"enabled": true}}}),
        json!({"metrics": {"service": true}, "podLabels": {"a": "b"}, "priorityClassName": "system-cluster-critical"}),
        json!({"watchNamespaces": ["default", "kube-public"], "crd": {"install": false}}),
    ] {
        rendered(&values).await?.accepted(&client).await.with_context(|| values.to_string())?;
    }
    Ok(())
}

#[tokio::test]
async fn the_chart_is_packaged_as_a_registry_takes_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let said = package(folder.path()).await?;
    let archive = folder.path().join("ordershop-operator-0.1.0.tgz");
    ensure!(archive.is_file(), "{said}");
    Ok(())
}
