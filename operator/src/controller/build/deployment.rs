//! The Deployments of the nine services.

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            ConfigMapEnvSource, Container, ContainerPort, EnvFromSource, EnvVar, EnvVarSource, HTTPGetAction,
            Lifecycle, LifecycleHandler, ObjectFieldSelector, Probe, SecretKeySelector, SleepAction,
        },
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::{
    config_map, metadata,
    pod::{self, Probes, Rhythm, User, variable},
};
use crate::{
    controller::{
        hash, labels,
        validate::{ValidService, ValidShop},
    },
    service::Service,
};

const ADMIN_PORT: i32 = 9090;
const USER: User = User { id: 65532, owns_volumes: false };

/// After this long without progress a rollout counts as failed.
const PROGRESS_DEADLINE_SECONDS: i32 = 120;

/// How long a pod that is to go still takes requests: until every node has taken it out of its Services.
const PRE_STOP_SECONDS: i64 = 3;

/// One Deployment per service.
pub(in crate::controller) fn deployments(shop: &ValidShop) -> Vec<Deployment> {
    let config_hash = config_map::hash(shop);
    shop.services.iter().map(|service| deployment(shop, service, &config_hash)).collect()
}

fn deployment(shop: &ValidShop, service: &ValidService, config_hash: &str) -> Deployment {
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
            template: pod::template(
                shop,
                name,
                USER,
                used_config(shop, service.service, config_hash),
                container(shop, service),
            ),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// A hash of what this service reads beside its own pod template, so that a change rolls just what uses it.
fn used_config(shop: &ValidShop, service: Service, config_hash: &str) -> Option<String> {
    let secret = match service {
        Service::Notification => shop.smtp.as_ref().and_then(|smtp| smtp.hash.as_deref()),
        _ => None,
    };
    match (service.uses_redis(), secret) {
        (false, _) => None,
        (true, None) => Some(config_hash.to_owned()),
        (true, Some(secret)) => Some(hash::of_bytes(format!("{config_hash} {secret}").as_bytes())),
    }
}

fn container(shop: &ValidShop, service: &ValidService) -> Container {
    let port = |name: &str, number| ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let ports = service.service.http().map(|http| port("http", http.container));
    let env = environment(shop, service.service);
    let Probes { startup, readiness, liveness } = probes();
    Container {
        name: service.service.name().to_owned(),
        image: Some(service.image.clone()),
        ports: Some(ports.into_iter().chain([port("admin", ADMIN_PORT)]).collect()),
        env: (!env.is_empty()).then_some(env),
        env_from: service.service.uses_redis().then(|| {
            vec![EnvFromSource {
                config_map_ref: Some(ConfigMapEnvSource {
                    name: labels::object_name(&shop.owner.name, config_map::CONFIG),
                    optional: None,
                }),
                ..EnvFromSource::default()
            }]
        }),
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

fn environment(shop: &ValidShop, service: Service) -> Vec<EnvVar> {
    let mut env = Vec::new();
    if service == Service::Gateway {
        env.extend(Service::behind_the_gateway().filter_map(|target| {
            let variable_name = format!("ORDERSHOP_{}_URL", target.name().to_uppercase().replace('-', "_"));
            let host = labels::object_name(&shop.owner.name, target.name());
            Some(variable(variable_name, format!("http://{host}:{}", target.http()?.service)))
        }));
    }
    if service.uses_redis() {
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
        env.push(EnvVar {
            name: "ORDERSHOP_SMTP_URL".to_owned(),
            value: None,
            value_from: Some(EnvVarSource {
                secret_key_ref: Some(SecretKeySelector {
                    name: smtp.at.name.clone(),
                    key: smtp.at.key.clone(),
                    optional: None,
                }),
                ..EnvVarSource::default()
            }),
        });
    }
    env
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
