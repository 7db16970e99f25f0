//! What can be wrong with a shop, in the words of its spec, and how that is called in conditions, events and metrics.

use crate::controller::{autoscaling::AutoscalingError, sources::SourceKind};
use crate::crd::{InvalidQuantity, MAX_NAME_LENGTH};

/// Something is wrong although the shop can be built: what is not concerned is applied all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A Secret or a ConfigMap is not there.
    #[error("{field}: there is no {} {name:?} in the shop's namespace", .kind.as_str())]
    NoSource {
        /// The field that names it.
        field: String,
        /// What it would be.
        kind: SourceKind,
        /// Its name.
        name: String,
    },
    /// A Secret or a ConfigMap lacks a key.
    #[error("{field}: the {} {name:?} has no key {key:?}", .kind.as_str())]
    NoKey {
        /// The field that names it.
        field: String,
        /// What it is.
        kind: SourceKind,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
}

impl Problem {
    /// The field of the spec that names what is missing.
    #[must_use]
    pub fn field(&self) -> &str {
        match self {
            Self::NoSource { field, .. } | Self::NoKey { field, .. } => field,
        }
    }

    /// The variant, for conditions and events.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoSource { kind: SourceKind::Secret, .. } => "SecretNotFound",
            Self::NoSource { kind: SourceKind::ConfigMap, .. } => "ConfigMapNotFound",
            Self::NoKey { kind: SourceKind::Secret, .. } => "SecretKeyNotFound",
            Self::NoKey { kind: SourceKind::ConfigMap, .. } => "ConfigMapKeyNotFound",
        }
    }
}

/// The shop cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidateError {
    /// The resource does not come from an API server.
    #[error("metadata.{0} is missing")]
    Metadata(&'static str),
    /// The name cannot be the beginning of the objects' names.
    #[error(
        "metadata.name {0:?}: needs lower-case letters, digits and '-', a letter first, {MAX_NAME_LENGTH} at most"
    )]
    Name(String),
    /// An amount is not one.
    #[error("{field}: {source}")]
    Quantity {
        /// Where it stands.
        field: String,
        /// What is wrong with it.
        source: InvalidQuantity,
    },
    /// The pods cannot be that many.
    #[error("spec.services.{field}.replicas: {replicas} is less than 0")]
    Replicas {
        /// The service.
        field: &'static str,
        /// What the spec says.
        replicas: i32,
    },
    /// Something is not what Kubernetes has at this place.
    #[error("{field}: {what}")]
    NotKubernetes {
        /// Where it stands.
        field: String,
        /// What is wrong with it.
        what: String,
    },
    /// The URL of the Redis that somebody else runs is not there. Nothing could run, so what runs is left alone.
    #[error(transparent)]
    NoRedis(Problem),
    /// A service cannot be scaled so.
    #[error("spec.services.{field}.autoscaling: {source}")]
    Autoscaling {
        /// The service.
        field: &'static str,
        /// What is wrong with it.
        source: AutoscalingError,
    },
    /// A port without the type of Service that has one.
    #[error("spec.gateway.service.nodePort needs spec.gateway.service.type NodePort or LoadBalancer")]
    NodePort,
}

impl ValidateError {
    /// The variant, for conditions, events and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Metadata(_) => "InvalidMetadata",
            Self::Name(_) => "InvalidName",
            Self::Quantity { .. } => "InvalidQuantity",
            Self::Replicas { .. } => "InvalidReplicas",
            Self::NotKubernetes { .. } => "InvalidField",
            Self::NoRedis(problem) => problem.reason(),
            Self::Autoscaling { .. } => "InvalidAutoscaling",
            Self::NodePort => "InvalidNodePort",
        }
    }
}
