//! From the YAML a user writes to the objects: the real validation and the real builders, no API server.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Container, PodTemplateSpec},
};
use serde_json::Value;

use super::*;
use crate::{
    controller::{passwords, sources::Sources, validate},
    crd::Quantity,
};

pub(crate) fn defaults() -> validate::Defaults {
    validate::Defaults {
        registry: "registry.test/shop".to_owned(),
        version: "1.2.3".to_owned(),
        redis_image: "registry.test/redis:7".to_owned(),
    }
}

/// A shop with this spec, as the API server would hand it out.
pub(crate) fn shop(spec: &str) -> OrderShop {
    let mut shop = OrderShop::new("shop", serde_norway::from_str(spec).unwrap());
    shop.metadata.namespace = Some("ns".to_owned());
    shop.metadata.uid = Some("uid-1".to_owned());
    shop.metadata.generation = Some(1);
    shop
}

pub(super) fn valid(spec: &str) -> ValidShop {
    validate::validate(&shop(spec), &defaults(), &Sources::default()).unwrap()
}

pub(super) fn built(spec: &str) -> Children<Prepared> {
    built_with(spec, &Sources::default())
}

pub(super) fn built_with(spec: &str, found: &Sources) -> Children<Prepared> {
    let mut valid = validate::validate(&shop(spec), &defaults(), found).unwrap();
    valid.passwords = passwords::next(None, "", false, || "e1".to_owned());
    build(&valid).unwrap()
}

pub(super) fn deployment<'a>(children: &'a Children<Prepared>, name: &str) -> &'a Deployment {
    super::super::children::named(&children.deployments, name).unwrap()
}

pub(super) fn template(deployment: &Deployment) -> &PodTemplateSpec {
    &deployment.spec.as_ref().unwrap().template
}

pub(super) fn container(deployment: &Deployment) -> &Container {
    &template(deployment).spec.as_ref().unwrap().containers[0]
}

pub(super) fn env(deployment: &Deployment) -> Value {
    serde_json::to_value(&container(deployment).env).unwrap()
}

/// The templates of all pods.
pub(super) fn templates(children: &Children<Prepared>) -> Vec<&PodTemplateSpec> {
    let sets = children.stateful_sets.iter().map(|set| &set.spec.as_ref().unwrap().template);
    children.deployments.iter().map(template).chain(sets).collect()
}

fn names<K: ResourceExt>(objects: &[K]) -> Vec<String> {
    objects.iter().map(ResourceExt::name_any).collect()
}

const NINE: [&str; 9] =
    ["gateway", "customer", "product", "inventory", "order", "billing", "crm", "notification", "read-model"];

#[test]
fn an_empty_spec_is_nine_services_and_redis() {
    let children = built("{}");
    assert_eq!(names(&children.deployments), NINE.map(|name| format!("shop-{name}")));
    assert_eq!(names(&children.stateful_sets), ["shop-redis"]);
    assert_eq!(names(&children.secrets), ["shop-redis"]);
    assert_eq!(children.service_accounts.len(), 10);
    let expected = ["gateway", "customer", "product", "inventory", "order", "billing", "read-model", "redis"];
    assert_eq!(names(&children.services), expected.map(|name| format!("shop-{name}")));
    for deployment in &children.deployments {
        assert_eq!(deployment.spec.as_ref().unwrap().replicas, Some(1));
        let name = deployment.name_any();
        let service = name.strip_prefix("shop-").unwrap();
        let image = format!("registry.test/shop/ordershop-{service}:1.2.3");
        assert_eq!(container(deployment).image.as_ref(), Some(&image));
    }
}

#[test]
fn every_object_is_owned_labelled_and_hashed() {
    for (kind, object) in built("{}").metadata() {
        // The data outlives the shop.
        if kind != "PersistentVolumeClaim" {
            let owner = &object.owner_references.as_ref().unwrap()[0];
            assert_eq!((owner.uid.as_str(), owner.controller), ("uid-1", Some(true)));
        }
        let labels = object.labels.as_ref().unwrap();
        assert_eq!(labels["app.kubernetes.io/instance"], "shop");
        assert_eq!(labels["app.kubernetes.io/managed-by"], "ordershop-operator");
        assert!(object.annotations.as_ref().unwrap().contains_key(labels::APPLIED_HASH));
        assert_eq!(object.namespace.as_deref(), Some("ns"));
    }
}

