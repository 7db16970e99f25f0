//! Step 2, pure: turns a loose resource into what the shop will be.
//!
//! After this step nobody reads the raw spec: every default is filled in, every image is a whole reference, and
//! what cannot be is an error that names the field. The API server has checked most of it already by the schema;
//! what an older schema let through is caught here.

use kube::{Resource, ResourceExt};

use super::fetch::SmtpSecret;
use crate::{
    crd::{
        GatewayServiceType, InvalidQuantity, MAX_NAME_LENGTH, OrderShop, Persistence, PullPolicy, Quantity,
        Resources, SecretKey,
    },
    service::Service,
};

/// What a shop gets that does not say otherwise: the operator's own configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// The registry and path of the services' images.
    pub registry: String,
    /// The version of the services.
    pub version: String,
    /// The whole image of Redis.
    pub redis_image: String,
}

/// A shop that can be built.
#[derive(Clone, Debug)]
pub struct ValidShop {
    /// Whose objects these are.
    pub owner: Owner,
    /// The generation of the spec.
    pub generation: Option<i64>,
    /// The version of the services.
    pub version: String,
    /// Whether the operator changes nothing.
    pub paused: bool,
    /// When the nodes pull an image.
    pub pull_policy: PullPolicy,
    /// The names of the Secrets with the credentials for the registry.
    pub pull_secrets: Vec<String>,
    /// Redis.
    pub redis: ValidRedis,
    /// The nine services, in their order.
    pub services: Vec<ValidService>,
    /// The type of the gateway's Service.
    pub gateway_type: GatewayServiceType,
    /// The gateway's port on every node.
    pub node_port: Option<i32>,
    /// Where the mail server's URL is.
    pub smtp: Option<ValidSmtp>,
    /// What is wrong although the shop can be built.
    pub problems: Vec<Problem>,
}

/// The shop as the owner of its objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
}

/// Redis, with every default filled in.
#[derive(Clone, Debug)]
pub struct ValidRedis {
    /// The whole image.
    pub image: String,
    /// The size of the volume.
    pub storage_size: Quantity,
    /// The class of the volume.
    pub storage_class: Option<String>,
    /// How much a power loss can cost.
    pub persistence: Persistence,
    /// CPU and memory.
    pub resources: Resources,
}

/// One of the nine services, with every default filled in.
#[derive(Clone, Debug)]
pub struct ValidService {
    /// Which one.
    pub service: Service,
    /// How many pods.
    pub replicas: i32,
    /// The whole image.
    pub image: String,
    /// CPU and memory.
    pub resources: Resources,
}

/// Where the mail server's URL is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidSmtp {
    /// The key of the Secret.
    pub at: SecretKey,
    /// A hash of the URL; `None` when it is not there (yet).
    pub hash: Option<String>,
}

/// Something is wrong although the shop can be built: what is not concerned is applied all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The Secret with the mail server's URL is not there.
    #[error("spec.mail.smtpSecret: there is no Secret {0:?} in the shop's namespace")]
    NoSmtpSecret(String),
    /// The Secret with the mail server's URL lacks the key.
    #[error("spec.mail.smtpSecret: the Secret {:?} has no key {:?}", .0.name, .0.key)]
    NoSmtpKey(SecretKey),
}

impl Problem {
    /// The variant, for conditions and events.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoSmtpSecret(_) => "SmtpSecretNotFound",
            Self::NoSmtpKey(_) => "SmtpSecretKeyNotFound",
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
            Self::NodePort => "InvalidNodePort",
        }
    }
}

