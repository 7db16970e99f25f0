//! Autoscaling, by the requests that a reconciliation makes.

use serde_json::{Value, json};

use super::Trial;

const GATEWAY: &str = "deployments/shop-gateway";

#[tokio::test]
async fn what_an_autoscaler_said_about_replicas_stays_and_is_not_said_again() {
    let trial =
        Trial::running("{services: {gateway: {autoscaling: {minReplicas: 2, maxReplicas: 5}}}}").await;
    assert_eq!(trial.server.get(GATEWAY).unwrap()["spec"]["replicas"], 2, "it begins with the fewest");

    trial.server.edit(GATEWAY, |gateway| {
        gateway["spec"]["replicas"] = json!(4);
        let fields = json!({"f:spec": {"f:replicas": {}}});
        gateway["metadata"]["managedFields"] =
            json!([{"manager": "kube-controller-manager", "subresource": "scale", "fieldsV1": fields}]);
    });
    trial.server.run("deployments");
    trial.reconcile().await.unwrap();
    assert_eq!(trial.server.writes(), ["PATCH ordershops/shop/status"], "four pods are wanted now");
    assert_eq!(trial.condition("Ready").0, "True");

    trial.edit_spec(|spec| spec["services"]["gateway"]["image"] = json!("other:1"));
    trial.reconcile().await.unwrap();
    assert_eq!(trial.server.writes()[0], format!("PATCH {GATEWAY}"));
    assert_eq!(trial.server.get(GATEWAY).unwrap()["spec"]["replicas"], Value::Null, "left to its owner");
}

#[tokio::test]
async fn autoscalers_and_budgets_come_and_go_with_the_spec() {
    let trial = Trial::running("{}").await;
    trial.edit_spec(|spec| spec["services"]["crm"]["autoscaling"] = json!({"maxReplicas": 3}));
    trial.reconcile().await.unwrap();
    let writes = trial.server.writes();
    let expected = [
        "PATCH poddisruptionbudgets/shop-crm",
        "PATCH triggerauthentications/shop-lag",
        "PATCH scaledobjects/shop-crm",
    ];
    assert_eq!(writes[..3], expected);
    assert_eq!(writes[3..], ["PATCH ordershops/shop/status"], "its pods stay as they are");

    trial.edit_spec(|spec| spec["services"]["crm"]["autoscaling"] = Value::Null);
    trial.reconcile().await.unwrap();
    let writes = trial.server.writes();
    let expected = expected.map(|write| write.replace("PATCH", "DELETE"));
    assert_eq!(writes[..3], expected);
}

#[tokio::test]
async fn a_cluster_without_keda_degrades_only_the_shop_that_asks_for_it() {
    let trial = Trial::running("{}").await;
    trial.server.does_not_know("scaledobjects");
    trial.server.does_not_know("triggerauthentications");
    trial.reconcile().await.unwrap();
    assert_eq!(trial.server.writes(), Vec::<String>::new());

    trial.edit_spec(|spec| spec["services"]["crm"]["autoscaling"] = json!({"maxReplicas": 3}));
    let error = trial.reconcile().await.unwrap_err();
    assert_eq!(error.reason(), "KindNotInstalled");
    assert!(error.to_string().contains("install KEDA"), "{error}");
    assert_eq!(trial.condition("Degraded"), ("True".to_owned(), "KindNotInstalled".to_owned()));

    trial.edit_spec(|spec| spec["services"]["crm"]["autoscaling"] = Value::Null);
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("Degraded").0, "False");
}
