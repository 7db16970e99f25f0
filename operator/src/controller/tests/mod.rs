//! Which requests a reconciliation makes, proven against an API server that records all of them.

mod passwords;
mod scaling;
mod server;
mod sources;
mod spec;
mod start;
mod traces;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    core::PartialObjectMeta,
    runtime::{controller::Action, events::Recorder},
};
use serde_json::{Value, json};

use self::server::Server;
use super::{
    backoff::Backoff,
    build::tests::{defaults, shop},
    labels,
    reconcile::{Context, ReconcileError, Watched, reconcile},
    watch::shops_of,
};
use crate::metrics::Metrics;

const SHOP: &str = "ordershops/shop";

/// The reads of every reconciliation: the shop, then one list per kind.
const READS: [&str; 13] = [
    "GET deployments",
    "GET horizontalpodautoscalers",
    "GET ingresses",
    "GET networkpolicies",
    "GET ordershops/shop",
    "GET persistentvolumeclaims",
    "GET poddisruptionbudgets",
    "GET scaledobjects",
    "GET secrets/shop-redis",
    "GET serviceaccounts",
    "GET services",
    "GET statefulsets",
    "GET triggerauthentications",
];

/// One shop on an API server, and an operator.
struct Trial {
    server: Server,
    context: Arc<Context>,
}

impl Trial {
    /// A shop that was just made.
    fn new(spec: &str) -> Self {
        let server = Server::default();
        server.put(SHOP, serde_json::to_value(shop(spec)).unwrap());
        Self::with(server)
    }

    /// A new operator for what is on this server.
    fn with(server: Server) -> Self {
        let client = server.client();
        let context = Context {
            recorder: Recorder::new(client.clone(), "ordershop-operator".into()),
            client,
            defaults: defaults(),
            metrics: Metrics::default(),
            backoff: Backoff::default(),
        };
        Self { server, context: Arc::new(context) }
    }

    /// A shop that runs and is reconciled.
    async fn running(spec: &str) -> Self {
        let trial = Self::new(spec);
        for kind in ["statefulsets", "deployments", "deployments"] {
            trial.reconcile().await.unwrap();
            trial.server.run(kind);
        }
        trial.reconcile().await.unwrap();
        assert_eq!(trial.condition("Ready"), ("True".to_owned(), "Ready".to_owned()));
        trial.server.requests();
        trial
    }

    async fn reconcile(&self) -> Result<Action, ReconcileError> {
        let metadata = json!({"name": "shop", "namespace": "ns", "uid": "uid-1"});
        let watched: Watched = serde_json::from_value(json!({ "metadata": metadata })).unwrap();
        reconcile(Arc::new(watched), Arc::clone(&self.context)).await
    }

    fn condition(&self, type_: &str) -> (String, String) {
        let shop = self.server.get(SHOP).unwrap();
        let conditions = shop["status"]["conditions"].as_array().unwrap();
        let found = conditions.iter().find(|condition| condition["type"] == type_).unwrap();
        let text = |field: &str| found[field].as_str().unwrap().to_owned();
        (text("status"), text("reason"))
    }

    fn edit_spec(&self, edit: impl FnOnce(&mut Value)) {
        self.server.edit(SHOP, |shop| {
            edit(&mut shop["spec"]);
            shop["metadata"]["generation"] = json!(shop["metadata"]["generation"].as_i64().unwrap() + 1);
        });
    }
}

fn sorted(mut requests: Vec<String>) -> Vec<String> {
    requests.sort();
    requests
}

#[tokio::test]
async fn redis_is_ready_before_the_services_and_the_gateway_comes_last() {
    let trial = Trial::new("{}");
    let server = &trial.server;

    trial.reconcile().await.unwrap();
    let writes = server.writes();
    let count =
        |kind: &str| writes.iter().filter(|write| write.starts_with(&format!("PATCH {kind}/"))).count();
    assert_eq!(count("serviceaccounts"), 10);
    assert_eq!(count("secrets"), 1);
    assert_eq!(count("networkpolicies"), 10);
    assert_eq!(count("services"), 8);
    assert_eq!(count("statefulsets"), 1);
    assert_eq!(count("deployments"), 0, "Redis is not ready");
    assert_eq!(writes.last().unwrap(), "PATCH ordershops/shop/status");
    assert_eq!(count("persistentvolumeclaims"), 1);
    assert_eq!(writes.len(), 32);

    server.run("statefulsets");
    trial.reconcile().await.unwrap();
    let expected =
        ["billing", "crm", "customer", "inventory", "notification", "order", "product", "read-model"]
            .map(|name| format!("PATCH deployments/shop-{name}"));
    let writes = sorted(server.writes());
    assert_eq!(writes[..8], expected);
    assert_eq!(writes[8..], ["PATCH ordershops/shop/status"]);

    server.run("deployments");
    trial.reconcile().await.unwrap();
    assert_eq!(server.writes(), ["PATCH deployments/shop-gateway", "PATCH ordershops/shop/status"]);

    server.run("deployments");
    trial.reconcile().await.unwrap();
    assert_eq!(server.writes(), ["PATCH ordershops/shop/status", "POST events"]);
    assert_eq!(trial.condition("Ready").0, "True");
}

