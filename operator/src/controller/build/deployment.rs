//! The Deployments of the nine services.

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, Lifecycle, LifecycleHandler,
            ObjectFieldSelector, PodTemplateSpec, Probe, SleepAction,
        },
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::{
    metadata,
    pod::{self, Probes, Rhythm, User, secret_variable, variable},
};
use crate::{
    controller::{
        hash, labels, passwords,
        validate::{Collector, ValidService, ValidShop},
    },
    crd::SecretKey,
    service::Service,
};

/// Where probes and metrics are.
pub(super) const ADMIN_PORT: i32 = 9090;
const USER: User = User { id: 65532, owns_volumes: false };

/// After this long without progress a rollout counts as failed.
const PROGRESS_DEADLINE_SECONDS: i32 = 120;

/// How long a pod that is to go still takes requests: until every node has taken it out of its Services.
const PRE_STOP_SECONDS: i64 = 5;

/// One Deployment per service.
pub(in crate::controller) fn deployments(shop: &ValidShop) -> Vec<Deployment> {
    shop.services.iter().map(|service| deployment(shop, service)).collect()
}

fn deployment(shop: &ValidShop, service: &ValidService) -> Deployment {
    let name = service.service.name();
    Deployment {
        metadata: metadata(&shop.owner, name),
        spec: Some(DeploymentSpec {
            replicas: Some(service.replicas),
            revision_history_limit: Some(3),
            progress_deadline_seconds: Some(PROGRESS_DEADLINE_SECONDS),
            selector: LabelSelector {
                match_labels: Some(labels::selector(&shop.owner.name, name)),
                ..LabelSelector::default()
            },
            // A pod goes when its successor is ready: a rollout never takes capacity away.
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template: template(shop, service),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// A hash of what this service reads beside its own pod template, so that a change rolls just what uses it.
fn used_config(service: &ValidService) -> Option<String> {
    match &service.sources[..] {
        [] => None,
        [one] => Some(one.clone()),
        used => Some(hash::of_bytes(used.join(" ").as_bytes())),
    }
}

fn template(shop: &ValidShop, service: &ValidService) -> PodTemplateSpec {
    let (name, used) = (service.service.name(), used_config(service));
    let mut template = pod::template(shop, name, USER, &service.pod, used, container(shop, service));
    if uses_own_redis(shop, service) {
        passwords::mark(&mut template, &shop.passwords);
    }
    template
}

fn container(shop: &ValidShop, service: &ValidService) -> Container {
    let port = |name: &str, number| ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let ports = service.service.http().map(|http| port("http", http.container));
    let env = environment(shop, service);
    let Probes { startup, readiness, liveness } = probes();
    Container {
        name: service.service.name().to_owned(),
        image: Some(service.image.clone()),
        ports: Some(ports.into_iter().chain([port("admin", ADMIN_PORT)]).collect()),
        env: pod::some(env),
        env_from: pod::some(service.environment.from.clone()),
        resources: Some(pod::resources(&service.resources)),
        startup_probe: Some(startup),
        readiness_probe: Some(readiness),
        // The others learn a moment later than the pod that it goes: until then it takes their requests.
        lifecycle: service.service.http().map(|_| Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction { seconds: PRE_STOP_SECONDS }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        liveness_probe: Some(liveness),
        ..Container::default()
    }
}

/// Whether it is told where the Redis is that the operator makes.
fn uses_own_redis(shop: &ValidShop, service: &ValidService) -> bool {
    service.service.uses_redis() && shop.redis_url.is_none()
}

fn environment(shop: &ValidShop, said: &ValidService) -> Vec<EnvVar> {
    let service = said.service;
    let mut env = said.environment.variables.clone();
    if service == Service::Gateway {
        env.extend(Service::behind_the_gateway().filter_map(|target| {
            let variable_name = format!("ORDERSHOP_{}_URL", target.name().to_uppercase().replace('-', "_"));
            let host = labels::object_name(&shop.owner.name, target.name());
            Some(variable(variable_name, format!("http://{host}:{}", target.http()?.service)))
        }));
    }
    if service.uses_redis() {
        let own = || SecretKey {
            name: labels::object_name(&shop.owner.name, labels::REDIS),
            key: passwords::key(service.name(), &shop.passwords.newest.id),
        };
        env.push(secret_variable("ORDERSHOP_REDIS_URL", &shop.redis_url.clone().unwrap_or_else(own)));
        // The pod's name is the consumer's name in the groups: one that is gone can be told from one that is slow.
        env.push(EnvVar {
            name: "ORDERSHOP_CONSUMER".to_owned(),
            value: None,
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector {
                    field_path: "metadata.name".to_owned(),
                    api_version: Some("v1".to_owned()),
                }),
                ..EnvVarSource::default()
            }),
        });
    }
    if let (Service::Notification, Some(smtp)) = (service, &shop.smtp) {
        env.push(secret_variable("ORDERSHOP_SMTP_URL", smtp));
    }
    if let Some(collector) = &shop.collector {
        let own = traces(shop, said, collector);
        // What the spec says of this service wins: a variable must not stand there twice.
        env.extend(
            own.into_iter().filter(|one| said.environment.variables.iter().all(|said| said.name != one.name)),
        );
    }
    env
}

/// Where its traces go, and what they are said to come from.
fn traces(shop: &ValidShop, said: &ValidService, collector: &Collector) -> Vec<EnvVar> {
    let mut of = vec![
        format!("k8s.namespace.name={}", shop.owner.namespace),
        format!("ordershop.shop={}", shop.owner.name),
    ];
    // An image of its own has a version of its own, which its program knows.
    if said.image.ends_with(&format!(":{}", shop.version)) {
        of.push(format!("service.version={}", shop.version));
    }
    let headers = collector.headers.as_ref();
    let plain = [
        variable("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint),
        variable("OTEL_SERVICE_NAME", format!("ordershop-{}", said.service.name())),
        variable("OTEL_RESOURCE_ATTRIBUTES", of.join(",")),
    ];
    plain.into_iter().chain(headers.map(|at| secret_variable("OTEL_EXPORTER_OTLP_HEADERS", at))).collect()
}

/// A service without Redis is not ready but alive: a restart would not bring Redis back.
fn probes() -> Probes {
    let get = |path: &str| Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("admin".to_owned()),
            ..HTTPGetAction::default()
        }),
        ..Probe::default()
    };
    Probes::new(
        &get("/livez"),
        &get("/readyz"),
        Rhythm { period: 2, timeout: 2, failures: 2 },
        Rhythm { period: 10, timeout: 5, failures: 3 },
    )
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;
    use kube::ResourceExt;
    use serde_json::json;

    use crate::controller::{
        build::tests::{built, built_with, container, deployment, env, template},
        sources::{SourceKind, Sources},
        validate::Problem,
    };

    /// A Secret and a ConfigMap with one key each.
    fn found(secret: (&str, &str, &str), config_map: (&str, &str, &str)) -> Sources {
        let keys = |(name, key, hash): (&str, &str, &str)| {
            (name.to_owned(), Some([(key.to_owned(), hash.to_owned())].into()))
        };
        let ((secret, in_secret), (map, in_map)) = (keys(secret), keys(config_map));
        Sources([((SourceKind::Secret, secret), in_secret), ((SourceKind::ConfigMap, map), in_map)].into())
    }

    /// The Deployments whose pods a change replaces.
    fn rolled(before: &[Deployment], after: &[Deployment]) -> Vec<String> {
        let rolls = before.iter().zip(after).filter(|(before, after)| template(before) != template(after));
        rolls.map(|(_, after)| after.name_any()).collect()
    }

    #[test]
    fn a_change_of_a_secret_or_a_config_map_rolls_what_uses_it_and_nothing_else() {
        let spec = "mail: { smtpSecret: { name: smtp } }
services:
  crm: { env: [{ name: TOKEN, valueFrom: { secretKeyRef: { name: smtp, key: url } } }] }
  gateway: { envFrom: [{ configMapRef: { name: modes } }] }
";
        let built = |secret, map| built_with(spec, &found(("smtp", "url", secret), ("modes", "any", map)));
        let before = built("1", "1").deployments;
        assert_eq!(rolled(&before, &built("2", "1").deployments), ["shop-crm", "shop-notification"]);
        assert_eq!(rolled(&before, &built("1", "2").deployments), ["shop-gateway"]);
        let notification = env(deployment(&built("1", "1"), "shop-notification"));
        assert_eq!(notification[2]["name"], "ORDERSHOP_SMTP_URL");
        assert_eq!(notification[2]["valueFrom"]["secretKeyRef"], json!({"name": "smtp", "key": "url"}));
    }

    #[test]
    fn what_the_spec_says_about_the_pods_of_one_service_rolls_that_service_only() {
        let before = built("{}").deployments;
        for said in [
            "pod: { labels: { team: a } }",
            "pod: { annotations: { team: a } }",
            "pod: { nodeSelector: { disk: ssd } }",
            "pod: { tolerations: [{ operator: Exists }] }",
            "pod: { affinity: { nodeAffinity: { preferredDuringSchedulingIgnoredDuringExecution: \
             [{ weight: 1, preference: { matchFields: [{ key: a, operator: Exists }] } }] } } }",
            "pod: { topologySpreadConstraints: [{ maxSkew: 1, topologyKey: a, whenUnsatisfiable: DoNotSchedule }] }",
            "pod: { priorityClassName: high }",
            "env: [{ name: A, value: b }]",
            "envFrom: [{ prefix: A_, secretRef: { name: s, optional: true } }]",
            "image: a/b:c",
        ] {
            let after = built(&format!("{{ services: {{ readModel: {{ {said} }} }} }}"));
            assert_eq!(rolled(&before, &after.deployments), ["shop-read-model"], "{said}");
            assert_eq!(
                after.deployments.iter().filter(|after| !before.contains(after)).count(),
                1,
                "{said} changes nothing else"
            );
        }
    }

    #[test]
    fn the_operators_own_labels_and_variables_win() {
        let children = built_with(
            "services: { order: { pod: { labels: { app.kubernetes.io/component: x, a: b } },
                envFrom: [{ configMapRef: { name: modes } }] } }",
            &found(("x", "x", "x"), ("modes", "ORDERSHOP_REDIS_URL", "1")),
        );
        let order = deployment(&children, "shop-order");
        let labels = template(order).metadata.as_ref().unwrap().labels.as_ref().unwrap();
        assert_eq!((labels["app.kubernetes.io/component"].as_str(), labels["a"].as_str()), ("order", "b"));
        let urls = env(order);
        let named = urls.as_array().unwrap().iter().filter(|one| one["name"] == "ORDERSHOP_REDIS_URL");
        assert_eq!(named.count(), 1, "a variable wins over all that comes from a source");
        assert_eq!(container(order).env_from.as_ref().unwrap().len(), 1);
    }

    #[test]
    fn with_an_external_redis_there_is_none_of_ours_and_the_services_read_its_url_from_the_secret() {
        let spec = "redis: { external: { urlSecret: { name: redis, key: uri } } }";
        let shop = |hash| {
            let mut keys = found(("redis", "uri", hash), ("x", "x", "x"));
            keys.0.retain(|(kind, _), _| *kind == SourceKind::Secret);
            built_with(spec, &keys)
        };
        let children = shop("1");
        assert!(children.stateful_sets.is_empty() && children.volume_claims.is_empty());
        let redis = children.metadata().filter(|(_, object)| object.name.as_deref() == Some("shop-redis"));
        assert_eq!(redis.count(), 0);
        let url = env(deployment(&children, "shop-order"));
        assert_eq!(url[0]["name"], "ORDERSHOP_REDIS_URL");
        assert_eq!(url[0]["valueFrom"]["secretKeyRef"], json!({"name": "redis", "key": "uri"}));
        let rolled = rolled(&children.deployments, &shop("2").deployments);
        assert_eq!(rolled.len(), 8, "all but the gateway, which does not talk to Redis: {rolled:?}");
    }

    #[test]
    fn where_traces_go_is_said_to_all_services_and_unset_it_changes_nothing() {
        let unset = built("{}").deployments;
        let none = |one: &Deployment| !env(one).to_string().contains("OTEL_");
        assert!(unset.iter().all(none) && built("{ telemetry: {} }").deployments == unset);

        let spec = "telemetry: { otlpEndpoint: http://otel:4318, otlpHeadersSecret: { name: otel } }
services: { crm: { image: a/b:c }, order: { env: [{ name: OTEL_SERVICE_NAME, value: mine }] } }
";
        let shop = |hash| built_with(spec, &found(("otel", "headers", hash), ("x", "x", "x")));
        let children = shop("1");
        let all = env(deployment(&children, "shop-billing"));
        let named = |all: &serde_json::Value, name: &str| {
            let found: Vec<_> =
                all.as_array().unwrap().iter().filter(|one| one["name"] == name).cloned().collect();
            assert_eq!(found.len(), 1, "{name} in {all}");
            found[0].clone()
        };
        assert_eq!(named(&all, "OTEL_EXPORTER_OTLP_ENDPOINT")["value"], "http://otel:4318");
        assert_eq!(named(&all, "OTEL_SERVICE_NAME")["value"], "ordershop-billing");
        assert_eq!(
            named(&all, "OTEL_RESOURCE_ATTRIBUTES")["value"],
            "k8s.namespace.name=ns,ordershop.shop=shop,service.version=1.2.3"
        );
        let headers = named(&all, "OTEL_EXPORTER_OTLP_HEADERS");
        assert_eq!(headers["valueFrom"]["secretKeyRef"], json!({"name": "otel", "key": "headers"}));
        let crm = env(deployment(&children, "shop-crm"));
        assert_eq!(
            named(&crm, "OTEL_RESOURCE_ATTRIBUTES")["value"],
            "k8s.namespace.name=ns,ordershop.shop=shop",
            "an image of its own has a version of its own"
        );
        assert_eq!(named(&env(deployment(&children, "shop-order")), "OTEL_SERVICE_NAME")["value"], "mine");
        assert_eq!(rolled(&unset, &children.deployments).len(), 9);
        assert_eq!(rolled(&children.deployments, &shop("2").deployments).len(), 9);
    }

    #[test]
    fn a_missing_secret_is_one_problem_and_not_the_end() {
        let spec = "services:
  crm: { env: [{ name: A, valueFrom: { secretKeyRef: { name: keys, key: a } } }] }
  order: { env: [{ name: A, valueFrom: { secretKeyRef: { name: keys, key: a, optional: true } } }] }
";
        let shop = crate::controller::build::tests::shop(spec);
        let defaults = crate::controller::build::tests::defaults();
        let valid = crate::controller::validate::validate(&shop, &defaults, &Sources::default()).unwrap();
        let reasons: Vec<_> = valid.problems.iter().map(Problem::reason).collect();
        assert_eq!(reasons, ["SecretNotFound"]);
        assert_eq!(built(spec).deployments.len(), 9);
    }
}