/// What Pod Security `restricted` asks for, and a read-only root and no token beyond it.
#[test]
fn every_pod_passes_restricted_pod_security() {
    let children = built("{}");
    let templates = templates(&children);
    assert_eq!(templates.len(), 10);
    for template in templates {
        let spec = template.spec.as_ref().unwrap();
        let pod = spec.security_context.as_ref().unwrap();
        assert_eq!(pod.run_as_non_root, Some(true));
        assert!(pod.run_as_user.unwrap() > 0);
        assert_eq!(pod.seccomp_profile.as_ref().unwrap().type_, "RuntimeDefault");
        assert_eq!(spec.automount_service_account_token, Some(false));
        assert!(spec.service_account_name.is_some());
        assert_eq!((spec.host_network, spec.host_pid, spec.host_ipc), (None, None, None));
        assert!(spec.volumes.iter().flatten().all(|volume| volume.secret.is_some()));
        assert!(spec.init_containers.is_none());
        for container in &spec.containers {
            let security = container.security_context.as_ref().unwrap();
            assert_eq!(security.allow_privilege_escalation, Some(false));
            assert_eq!(security.read_only_root_filesystem, Some(true));
            assert_eq!(security.privileged, None);
            let capabilities = security.capabilities.as_ref().unwrap();
            assert_eq!(capabilities.drop, Some(vec!["ALL".to_owned()]));
            assert_eq!(capabilities.add, None);
            assert!(container.ports.iter().flatten().all(|port| port.host_port.is_none()));
        }
    }
}

#[test]
fn a_default_shop_asks_for_less_than_half_a_core() {
    let children = built("{}");
    let nanos: i128 = templates(&children)
        .into_iter()
        .map(|template| {
            let resources = template.spec.as_ref().unwrap().containers[0].resources.as_ref().unwrap();
            Quantity::literal(&resources.requests.as_ref().unwrap()["cpu"].0).nanos().unwrap()
        })
        .sum();
    assert!(nanos < 500_000_000, "{nanos} billionths of a core");
}

#[test]
fn all_pods_are_asked_whether_they_are_alive_and_ready() {
    let children = built("{}");
    for template in templates(&children) {
        let container = &template.spec.as_ref().unwrap().containers[0];
        assert!(container.startup_probe.is_some());
        assert!(container.readiness_probe.is_some());
        assert!(container.liveness_probe.is_some());
    }
}

#[test]
fn the_services_find_redis_and_the_gateway_finds_the_services() {
    let children = built("{}");
    let url = &env(deployment(&children, "shop-order"))[0];
    assert_eq!(url["name"], "ORDERSHOP_REDIS_URL");
    assert_eq!(
        url["valueFrom"]["secretKeyRef"],
        serde_json::json!({"name": "shop-redis", "key": "order.e1"})
    );

    let gateway = container(deployment(&children, "shop-gateway"));
    let variables: Vec<_> = gateway
        .env
        .iter()
        .flatten()
        .map(|variable| format!("{}={}", variable.name, variable.value.as_deref().unwrap_or_default()))
        .collect();
    assert_eq!(
        variables,
        [
            "ORDERSHOP_CUSTOMER_URL=http://shop-customer:8080",
            "ORDERSHOP_PRODUCT_URL=http://shop-product:8080",
            "ORDERSHOP_INVENTORY_URL=http://shop-inventory:8080",
            "ORDERSHOP_ORDER_URL=http://shop-order:8080",
            "ORDERSHOP_BILLING_URL=http://shop-billing:8080",
            "ORDERSHOP_READ_MODEL_URL=http://shop-read-model:8080",
        ]
    );
}

#[test]
fn redis_keeps_every_event() {
    let children = built("{ redis: { persistence: always, storage: { size: 5Gi, className: fast } } }");
    let set = children.stateful_sets[0].spec.as_ref().unwrap();
    let container = &set.template.spec.as_ref().unwrap().containers[0];
    let arguments = container.args.as_ref().unwrap().join(" ");
    for expected in
        ["--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction", "--dir /data"]
    {
        assert!(arguments.contains(expected), "{arguments}");
    }
    let started = container.startup_probe.as_ref().unwrap();
    let command = started.exec.as_ref().unwrap().command.as_ref().unwrap().join(" ");
    assert_eq!(command, "redis-cli --user reader -e bgrewriteaof", "what a crash has cut must not come back");
    assert_eq!(started.failure_threshold, Some(3600), "loading much data takes its time");
    assert_eq!(container.volume_mounts.as_ref().unwrap()[0].mount_path, "/data");
    let claim = &set.volume_claim_templates.as_ref().unwrap()[0];
    assert_eq!(claim.metadata.name.as_deref(), Some("data"));
    assert!(claim.metadata.owner_references.is_none(), "the data outlives the shop");
    let claim = claim.spec.as_ref().unwrap();
    assert_eq!(claim.storage_class_name.as_deref(), Some("fast"));
    assert_eq!(claim.resources.as_ref().unwrap().requests.as_ref().unwrap()["storage"].0, "5Gi");
}

