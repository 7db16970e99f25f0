//! Which Secrets and ConfigMaps a shop's services read, and whether they are there, pure.
//!
//! One list answers for everything: what has to be fetched, what is missing, and what rolls a service when it
//! changes. Values are never kept, only their hashes.

use std::collections::{BTreeMap, BTreeSet};

use super::validate::Problem;
use crate::{
    crd::{KeyReference, NameReference, OrderShopSpec},
    service::Service,
};

/// The field that says where the URL of an external Redis is.
pub const REDIS_URL: &str = "spec.redis.external.urlSecret";

/// A kind of object that holds configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceKind {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
}

impl SourceKind {
    /// The kind as Kubernetes writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        }
    }
}

/// An object that holds configuration, in the shop's namespace.
pub type Source = (SourceKind, String);

/// Where a service reads from a Secret or a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The field of the spec that says so.
    pub field: String,
    /// What is read.
    pub source: Source,
    /// Which key; `None`: all of them.
    pub key: Option<String>,
    /// Whether the service starts without it.
    pub optional: bool,
}

/// What was found: each key with a hash of its value, by object; `None` for an object that is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(pub BTreeMap<Source, Option<BTreeMap<String, String>>>);

impl Sources {
    /// A hash of what is read, or what is wrong with it. `Ok(None)`: it is not there and need not be.
    pub fn look_up(&self, used: &Use) -> Result<Option<String>, Problem> {
        let missing = |problem: Problem| if used.optional { Ok(None) } else { Err(problem) };
        let (kind, name) = &used.source;
        let Some(keys) = self.0.get(&used.source).and_then(Option::as_ref) else {
            return missing(Problem::NoSource { field: used.field.clone(), kind: *kind, name: name.clone() });
        };
        let Some(key) = &used.key else {
            return Ok(Some(
                keys.iter().map(|(key, hash)| format!("{key}={hash}")).collect::<Vec<_>>().join(","),
            ));
        };
        match keys.get(key) {
            Some(hash) => Ok(Some(hash.clone())),
            None => missing(Problem::NoKey {
                field: used.field.clone(),
                kind: *kind,
                name: name.clone(),
                key: key.clone(),
            }),
        }
    }
}

/// All objects that hold configuration of a shop, each once.
#[must_use]
pub fn wanted(spec: &OrderShopSpec) -> BTreeSet<Source> {
    Service::ALL.into_iter().flat_map(|service| uses_of(spec, service)).map(|used| used.source).collect()
}

