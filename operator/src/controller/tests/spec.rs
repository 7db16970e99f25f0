//! What a change of the spec writes: sleeping and waking, a volume that grows, an Ingress that comes and goes.

use serde_json::{Value, json};

use super::{SHOP, Trial};
use crate::controller::labels;

const CLAIM: &str = "persistentvolumeclaims/data-shop-redis-0";

impl Trial {
    /// The objects of one kind that the next reconciliation writes.
    async fn written(&self, kind: &str) -> Vec<String> {
        self.reconcile().await.unwrap();
        let mut writes = self.server.writes();
        writes.retain(|write| write.starts_with(&format!("PATCH {kind}/")));
        writes
    }

    fn message(&self, type_: &str) -> String {
        let conditions = self.server.get(SHOP).unwrap()["status"]["conditions"].clone();
        let conditions = conditions.as_array().unwrap().clone();
        let found = conditions.into_iter().find(|condition| condition["type"] == type_).unwrap();
        found["message"].as_str().unwrap().to_owned()
    }

    /// A pod that its Deployment counts no more.
    fn pod(&self, name: &str, phase: &str) {
        let component = name.split('-').nth(1).unwrap();
        self.server.put(
            &format!("pods/{name}"),
            json!({
                "metadata": {"name": name, "labels": labels::labels("shop", component)},
                "spec": {"containers": []},
                "status": {"phase": phase},
            }),
        );
    }

    fn replicas(&self, path: &str) -> Value {
        self.server.get(path).unwrap()["spec"]["replicas"].clone()
    }

    /// The volume has what its claim asks for.
    fn bind_volume(&self) {
        self.server.edit(CLAIM, |claim| {
            claim["status"]["capacity"] = claim["spec"]["resources"]["requests"].clone();
        });
    }
}

#[tokio::test]
async fn a_hibernated_shop_stops_its_services_before_redis_and_wakes_redis_first() {
    let trial = Trial::running("{ services: { crm: { replicas: 2 } } }").await;
    trial.edit_spec(|spec| spec["hibernated"] = json!(true));
    assert_eq!(trial.written("deployments").await.len(), 9);
    assert_eq!(trial.replicas("statefulsets/shop-redis"), 1, "services may still be at work");
    assert_eq!(trial.condition("Progressing"), ("True".to_owned(), "Hibernating".to_owned()));
    assert_eq!(trial.condition("Hibernated").0, "False");

    trial.server.run("deployments");
    trial.pod("shop-crm-1", "Running");
    trial.pod("shop-order-1", "Failed");
    assert_eq!(trial.written("statefulsets").await, Vec::<String>::new(), "a pod of crm is ending still");
    assert_eq!(trial.message("Progressing"), "redis: 1 to stop; redis: waits for crm to stop");
    trial.server.remove("pods/shop-crm-1");
    assert_eq!(trial.written("statefulsets").await, ["PATCH statefulsets/shop-redis"]);
    trial.server.run("statefulsets");
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("Hibernated"), ("True".to_owned(), "Hibernated".to_owned()));
    for (type_, reason) in
        [("Ready", "Hibernated"), ("Available", "Hibernated"), ("RedisReady", "Hibernated")]
    {
        assert_eq!(trial.condition(type_), ("False".to_owned(), reason.to_owned()), "{type_}");
    }
    assert_eq!(trial.condition("Degraded").0, "False");
    trial.server.requests();
    trial.reconcile().await.unwrap();
    assert_eq!(trial.server.writes(), Vec::<String>::new());
    assert!(trial.server.get(CLAIM).is_some(), "the data is kept");

    trial.edit_spec(|spec| spec["hibernated"] = json!(false));
    assert_eq!(trial.written("deployments").await, Vec::<String>::new(), "Redis comes first");
    assert_eq!(trial.replicas("statefulsets/shop-redis"), 1);
    trial.server.run("statefulsets");
    assert_eq!(trial.written("deployments").await.len(), 9);
    assert_eq!(trial.replicas("deployments/shop-crm"), 2, "as many as before");
    trial.server.run("deployments");
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("Ready").0, "True");
    assert_eq!(trial.condition("Hibernated").0, "False");
}

