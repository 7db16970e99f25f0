//! The Secrets and ConfigMaps that a spec names: when they are read, and what their absence and their change do.

use serde_json::json;

use super::{Trial, sorted};

#[tokio::test]
async fn a_missing_mail_secret_degrades_the_shop_until_it_is_there() {
    let trial = Trial::running("{}").await;
    trial.edit_spec(|spec| spec["mail"] = json!({"smtpSecret": {"name": "smtp", "key": "url"}}));
    trial.reconcile().await.unwrap();
    assert!(trial.server.requests().contains(&"GET secrets/smtp".to_owned()));
    assert_eq!(trial.condition("Degraded").1, "SecretNotFound");

    trial.server.put("secrets/smtp", json!({"metadata": {"name": "smtp"}, "data": {"url": "c210cDovL3g="}}));
    trial.reconcile().await.unwrap();
    trial.server.run("deployments");
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("Ready").0, "True");
}

#[tokio::test]
async fn a_secret_that_several_services_use_is_read_once_and_its_change_rolls_them() {
    let used = json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "a"}}}]);
    let trial = Trial::new("{}");
    trial
        .server
        .put("secrets/keys", json!({"metadata": {"name": "keys"}, "data": {"a": "MQ==", "b": "MQ=="}}));
    trial.edit_spec(|spec| spec["services"] = json!({"crm": {"env": used}, "billing": {"env": used}}));
    for kind in ["statefulsets", "deployments", "deployments"] {
        trial.reconcile().await.unwrap();
        trial.server.run(kind);
    }
    trial.reconcile().await.unwrap();
    trial.server.requests();

    trial.reconcile().await.unwrap();
    let requests = trial.server.requests();
    assert_eq!(requests.iter().filter(|request| *request == "GET secrets/keys").count(), 1, "{requests:?}");
    assert!(requests.iter().all(|request| request.starts_with("GET")), "{requests:?}");

    trial.server.edit("secrets/keys", |secret| secret["data"]["b"] = json!("Mg=="));
    trial.reconcile().await.unwrap();
    assert_eq!(trial.server.writes(), Vec::<String>::new(), "nobody reads this key");

    trial.server.edit("secrets/keys", |secret| secret["data"]["a"] = json!("Mg=="));
    trial.reconcile().await.unwrap();
    let mut writes = trial.server.writes();
    writes.retain(|write| write.starts_with("PATCH deployments/"));
    assert_eq!(sorted(writes), ["PATCH deployments/shop-billing", "PATCH deployments/shop-crm"]);
}