/// What one service reads, in a fixed order.
#[must_use]
pub fn uses_of(spec: &OrderShopSpec, service: Service) -> Vec<Use> {
    let mut uses = Vec::new();
    let external = spec.redis.external.as_ref().filter(|_| service.uses_redis());
    uses.extend(external.map(|external| Use {
        field: REDIS_URL.to_owned(),
        source: (SourceKind::Secret, external.url_secret.name.clone()),
        key: Some(external.url_secret.key.clone()),
        optional: false,
    }));
    if let (Service::Notification, Some(at)) = (service, &spec.mail.smtp_secret) {
        uses.push(Use {
            field: "spec.mail.smtpSecret".to_owned(),
            source: (SourceKind::Secret, at.name.clone()),
            key: Some(at.key.clone()),
            optional: false,
        });
    }
    uses.extend(spec.telemetry.otlp_headers_secret.as_ref().map(|at| Use {
        field: "spec.telemetry.otlpHeadersSecret".to_owned(),
        source: (SourceKind::Secret, at.name.clone()),
        key: Some(at.key.clone()),
        optional: false,
    }));
    let said = spec.services.get(service);
    let path = format!("spec.services.{}", service.field());
    for variable in &said.env {
        let Some(from) = &variable.value_from else { continue };
        let field = |name| format!("{path}.env[{}].valueFrom.{name}", variable.name);
        let of_key = |kind, field, reference: &KeyReference| Use {
            field,
            source: (kind, reference.name.clone()),
            key: Some(reference.key.clone()),
            optional: reference.optional.unwrap_or(false),
        };
        let secret = from.secret_key_ref.as_ref();
        let config_map = from.config_map_key_ref.as_ref();
        uses.extend(secret.map(|at| of_key(SourceKind::Secret, field("secretKeyRef"), at)));
        uses.extend(config_map.map(|at| of_key(SourceKind::ConfigMap, field("configMapKeyRef"), at)));
    }
    for (index, from) in said.env_from.iter().enumerate() {
        let field = |name| format!("{path}.envFrom[{index}].{name}");
        let of_all = |kind, field, reference: &NameReference| Use {
            field,
            source: (kind, reference.name.clone()),
            key: None,
            optional: reference.optional.unwrap_or(false),
        };
        let (secret, config_map) = (from.secret_ref.as_ref(), from.config_map_ref.as_ref());
        uses.extend(secret.map(|at| of_all(SourceKind::Secret, field("secretRef"), at)));
        uses.extend(config_map.map(|at| of_all(SourceKind::ConfigMap, field("configMapRef"), at)));
    }
    uses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> OrderShopSpec {
        serde_norway::from_str(
            "mail: { smtpSecret: { name: smtp } }
services:
  crm:
    env:
      - { name: PLAIN, value: x }
      - { name: TOKEN, valueFrom: { secretKeyRef: { name: keys, key: token } } }
      - { name: MODE, valueFrom: { configMapKeyRef: { name: modes, key: crm, optional: true } } }
    envFrom:
      - { secretRef: { name: keys } }
      - { prefix: X_, configMapRef: { name: all } }
",
        )
        .unwrap()
    }

    #[test]
    fn each_object_is_wanted_once() {
        let wanted: Vec<_> = wanted(&spec()).into_iter().map(|(kind, name)| (kind.as_str(), name)).collect();
        let of = |kind, name: &str| (kind, name.to_owned());
        assert_eq!(
            wanted,
            [of("Secret", "keys"), of("Secret", "smtp"), of("ConfigMap", "all"), of("ConfigMap", "modes")]
        );
    }

    #[test]
    fn a_service_uses_what_its_own_part_of_the_spec_names() {
        let fields =
            |service| uses_of(&spec(), service).into_iter().map(|used| used.field).collect::<Vec<_>>();
        assert_eq!(fields(Service::Notification), ["spec.mail.smtpSecret"]);
        assert_eq!(
            fields(Service::Crm),
            [
                "spec.services.crm.env[TOKEN].valueFrom.secretKeyRef",
                "spec.services.crm.env[MODE].valueFrom.configMapKeyRef",
                "spec.services.crm.envFrom[0].secretRef",
                "spec.services.crm.envFrom[1].configMapRef",
            ]
        );
        assert!(fields(Service::Order).is_empty());
    }

    #[test]
    fn what_is_missing_is_named_unless_it_may_be() {
        let keys = [("other".to_owned(), "h".to_owned())].into();
        let found = Sources([((SourceKind::Secret, "keys".to_owned()), Some(keys))].into());
        let said: Vec<_> = uses_of(&spec(), Service::Crm)
            .iter()
            .map(|used| found.look_up(used).map_err(|problem| (problem.reason(), problem.to_string())))
            .collect();
        assert_eq!(
            said,
            [
                Err((
                    "SecretKeyNotFound",
                    "spec.services.crm.env[TOKEN].valueFrom.secretKeyRef: the Secret \"keys\" has no key \"token\""
                        .to_owned()
                )),
                Ok(None),
                Ok(Some("other=h".to_owned())),
                Err((
                    "ConfigMapNotFound",
                    "spec.services.crm.envFrom[1].configMapRef: there is no ConfigMap \"all\" in the shop's namespace"
                        .to_owned()
                )),
            ]
        );
    }
}