#[tokio::test]
async fn a_larger_volume_is_asked_for_without_touching_redis() {
    let trial = Trial::running("{}").await;
    trial.bind_volume();
    trial.edit_spec(|spec| spec["redis"]["storage"]["size"] = json!("3Gi"));
    trial.reconcile().await.unwrap();
    let size = &trial.server.get(CLAIM).unwrap()["spec"]["resources"]["requests"]["storage"];
    assert_eq!(size, "3Gi");
    let redis = trial.server.get("statefulsets/shop-redis").unwrap();
    let template = &redis["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"];
    assert_eq!(template, "1Gi", "Kubernetes lets nobody change it");
    trial.server.run("statefulsets");
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("RedisReady").0, "True");
    assert_eq!(trial.message("RedisReady"), "redis: the volume grows from 1Gi to 3Gi");
    trial.bind_volume();
    trial.reconcile().await.unwrap();
    assert_eq!(trial.message("RedisReady"), "");
    trial.server.requests();
    trial.reconcile().await.unwrap();
    assert_eq!(trial.server.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_volume_whose_class_cannot_grow_it_says_so_and_the_shop_runs_on() {
    let trial = Trial::running("{}").await;
    trial.bind_volume();
    trial.server.forbid(
        CLAIM,
        "persistentvolumeclaims \"data-shop-redis-0\" is forbidden: only dynamically provisioned pvc can be resized",
    );
    trial.edit_spec(|spec| spec["redis"]["storage"]["size"] = json!("3Gi"));
    trial.reconcile().await.unwrap();
    trial.server.run("statefulsets");
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("Degraded").0, "False");
    assert_eq!(trial.condition("Ready").0, "True");
    for type_ in ["RedisReady", "Ready"] {
        assert_eq!(
            trial.message(type_),
            "redis: the volume stays at 1Gi, its storage class cannot grow it to 3Gi: \
             only dynamically provisioned pvc can be resized"
        );
    }
}

#[tokio::test]
async fn an_ingress_comes_and_goes_with_the_spec() {
    let trial = Trial::running("{}").await;
    let ingress = "ingresses/shop-gateway";
    trial.edit_spec(|spec| spec["gateway"]["ingress"] = json!({"host": "shop.test", "tlsSecret": "cert"}));
    trial.reconcile().await.unwrap();
    assert_eq!(trial.server.writes(), ["PATCH ingresses/shop-gateway", "PATCH ordershops/shop/status"]);
    assert_eq!(trial.server.get(SHOP).unwrap()["status"]["url"], "https://shop.test");

    // What the operator made before carries its owner.
    assert_eq!(trial.server.get(ingress).unwrap()["metadata"]["ownerReferences"][0]["uid"], "uid-1");
    trial.edit_spec(|spec| {
        spec["gateway"].as_object_mut().unwrap().remove("ingress");
    });
    trial.reconcile().await.unwrap();
    assert_eq!(trial.server.writes(), ["DELETE ingresses/shop-gateway", "PATCH ordershops/shop/status"]);
}

#[tokio::test]
async fn a_shop_that_moves_to_an_external_redis_loses_ours_and_keeps_its_volume() {
    let trial = Trial::running("{}").await;
    let external = json!({"urlSecret": {"name": "redis", "key": "url"}});
    trial.edit_spec(|spec| spec["redis"]["external"] = external);
    trial.reconcile().await.unwrap();
    assert_eq!(trial.server.writes(), ["PATCH ordershops/shop/status", "POST events"], "what runs goes on");
    assert_eq!(trial.condition("Degraded"), ("True".to_owned(), "SecretNotFound".to_owned()));

    trial.server.put("secrets/redis", json!({"metadata": {"name": "redis"}, "data": {"url": "MQ=="}}));
    trial.reconcile().await.unwrap();
    for path in ["statefulsets/shop-redis", "services/shop-redis", "serviceaccounts/shop-redis"] {
        assert!(trial.server.get(path).is_none(), "{path} is still there");
    }
    assert!(trial.server.get(CLAIM).is_some(), "nobody asked for the end of the data");
    for kind in ["deployments", "deployments"] {
        trial.server.run(kind);
        trial.reconcile().await.unwrap();
    }
    assert_eq!(trial.condition("RedisReady"), ("True".to_owned(), "Ready".to_owned()));
    assert_eq!(trial.condition("Ready").0, "True");
}
