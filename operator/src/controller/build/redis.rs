//! Redis: one instance with a volume of its own, set up so that no event is dropped.

use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy},
        core::v1::{
            Container, ContainerPort, ExecAction, Probe, Service as ServiceObject, ServicePort, VolumeMount,
        },
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::{
    metadata,
    pod::{self, Probes, Rhythm, User},
    service::service_object,
    volume,
};
use crate::controller::{labels, validate::ValidShop};

/// Redis' own port.
pub(super) const PORT: i32 = 6379;

/// Where the volume is.
const DATA: &str = "/data";

/// The user of the Redis images, to whom the volume belongs.
const USER: User = User { id: 999, owns_volumes: true };

/// The Service through which the services find Redis.
pub(super) fn service(shop: &ValidShop) -> ServiceObject {
    service_object(
        shop,
        labels::REDIS,
        "ClusterIP",
        ServicePort {
            name: Some("redis".to_owned()),
            port: PORT,
            target_port: Some(IntOrString::String("redis".to_owned())),
            protocol: Some("TCP".to_owned()),
            ..ServicePort::default()
        },
    )
}

/// The StatefulSet of Redis.
pub(in crate::controller) fn stateful_sets(shop: &ValidShop) -> Vec<StatefulSet> {
    if shop.redis_url.is_some() {
        return Vec::new();
    }
    vec![StatefulSet {
        metadata: metadata(&shop.owner, labels::REDIS),
        spec: Some(StatefulSetSpec {
            replicas: Some(i32::from(!shop.hibernated)),
            service_name: Some(labels::object_name(&shop.owner.name, labels::REDIS)),
            // With the ordered policy a pod that never got ready is not replaced by its fix.
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                ..StatefulSetUpdateStrategy::default()
            }),
            revision_history_limit: Some(3),
            selector: LabelSelector {
                match_labels: Some(labels::selector(&shop.owner.name, labels::REDIS)),
                ..LabelSelector::default()
            },
            template: pod::template(shop, labels::REDIS, USER, &shop.redis.pod, None, container(shop)),
            volume_claim_templates: Some(vec![volume::template(shop)]),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }]
}

fn container(shop: &ValidShop) -> Container {
    let Probes { startup, readiness, liveness } = probes();
    Container {
        name: labels::REDIS.to_owned(),
        image: Some(shop.redis.image.clone()),
        args: Some(arguments(shop)),
        ports: Some(vec![ContainerPort {
            name: Some("redis".to_owned()),
            container_port: PORT,
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        volume_mounts: Some(vec![VolumeMount {
            name: volume::NAME.to_owned(),
            mount_path: DATA.to_owned(),
            ..VolumeMount::default()
        }]),
        resources: Some(pod::resources(&shop.redis.resources)),
        startup_probe: Some(startup),
        readiness_probe: Some(readiness),
        liveness_probe: Some(liveness),
        ..Container::default()
    }
}

/// The append-only file is the log's durability, so snapshots are off; and events are never evicted. Other pods
/// connect without a password, which the protected mode of some builds refuses.
fn arguments(shop: &ValidShop) -> Vec<String> {
    let port = PORT.to_string();
    [
        ["--port", port.as_str()],
        ["--dir", DATA],
        ["--appendonly", "yes"],
        ["--appendfsync", shop.redis.persistence.appendfsync()],
        ["--save", ""],
        ["--maxmemory-policy", "noeviction"],
        ["--protected-mode", "no"],
    ]
    .concat()
    .into_iter()
    .map(str::to_owned)
    .collect()
}

/// While Redis loads its data it answers `LOADING`: it is alive, since a restart would begin the loading again,
/// but not ready, which `-e` turns into a failure.
fn probes() -> Probes {
    let run = |command: &[&str]| Probe {
        exec: Some(ExecAction { command: Some(command.iter().map(|&word| word.to_owned()).collect()) }),
        ..Probe::default()
    };
    Probes::new(
        &run(&["redis-cli", "ping"]),
        &run(&["redis-cli", "-e", "ping"]),
        Rhythm { period: 5, timeout: 5, failures: 2 },
        Rhythm { period: 10, timeout: 10, failures: 6 },
    )
}
