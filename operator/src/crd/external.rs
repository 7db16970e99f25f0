//! A Redis that somebody else runs.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::SecretKey;

/// A Redis that somebody else runs: the operator makes none, and no volume. Its data is not copied from or to a
/// Redis that the operator made.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalRedis {
    /// The Secret that holds its URL, `redis://user:password@host:6379` or `rediss://…` with TLS. When the Secret
    /// changes, the services are rolled, within half a minute.
    pub url_secret: SecretKey,
}