/// What the shop will be.
pub fn validate(
    shop: &OrderShop,
    defaults: &Defaults,
    smtp: Option<&SmtpSecret>,
) -> Result<ValidShop, ValidateError> {
    let owner = owner(shop)?;
    let spec = &shop.spec;
    let version = spec.version.as_ref().unwrap_or(&defaults.version);
    let registry = spec.image.registry.as_ref().unwrap_or(&defaults.registry).trim_end_matches('/');
    let gateway = &spec.gateway.service;
    if gateway.node_port.is_some() && gateway.type_ == GatewayServiceType::ClusterIP {
        return Err(ValidateError::NodePort);
    }
    let services = Service::ALL
        .into_iter()
        .map(|service| {
            let said = spec.services.get(service);
            let field = service.field();
            if said.replicas < 0 {
                return Err(ValidateError::Replicas { field, replicas: said.replicas });
            }
            Ok(ValidService {
                service,
                replicas: said.replicas,
                image: said
                    .image
                    .clone()
                    .unwrap_or_else(|| format!("{registry}/ordershop-{}:{version}", service.name())),
                resources: resources(said.resources.as_ref(), &format!("spec.services.{field}"), &SERVICE)?,
            })
        })
        .collect::<Result<_, _>>()?;
    let storage_size = spec.redis.storage.size.clone();
    check(&storage_size, || "spec.redis.storage.size".to_owned())?;
    let redis = ValidRedis {
        image: spec.redis.image.clone().unwrap_or_else(|| defaults.redis_image.clone()),
        storage_size,
        storage_class: spec.redis.storage.class_name.clone(),
        persistence: spec.redis.persistence,
        resources: resources(spec.redis.resources.as_ref(), "spec.redis", &REDIS)?,
    };
    let (smtp, problems) = mail(spec.mail.smtp_secret.as_ref(), smtp);
    Ok(ValidShop {
        owner,
        generation: shop.meta().generation,
        version: version.clone(),
        paused: spec.paused,
        pull_policy: spec.image.pull_policy,
        pull_secrets: spec.image.pull_secrets.iter().map(|secret| secret.name.clone()).collect(),
        redis,
        services,
        gateway_type: gateway.type_,
        node_port: gateway.node_port,
        smtp,
        problems,
    })
}

fn owner(shop: &OrderShop) -> Result<Owner, ValidateError> {
    let name = shop.name_any();
    let named_well = name.len() <= MAX_NAME_LENGTH
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !named_well {
        return Err(ValidateError::Name(name));
    }
    Ok(Owner {
        name,
        namespace: shop.namespace().ok_or(ValidateError::Metadata("namespace"))?,
        uid: shop.uid().ok_or(ValidateError::Metadata("uid"))?,
    })
}

fn mail(wanted: Option<&SecretKey>, found: Option<&SmtpSecret>) -> (Option<ValidSmtp>, Vec<Problem>) {
    let Some(at) = wanted else { return (None, Vec::new()) };
    let (hash, problem) = match found {
        Some(SmtpSecret::Found { hash }) => (Some(hash.clone()), None),
        Some(SmtpSecret::NoKey) => (None, Some(Problem::NoSmtpKey(at.clone()))),
        Some(SmtpSecret::NoSecret) | None => (None, Some(Problem::NoSmtpSecret(at.name.clone()))),
    };
    (Some(ValidSmtp { at: at.clone(), hash }), problem.into_iter().collect())
}

/// What a container gets that does not say otherwise.
struct DefaultResources {
    cpu_request: &'static str,
    memory_request: &'static str,
    memory_limit: Option<&'static str>,
}

const SERVICE: DefaultResources =
    DefaultResources { cpu_request: "20m", memory_request: "24Mi", memory_limit: Some("256Mi") };

/// No limit: Redis that meets one is killed, and with `everysec` the last second with it.
const REDIS: DefaultResources =
    DefaultResources { cpu_request: "50m", memory_request: "64Mi", memory_limit: None };

/// Requests and limits each replace their default as a whole.
fn resources(
    said: Option<&Resources>,
    path: &str,
    default: &DefaultResources,
) -> Result<Resources, ValidateError> {
    let mut resources = said.cloned().unwrap_or_default();
    for (list, amounts) in [("requests", &resources.requests), ("limits", &resources.limits)] {
        for (name, amount) in amounts {
            check(amount, || format!("{path}.resources.{list}.{name}"))?;
        }
    }
    let amount = |name: &str, amount| (name.to_owned(), Quantity::literal(amount));
    if resources.requests.is_empty() {
        resources
            .requests
            .extend([amount("cpu", default.cpu_request), amount("memory", default.memory_request)]);
    }
    if resources.limits.is_empty() {
        resources.limits.extend(default.memory_limit.map(|limit| amount("memory", limit)));
    }
    Ok(resources)
}

fn check(amount: &Quantity, field: impl FnOnce() -> String) -> Result<(), ValidateError> {
    amount.nanos().map(drop).map_err(|source| ValidateError::Quantity { field: field(), source })
}
