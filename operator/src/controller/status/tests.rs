//! The status of shops in every state, from objects as the API server would have them.

use serde_json::{Value, json};

use super::*;
use crate::controller::{
    build::{
        self,
        tests::{defaults, shop},
    },
    outcome::{ApplyError, Held},
    sources::Sources,
    trouble::{Cause, Trouble},
    validate::validate,
};

/// What is there when everything that the spec asks for runs.
fn running_shop(spec: &str) -> (ValidShop, Outcome) {
    let valid = validate(&shop(spec), &defaults(), &Sources::default()).unwrap();
    let mut children = build::build(&valid).unwrap().applied();
    for deployment in &mut children.deployments {
        let replicas = deployment.spec.as_ref().unwrap().replicas.unwrap();
        deployment.status = Some(
            serde_json::from_value(json!({"replicas": replicas, "updatedReplicas": replicas,
                "readyReplicas": replicas, "availableReplicas": replicas}))
            .unwrap(),
        );
    }
    children.stateful_sets[0].status = Some(
        serde_json::from_value(json!({"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1,
            "availableReplicas": 1, "currentRevision": "a", "updateRevision": "a"}))
        .unwrap(),
    );
    (valid, Outcome { children, ..Outcome::default() })
}

/// Merges this into the status of one Deployment.
fn change(outcome: &mut Outcome, name: &str, status: &Value) {
    let deployment =
        outcome.children.deployments.iter_mut().find(|deployment| deployment.name_any() == name).unwrap();
    let mut value = serde_json::to_value(deployment.status.clone().unwrap()).unwrap();
    for (field, new) in status.as_object().unwrap() {
        value[field] = new.clone();
    }
    deployment.status = Some(serde_json::from_value(value).unwrap());
}

fn of(valid: &ValidShop, outcome: &Outcome) -> OrderShopStatus {
    status(&OrderShopStatus::default(), valid, outcome, "2026-01-01T00:00:00Z")
}

/// The conditions that hold.
fn holding(status: &OrderShopStatus) -> Vec<&str> {
    let holding = status.conditions.iter().filter(|condition| condition.status == ConditionStatus::True);
    holding.map(|condition| condition.type_.as_str()).collect()
}

fn ready(status: &OrderShopStatus) -> (&str, &str) {
    let condition = status.condition(ConditionType::Ready).unwrap();
    (&condition.reason, &condition.message)
}

#[test]
fn a_shop_whose_services_all_run_is_ready() {
    let (valid, outcome) = running_shop("{ services: { crm: { replicas: 2 } } }");
    let status = of(&valid, &outcome);
    assert_eq!(holding(&status), ["Ready", "Available", "RedisReady"]);
    assert_eq!(status.conditions.len(), 7);
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(status.services_ready.as_deref(), Some("9/9"));
    assert_eq!(status.url.as_deref(), Some("http://shop-gateway.ns.svc"));
    assert_eq!(status.version.as_deref(), Some("1.2.3"));
    assert_eq!(status.crm_replicas, 2);
    let selector =
        "app.kubernetes.io/component=crm,app.kubernetes.io/instance=shop,app.kubernetes.io/name=ordershop";
    assert_eq!(status.selector.as_deref(), Some(selector));
    let names: Vec<_> = status.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, Service::ALL.map(Service::name));
    assert_eq!((status.services[6].desired, status.services[6].ready), (2, 2));
    assert_eq!(status.services[6].image, "registry.test/shop/ordershop-crm:1.2.3");
}

#[test]
fn a_new_shop_says_what_it_waits_for() {
    let (valid, mut outcome) = running_shop("{}");
    outcome.children.stateful_sets[0].status = None;
    outcome.children.deployments.clear();
    outcome.held = ["shop-order", "shop-crm"]
        .map(|name| Held { name: name.to_owned(), reason: "waits for Redis".to_owned() })
        .to_vec();
    let status = of(&valid, &outcome);
    assert_eq!(holding(&status), ["Progressing"]);
    let message = "redis: starting, 0 of 1 ready; order, crm: waits for Redis";
    assert_eq!(ready(&status), ("RedisNotReady", message));
    assert_eq!(status.version, None);
}

#[test]
fn a_lost_pod_makes_the_shop_not_ready_but_is_no_rollout() {
    let (valid, mut outcome) = running_shop("{}");
    change(&mut outcome, "shop-order", &json!({"availableReplicas": 0, "readyReplicas": 0}));
    let status = of(&valid, &outcome);
    assert_eq!(holding(&status), ["RedisReady"]);
    assert_eq!(ready(&status), ("ServicesNotReady", "order: 0 of 1 ready"));
}

#[test]
fn a_rollout_leaves_the_shop_available() {
    let (valid, mut outcome) = running_shop("{}");
    change(&mut outcome, "shop-order", &json!({"replicas": 2}));
    let status = of(&valid, &outcome);
    assert_eq!(holding(&status), ["Available", "Progressing", "RedisReady"]);
    assert_eq!(ready(&status), ("RollingOut", "order: rolling out, 0 of 1 new pods available"));
}

#[test]
fn a_stuck_rollout_degrades_the_shop_with_what_kubernetes_says() {
    let (valid, mut outcome) = running_shop("{}");
    let stuck = json!([{"type": "Progressing", "status": "False", "message": "timed out progressing"}]);
    change(&mut outcome, "shop-order", &json!({"conditions": stuck, "replicas": 2}));
    let status = of(&valid, &outcome);
    assert!(status.is(ConditionType::Degraded));
    assert_eq!(ready(&status), ("RolloutFailed", "order: timed out progressing"));
}