#[test]
fn what_the_spec_says_about_one_service_changes_that_service_only() {
    let said = built(
        "{ services: { readModel: { replicas: 3, image: other/read-model:9, resources: { limits: { cpu: 1 } } } } }",
    );
    let plain = built("{}");
    let read_model = deployment(&said, "shop-read-model");
    assert_eq!(read_model.spec.as_ref().unwrap().replicas, Some(3));
    assert_eq!(container(read_model).image.as_deref(), Some("other/read-model:9"));
    let resources = container(read_model).resources.as_ref().unwrap();
    assert_eq!(resources.limits.as_ref().unwrap()["cpu"].0, "1");
    assert_eq!(resources.limits.as_ref().unwrap().len(), 1, "limits that are given replace the default ones");
    assert_eq!(resources.requests.as_ref().unwrap()["cpu"].0, "20m", "requests that are not given stay");
    for name in NINE.iter().filter(|name| **name != "read-model").map(|name| format!("shop-{name}")) {
        assert_eq!(deployment(&said, &name), deployment(&plain, &name));
    }
}

#[test]
fn the_version_and_registry_of_the_spec_win_over_the_operators() {
    let children = built(
        "{ version: 2.0.0, image: { registry: my.test/x/, pullPolicy: Always, pullSecrets: [{ name: s }] } }",
    );
    let gateway = deployment(&children, "shop-gateway");
    assert_eq!(container(gateway).image.as_deref(), Some("my.test/x/ordershop-gateway:2.0.0"));
    assert_eq!(container(gateway).image_pull_policy.as_deref(), Some("Always"));
    for template in templates(&children) {
        let secrets = template.spec.as_ref().unwrap().image_pull_secrets.as_ref().unwrap();
        assert_eq!(secrets[0].name, "s");
    }
}

#[test]
fn the_gateway_is_reached_as_the_spec_says() {
    let service = |spec: &str| {
        let children = built(spec);
        let service = super::super::children::named(&children.services, "shop-gateway").unwrap();
        let spec = service.spec.clone().unwrap();
        let port = spec.ports.unwrap().remove(0);
        (spec.type_.unwrap(), port.port, port.node_port)
    };
    assert_eq!(service("{}"), ("ClusterIP".to_owned(), 80, None));
    assert_eq!(
        service("{ gateway: { service: { type: NodePort, nodePort: 30080 } } }"),
        ("NodePort".to_owned(), 80, Some(30080))
    );
    let load_balancer = built("{ gateway: { service: { type: LoadBalancer } } }");
    let others = load_balancer.services.iter().filter(|service| service.name_any() != "shop-gateway");
    for service in others {
        assert_eq!(service.spec.as_ref().unwrap().type_.as_deref(), Some("ClusterIP"));
    }
}

#[test]
fn what_cannot_be_is_refused_with_the_name_of_the_field() {
    let refused = |spec: &str| {
        validate::validate(&shop(spec), &defaults(), &Sources::default()).unwrap_err().to_string()
    };
    for (spec, field) in [
        ("{ services: { readModel: { replicas: -1 } } }", "spec.services.readModel.replicas"),
        (
            "{ services: { crm: { resources: { limits: { cpu: x } } } } }",
            "spec.services.crm.resources.limits.cpu",
        ),
        ("{ redis: { storage: { size: much } } }", "spec.redis.storage.size"),
        ("{ gateway: { service: { nodePort: 1 } } }", "spec.gateway.service.nodePort"),
    ] {
        let message = refused(spec);
        assert!(message.starts_with(field), "{message}");
    }
    for name in ["Shop", "1shop", "shop-", "", "a.b", &"x".repeat(41)] {
        let mut shop = shop("{}");
        shop.metadata.name = Some(name.to_owned());
        let error = validate::validate(&shop, &defaults(), &Sources::default()).unwrap_err();
        assert_eq!(error.reason(), "InvalidName", "{name}");
    }
}

#[test]
fn the_same_spec_builds_the_same_objects() {
    let json = |children: Children<Prepared>| serde_json::to_string(&children.deployments).unwrap();
    assert_eq!(json(built("{}")), json(built("{}")));
}

/// Otherwise an upgrade of the operator would roll every shop, also one that is to stay as it is.
#[test]
fn nothing_in_the_objects_depends_on_the_operators_own_version() {
    let built = built("{}");
    for (kind, metadata) in built.metadata() {
        let text = serde_json::to_string(metadata).unwrap();
        assert!(!text.contains(env!("CARGO_PKG_VERSION")), "{kind}: {text}");
    }
    let pods = serde_json::to_string(&built.deployments).unwrap();
    assert!(!pods.contains(env!("CARGO_PKG_VERSION")), "{pods}");
}
