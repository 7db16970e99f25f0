//! The Redis that holds the events and the entities.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{ExternalRedis, PodSettings, Quantity, Resources};

/// The Redis that holds the events and the entities: one instance with a volume of its own.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.external) || (!has(self.image) && !has(self.resources))")
    .message("redis.external: the operator makes no Redis then; take redis.image and redis.resources away"))]
pub struct RedisSpec {
    /// The image: Redis or Valkey that speaks Redis 7.0 or newer, with `redis-cli` in it. Default: what the
    /// operator was installed with (its `--default-redis-image`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,

    /// A Redis that somebody else runs, instead of one that the operator makes. What else is said here about Redis
    /// has no effect then; a volume that was made before stays. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalRedis>,

    /// The volume that holds the data.
    #[serde(default)]
    pub storage: StorageSpec,

    /// What becomes of the volume when the shop is deleted, or moves to an external Redis. `retain`: it stays, and a
    /// shop of the same name finds the data again. `delete`: it goes, and all events with it.
    #[serde(default)]
    pub on_delete: OnDelete,

    /// What the end of Redis can cost. `everysec`: after a power loss, or when Redis is killed while its disk
    /// is busy, the last two seconds of events. `always`: nothing, and every append waits for the disk.
    #[serde(default)]
    pub persistence: Persistence,

    /// Any text; when it changes, all passwords of Redis' users are made anew, and Redis and the services are
    /// rolled one after the other while the old passwords are valid, too. Write the date, for example.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub password_rotation: String,

    /// CPU and memory of the Redis container. Default: requests of 50m and 64Mi, no limits, since Redis that
    /// meets a limit loses writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// What the Redis pod carries for others to see, and on which node it runs.
    #[serde(default)]
    pub pod: PodSettings,
}

/// The volume that holds Redis' data.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "has(self.className) == has(oldSelf.className) && (!has(self.className) || self.className == oldSelf.className)"
    )
    .message("redis.storage.className cannot be set, changed or removed: the volume was made with it"),
)]
pub struct StorageSpec {
    /// The size of the volume. It can be made larger at any time, where the storage class allows that
    /// (`allowVolumeExpansion`): the volume grows while Redis runs. It cannot be made smaller.
    #[serde(default = "StorageSpec::default_size")]
    #[x_kube(validation = Rule::new("!quantity(string(self)).isLessThan(quantity(string(oldSelf)))")
        .message("redis.storage.size cannot be made smaller: a volume only grows"))]
    pub size: Quantity,

    /// The storage class of the volume. Default: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class_name: Option<String>,
}

impl StorageSpec {
    fn default_size() -> Quantity {
        Quantity::literal("1Gi")
    }
}

impl Default for StorageSpec {
    fn default() -> Self {
        Self { size: Self::default_size(), class_name: None }
    }
}

/// What becomes of the volume when the shop is deleted.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDelete {
    /// It stays.
    #[default]
    Retain,
    /// It goes.
    Delete,
}

/// How much a power loss can cost: Redis' `appendfsync`.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Persistence {
    /// At most the last second of events.
    #[default]
    Everysec,
    /// Nothing: every append waits for the disk.
    Always,
}

impl Persistence {
    /// The value of Redis' `appendfsync`.
    #[must_use]
    pub fn appendfsync(self) -> &'static str {
        match self {
            Self::Everysec => "everysec",
            Self::Always => "always",
        }
    }
}