#[test]
fn what_the_pods_say_is_told_instead_of_a_deadline_that_has_passed() {
    let (valid, mut outcome) = running_shop("{}");
    let stuck = json!([{"type": "Progressing", "status": "False", "message": "timed out progressing"}]);
    change(&mut outcome, "shop-crm", &json!({"conditions": stuck, "replicas": 2}));
    assert_eq!(
        outcome.incomplete("shop"),
        [("crm".to_owned(), "registry.test/shop/ordershop-crm:1.2.3".to_owned())]
    );
    outcome.troubles = vec![Trouble {
        component: "crm".to_owned(),
        cause: Cause::Image,
        message: "crm: image not found: x".to_owned(),
    }];
    let status = of(&valid, &outcome);
    assert_eq!(holding(&status), ["Available", "Progressing", "Degraded", "RedisReady"]);
    assert_eq!(ready(&status), ("ImageNotPulled", "crm: image not found: x"));
}

#[test]
fn a_shop_that_is_not_ready_is_looked_at_soon_and_then_ever_more_seldom() {
    let (valid, mut outcome) = running_shop("{}");
    let at = |time: &str| time.parse::<Timestamp>().unwrap();
    assert_eq!(look_again(&of(&valid, &outcome), at("2026-01-01T00:00:05Z")), None);
    change(&mut outcome, "shop-order", &json!({"availableReplicas": 0}));
    let status = of(&valid, &outcome);
    let seconds = |time: &str| look_again(&status, at(time)).unwrap().as_secs();
    assert_eq!(
        ["00:00:05", "00:01:00", "01:00:00"].map(|time| seconds(&format!("2026-01-01T{time}Z"))),
        [10, 30, 1800]
    );
}

#[test]
fn a_refused_object_degrades_the_shop() {
    let (valid, mut outcome) = running_shop("{}");
    outcome.failures = vec![ApplyError::Foreign { kind: "Service".into(), name: "shop-order".into() }];
    let status = of(&valid, &outcome);
    assert!(status.is(ConditionType::Degraded) && status.is(ConditionType::Available));
    assert_eq!(ready(&status).0, "NameConflict");
}

#[test]
fn services_at_zero_do_not_make_a_shop_unavailable() {
    let (valid, outcome) = running_shop("{ services: { crm: { replicas: 0 } } }");
    assert_eq!(holding(&of(&valid, &outcome)), ["Ready", "Available", "RedisReady"]);
}

#[test]
fn a_paused_shop_says_so_and_is_not_ready_when_something_differs() {
    let (valid, mut outcome) = running_shop("{ paused: true }");
    assert_eq!(holding(&of(&valid, &outcome)), ["Ready", "Available", "RedisReady", "Paused"]);
    let held = Held { name: "shop-order".to_owned(), reason: "paused".to_owned() };
    outcome.held = vec![held.clone(), held];
    let status = of(&valid, &outcome);
    assert_eq!(ready(&status), ("Waiting", "order: paused"));
}

#[test]
fn the_load_balancers_address_is_the_url_once_it_has_one() {
    let (valid, mut outcome) = running_shop("{ gateway: { service: { type: LoadBalancer } } }");
    let mut url = |ingress: Value| {
        outcome.children.services[0].status =
            Some(serde_json::from_value(json!({"loadBalancer": {"ingress": [ingress]}})).unwrap());
        of(&valid, &outcome).url.unwrap()
    };
    assert_eq!(url(json!({"ip": "10.0.0.1"})), "http://10.0.0.1");
    assert_eq!(url(json!({"ip": "fd00::1"})), "http://[fd00::1]");
    assert_eq!(url(json!({"hostname": "shop.test", "ip": "10.0.0.1"})), "http://shop.test");
}

#[test]
fn a_condition_keeps_the_time_of_its_last_transition() {
    let (valid, mut outcome) = running_shop("{}");
    let first = of(&valid, &outcome);
    let later = status(&first, &valid, &outcome, "2026-01-02T00:00:00Z");
    assert_eq!(first, later, "nothing changed, so nothing is written");
    change(&mut outcome, "shop-order", &json!({"availableReplicas": 0}));
    let changed = status(&first, &valid, &outcome, "2026-01-02T00:00:00Z");
    let time = |type_| changed.condition(type_).unwrap().last_transition_time.as_str();
    assert_eq!(time(ConditionType::Ready), "2026-01-02T00:00:00Z");
    assert_eq!(time(ConditionType::RedisReady), "2026-01-01T00:00:00Z");
}

#[test]
fn a_shop_that_cannot_be_built_is_degraded_and_keeps_the_rest_of_its_status() {
    let (valid, outcome) = running_shop("{}");
    let old = of(&valid, &outcome);
    let new = invalid(&old, Some(2), &ValidateError::NodePort, "2026-01-02T00:00:00Z");
    assert_eq!(ready(&new).0, "InvalidNodePort");
    assert_eq!(new.observed_generation, Some(2));
    assert!(new.is(ConditionType::Degraded) && new.is(ConditionType::Available));
    assert_eq!(new.conditions.len(), 7);
    assert_eq!(new.services, old.services);
}
