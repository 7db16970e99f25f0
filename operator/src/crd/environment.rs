//! Further environment of a service: values, and what Secrets and ConfigMaps of the shop's namespace hold.
//!
//! The shapes are those of a container's `env` and `envFrom`, without the sources that a service has no use for.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// One variable of a service's environment, as in a container's `env`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.value) && has(self.valueFrom))")
    .message("env: give a variable value or valueFrom, not both"))]
pub struct Variable {
    /// The variable's name. The names with which the operator tells a service its ports, its consumer's name,
    /// Redis and the other services' URLs cannot be used.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[-._a-zA-Z][-._a-zA-Z0-9]*$"))]
    #[x_kube(validation = Rule::new(
        "!self.matches('^ORDERSHOP_((ADMIN_)?LISTEN|CONSUMER|REDIS_.*|.*_URL)$')"
    ).message(
        "env: the operator sets this variable itself; choose another name, or the field of the spec that is meant for it"
    ))]
    pub name: String,

    /// The value, as text. Default: empty, or what `valueFrom` leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub value: Option<String>,

    /// Where the value is taken from. When it changes there, the service is rolled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<ValueFrom>,
}

/// Where a variable's value is taken from: one of a Secret and a ConfigMap.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.secretKeyRef) != has(self.configMapKeyRef)")
    .message("env.valueFrom: give one of secretKeyRef and configMapKeyRef"))]
pub struct ValueFrom {
    /// One key of a Secret in the shop's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyReference>,

    /// One key of a ConfigMap in the shop's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyReference>,
}

/// One key of a Secret or a ConfigMap in the shop's namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyReference {
    /// The name of the Secret or ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// The key in it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,

    /// Whether the service starts without it. Otherwise a missing one degrades the shop, and new pods of the
    /// service wait for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// All keys of a Secret or a ConfigMap as variables, as in a container's `envFrom`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.secretRef) != has(self.configMapRef)")
    .message("envFrom: give one of secretRef and configMapRef"))]
pub struct VariablesFrom {
    /// What is put before each key to make the variable's name. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub prefix: Option<String>,

    /// A Secret in the shop's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<NameReference>,

    /// A ConfigMap in the shop's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<NameReference>,
}

/// A Secret or a ConfigMap in the shop's namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NameReference {
    /// The name of the Secret or ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// Whether the service starts without it. Otherwise a missing one degrades the shop, and new pods of the
    /// service wait for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// One key of a Secret in the shop's namespace that holds a URL.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// The key in the Secret.
    #[serde(default = "SecretKey::default_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

impl SecretKey {
    fn default_key() -> String {
        "url".to_owned()
    }
}