#[tokio::test]
async fn an_unchanged_shop_reconciled_again_causes_no_write_also_by_a_new_operator() {
    let trial = Trial::running("{ services: { crm: { resources: { limits: { cpu: 1000m } } } } }").await;
    trial.reconcile().await.unwrap();
    assert_eq!(sorted(trial.server.requests()), READS);

    let restarted = Trial::with(trial.server);
    restarted.reconcile().await.unwrap();
    assert_eq!(sorted(restarted.server.requests()), READS);
}

#[tokio::test]
async fn a_deleted_child_is_made_again_and_nothing_else_is_written() {
    let trial = Trial::running("{}").await;
    trial.server.remove("services/shop-order");
    trial.reconcile().await.unwrap();
    assert_eq!(trial.server.writes(), ["PATCH services/shop-order"]);

    trial.server.remove("deployments/shop-gateway");
    trial.server.edit("statefulsets/shop-redis", |redis| redis["status"]["availableReplicas"] = json!(0));
    trial.reconcile().await.unwrap();
    let writes = trial.server.writes();
    assert_eq!(writes[0], "PATCH deployments/shop-gateway", "a shop that ran once does not wait for Redis");
}

#[tokio::test]
async fn an_edited_child_is_repaired_and_what_others_added_stays() {
    let trial = Trial::running("{}").await;
    let path = "deployments/shop-order";
    trial.server.edit(path, |order| {
        order["spec"]["replicas"] = json!(5);
        order["spec"]["template"]["spec"]["containers"][0]["image"] = json!("other:1");
    });
    trial.reconcile().await.unwrap();
    assert_eq!(trial.server.writes()[0], "PATCH deployments/shop-order");
    let order = trial.server.get(path).unwrap();
    assert_eq!(order["spec"]["replicas"], 1);
    let image = &order["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, "registry.test/shop/ordershop-order:1.2.3");

    trial.server.run("deployments");
    trial.reconcile().await.unwrap();
    trial.server.requests();
    trial.server.edit(path, |order| {
        let annotations = &mut order["spec"]["template"]["metadata"]["annotations"];
        annotations["kubectl.kubernetes.io/restartedAt"] = json!("now");
    });
    trial.reconcile().await.unwrap();
    assert_eq!(trial.server.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn scaling_crm_writes_crm_its_budget_and_the_status_only() {
    let trial = Trial::running("{}").await;
    trial.edit_spec(|spec| spec["services"]["crm"]["replicas"] = json!(3));
    trial.reconcile().await.unwrap();
    let writes = trial.server.writes();
    let expected =
        ["PATCH poddisruptionbudgets/shop-crm", "PATCH deployments/shop-crm", "PATCH ordershops/shop/status"];
    assert_eq!(writes[..3], expected);
    assert_eq!(trial.server.get("deployments/shop-crm").unwrap()["spec"]["replicas"], 3);
}

#[tokio::test]
async fn a_bad_rollout_does_not_block_its_own_fix() {
    let trial = Trial::running("{}").await;
    trial.edit_spec(|spec| spec["version"] = json!("bad"));
    trial.reconcile().await.unwrap();
    let order = trial.server.get("deployments/shop-order").unwrap();
    assert_eq!(
        order["spec"]["template"]["spec"]["containers"][0]["image"],
        "registry.test/shop/ordershop-order:bad"
    );
    trial.server.requests();

    trial.edit_spec(|spec| spec["version"] = json!("good"));
    trial.reconcile().await.unwrap();
    let rolled = trial.server.writes().iter().filter(|write| write.starts_with("PATCH deployments/")).count();
    assert_eq!(rolled, 8, "all but the gateway, which still runs the old version");
}

#[tokio::test]
async fn a_paused_shop_is_not_touched_but_its_status_is_kept() {
    let trial = Trial::running("{}").await;
    trial.edit_spec(|spec| {
        spec["paused"] = json!(true);
        spec["version"] = json!("next");
    });
    trial.server.remove("services/shop-order");
    trial.reconcile().await.unwrap();
    assert_eq!(trial.server.writes(), ["PATCH ordershops/shop/status", "POST events"]);
    assert_eq!(trial.condition("Paused").0, "True");
    assert_eq!(trial.condition("Ready").0, "False");
}

#[tokio::test]
async fn a_paused_shop_of_which_nothing_is_there_is_not_looked_at_again_and_again() {
    let trial = Trial::new("{paused: true}");
    assert_eq!(trial.reconcile().await.unwrap(), Action::requeue(Duration::from_mins(10)));
    assert_eq!(trial.condition("Ready").0, "False");
    let trial = Trial::new("{}");
    trial.reconcile().await.unwrap();
    assert_eq!(trial.reconcile().await.unwrap(), Action::requeue(Duration::from_secs(10)), "Redis starts");
}

#[tokio::test]
async fn an_object_of_somebody_else_is_reported_and_not_taken_over() {
    let trial = Trial::new("{}");
    let foreign = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop-order"}});
    trial.server.put("services/shop-order", foreign.clone());
    let error = trial.reconcile().await.unwrap_err();
    assert_eq!(error.reason(), "NameConflict");
    assert_eq!(trial.server.get("services/shop-order").unwrap(), foreign);
    assert_eq!(trial.condition("Degraded"), ("True".to_owned(), "NameConflict".to_owned()));
    let others = trial.server.writes().iter().filter(|write| write.starts_with("PATCH services/")).count();
    assert_eq!(others, 7, "the others are applied all the same");
}

#[tokio::test]
async fn an_object_that_is_refused_does_not_stop_the_others() {
    let trial = Trial::running("{}").await;
    trial.server.refuse("deployments/shop-order");
    trial.edit_spec(|spec| spec["version"] = json!("next"));
    let error = trial.reconcile().await.unwrap_err();
    assert_eq!(error.reason(), "ApplyRefused");
    let crm = trial.server.get("deployments/shop-crm").unwrap();
    assert_eq!(
        crm["spec"]["template"]["spec"]["containers"][0]["image"],
        "registry.test/shop/ordershop-crm:next"
    );
    assert_eq!(trial.condition("Degraded").1, "ApplyRefused");
}

#[tokio::test]
async fn pods_are_looked_at_only_while_something_is_not_as_it_should_be() {
    let trial = Trial::running("{}").await;
    trial.edit_spec(|spec| spec["services"]["crm"]["image"] = json!("nowhere/crm:1"));
    trial.server.put(
        "pods/shop-crm-1",
        json!({
            "metadata": {"name": "shop-crm-1", "labels": labels::labels("shop", "crm")},
            "spec": {"containers": [{"name": "crm", "image": "nowhere/crm:1"}]},
            "status": {"containerStatuses": [{"name": "crm", "image": "nowhere/crm:1", "imageID": "",
                "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}]},
        }),
    );
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("Degraded"), ("True".to_owned(), "ImageNotPulled".to_owned()));
    assert!(trial.server.requests().contains(&"GET pods".to_owned()));

    trial
        .edit_spec(|spec| spec["services"]["crm"]["image"] = json!("registry.test/shop/ordershop-crm:1.2.3"));
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("Degraded").0, "False", "the pod of the bad image is on its way out");
    trial.server.run("deployments");
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("Ready").0, "True");
    trial.server.requests();
    trial.reconcile().await.unwrap();
    assert_eq!(sorted(trial.server.requests()), READS);
}

#[tokio::test]
async fn what_the_shop_no_longer_has_is_deleted_if_it_is_its_own() {
    let trial = Trial::running("{}").await;
    let left_over = |uid: &str| {
        let mut object = trial.server.get("services/shop-order").unwrap();
        object["metadata"]["name"] = json!(format!("shop-old-{uid}"));
        object["metadata"]["ownerReferences"][0]["uid"] = json!(uid);
        trial.server.put(&format!("services/shop-old-{uid}"), object);
    };
    left_over("uid-1");
    left_over("another");
    trial.reconcile().await.unwrap();
    assert_eq!(trial.server.writes(), ["DELETE services/shop-old-uid-1"]);
}

#[tokio::test]
async fn a_shop_that_cannot_be_decoded_is_reported_and_left_alone() {
    let trial = Trial::running("{}").await;
    trial.server.edit(SHOP, |shop| shop["spec"]["paused"] = json!("perhaps"));
    trial.reconcile().await.unwrap();
    assert_eq!(trial.server.requests(), ["GET ordershops/shop", "POST events"]);
}

#[tokio::test]
async fn a_shop_that_is_being_deleted_is_left_to_the_garbage_collector() {
    let trial = Trial::running("{}").await;
    let time = json!("2026-01-01T00:00:00Z");
    trial.server.edit(SHOP, |shop| shop["metadata"]["deletionTimestamp"] = time);
    trial.server.remove("services/shop-order");
    trial.reconcile().await.unwrap();
    assert_eq!(trial.server.requests(), ["GET ordershops/shop"]);
}

#[test]
fn a_change_of_an_object_leads_to_its_shop_by_its_owner_and_by_its_label() {
    let names = |metadata: Value| {
        let object: PartialObjectMeta<ConfigMap> =
            serde_json::from_value(json!({ "metadata": metadata })).unwrap();
        let mut names: Vec<_> = shops_of(object).into_iter().map(|shop| shop.to_string()).collect();
        names.sort();
        names
    };
    let owner =
        json!([{"apiVersion": "ordershop.dev/v1alpha1", "kind": "OrderShop", "name": "a", "uid": "1"}]);
    let label = json!({"app.kubernetes.io/instance": "b"});
    let a = "OrderShop.v1alpha1.ordershop.dev/a.ns";
    let b = "OrderShop.v1alpha1.ordershop.dev/b.ns";
    assert_eq!(names(json!({"namespace": "ns", "ownerReferences": owner})), [a]);
    assert_eq!(names(json!({"namespace": "ns", "labels": label})), [b]);
    assert_eq!(names(json!({"namespace": "ns", "labels": label, "ownerReferences": owner})), [a, b]);
    assert_eq!(names(json!({"namespace": "ns"})), Vec::<String>::new());
}
