//! Redis: one instance with a volume of its own, set up so that no event is dropped.

use k8s_openapi::{
    api::{
        apps::v1::{
            StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
            StatefulSetUpdateStrategy,
        },
        core::v1::{
            Container, ContainerPort, ExecAction, KeyToPath, PodTemplateSpec, Probe, SecretVolumeSource,
            Service as ServiceObject, ServicePort, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::{
    metadata,
    pod::{self, Probes, Rhythm, User, secret_variable},
    secret,
    service::service_object,
    volume,
};
use crate::{
    controller::{hash, labels, passwords, validate::ValidShop},
    crd::{OnDelete, SecretKey},
    rights::READER,
};

/// Redis' own port.
pub(super) const PORT: i32 = 6379;

/// Where the volume is.
const DATA: &str = "/data";

/// The volume with the users and their rights, and the path where it is.
const USERS: (&str, &str) = ("users", "/etc/redis-users");
const ACL_FILE: &str = "users.acl";

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
            template: template(shop),
            volume_claim_templates: Some(vec![volume::template(shop)]),
            persistent_volume_claim_retention_policy: Some(retention(shop.redis.on_delete)),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }]
}

/// Kubernetes itself deletes the claim with the StatefulSet, or not: no finalizer waits for this operator. Scaling to
/// nothing never costs data.
fn retention(on_delete: OnDelete) -> StatefulSetPersistentVolumeClaimRetentionPolicy {
    let when_deleted = match on_delete {
        OnDelete::Retain => "Retain",
        OnDelete::Delete => "Delete",
    };
    StatefulSetPersistentVolumeClaimRetentionPolicy {
        when_deleted: Some(when_deleted.to_owned()),
        when_scaled: Some("Retain".to_owned()),
    }
}

/// Redis reads its users when it starts: a change of them rolls it.
fn template(shop: &ValidShop) -> PodTemplateSpec {
    let users = Some(hash::of_bytes(secret::acl(&shop.passwords).as_bytes()));
    let mut template = pod::template(shop, labels::REDIS, USER, &shop.redis.pod, users, container(shop));
    passwords::mark(&mut template, &shop.passwords);
    let spec = template.spec.get_or_insert_default();
    spec.volumes = Some(vec![Volume {
        name: USERS.0.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(labels::object_name(&shop.owner.name, labels::REDIS)),
            // The group of the volumes, and nobody else.
            default_mode: Some(0o440),
            items: Some(vec![KeyToPath {
                key: secret::ACL.to_owned(),
                path: ACL_FILE.to_owned(),
                mode: None,
            }]),
            optional: None,
        }),
        ..Volume::default()
    }]);
    template
}

fn container(shop: &ValidShop) -> Container {
    let password = SecretKey {
        name: labels::object_name(&shop.owner.name, labels::REDIS),
        key: passwords::key(READER, &shop.passwords.newest.id),
    };
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
        // With it, redis-cli in this pod can be the reader.
        env: Some(vec![secret_variable("REDISCLI_AUTH", &password)]),
        volume_mounts: Some(vec![mount((volume::NAME, DATA), false), mount(USERS, true)]),
        resources: Some(pod::resources(&shop.redis.resources)),
        startup_probe: Some(startup),
        readiness_probe: Some(readiness),
        liveness_probe: Some(liveness),
        ..Container::default()
    }
}

fn mount((volume, path): (&str, &str), read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

/// The append-only file is the log's durability, so snapshots are off; and events are never evicted.
fn arguments(shop: &ValidShop) -> Vec<String> {
    let port = PORT.to_string();
    let users = format!("{}/{ACL_FILE}", USERS.1);
    [
        ["--port", port.as_str()],
        ["--dir", DATA],
        ["--appendonly", "yes"],
        ["--appendfsync", shop.redis.persistence.appendfsync()],
        ["--save", ""],
        ["--maxmemory-policy", "noeviction"],
        ["--aclfile", users.as_str()],
    ]
    .concat()
    .into_iter()
    .map(str::to_owned)
    .collect()
}

/// Loading the data may take so long, seconds.
const LOADED_WITHIN: i32 = 3600;

/// A start ends when Redis has loaded its data and writes its file anew: it leaves what a crash has cut of a
/// transaction at the end of the file, and would carry it out at its next start. Nobody is let in before. While it
/// loads it answers `LOADING`, which `-e` turns into a failure: it is not ready, but alive, since a restart would
/// begin the loading again.
fn probes() -> Probes {
    let run = |command: &[&str]| Probe {
        exec: Some(ExecAction { command: Some(command.iter().map(|&word| word.to_owned()).collect()) }),
        ..Probe::default()
    };
    let probes = Probes::new(
        &run(&["redis-cli", "--user", READER, "ping"]),
        &run(&["redis-cli", "--user", READER, "-e", "ping"]),
        Rhythm { period: 5, timeout: 5, failures: 2 },
        Rhythm { period: 10, timeout: 10, failures: 6 },
    );
    let started = run(&["redis-cli", "--user", READER, "-e", "bgrewriteaof"]);
    let startup = Probe { exec: started.exec, failure_threshold: Some(LOADED_WITHIN), ..probes.startup };
    Probes { startup, ..probes }
}
