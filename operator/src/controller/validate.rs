//! Step 2, pure: turns a loose resource into what the shop will be.
//!
//! After this step nobody reads the raw spec: every default is filled in, every image is a whole reference, and
//! what cannot be is an error that names the field. The API server has checked most of it already by the schema;
//! what an older schema let through is caught here.

mod error;
mod pods;
mod telemetry;

use kube::{Resource, ResourceExt};

pub use self::{
    error::{Problem, ValidateError},
    pods::{ValidEnvironment, ValidPod},
    telemetry::Collector,
};
use super::{
    autoscaling::{self, Autoscaling},
    labels,
    passwords::Passwords,
    sources::{self, Sources},
};
use crate::{
    crd::{
        GatewayServiceType, IngressSpec, MAX_NAME_LENGTH, NetworkPolicySpec, OnDelete, OrderShop,
        OrderShopSpec, Persistence, PullPolicy, Quantity, Resources, SecretKey,
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
    /// Whether everything is stopped.
    pub hibernated: bool,
    /// When the nodes pull an image.
    pub pull_policy: PullPolicy,
    /// The names of the Secrets with the credentials for the registry.
    pub pull_secrets: Vec<String>,
    /// Redis, when the operator makes it.
    pub redis: ValidRedis,
    /// Where the URL of a Redis is that somebody else runs; then the operator makes none.
    pub redis_url: Option<SecretKey>,
    /// The nine services, in their order.
    pub services: Vec<ValidService>,
    /// The type of the gateway's Service.
    pub gateway_type: GatewayServiceType,
    /// The gateway's port on every node.
    pub node_port: Option<i32>,
    /// The Ingress in front of the gateway.
    pub ingress: Option<IngressSpec>,
    /// The key of the Secret with the mail server's URL.
    pub smtp: Option<SecretKey>,
    /// Where traces go.
    pub collector: Option<Collector>,
    /// Whether a service reads Secrets or ConfigMaps that the spec names: nobody says when those change.
    pub reads_sources: bool,
    /// Who may connect to whom.
    pub network: NetworkPolicySpec,
    /// The passwords of Redis' users: filled in from what is there ([`crate::controller::passwords`]).
    pub passwords: Passwords,
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
    /// What becomes of the volume when the shop is deleted.
    pub on_delete: OnDelete,
    /// Whatever it is: another one asks for new passwords.
    pub password_rotation: String,
    /// What its pod carries, and where it runs.
    pub pod: ValidPod,
}

/// One of the nine services, with every default filled in.
#[derive(Clone, Debug)]
pub struct ValidService {
    /// Which one.
    pub service: Service,
    /// How many pods, with autoscaling the fewest: none while the shop is hibernated.
    pub replicas: i32,
    /// How the number of pods follows the load.
    pub autoscaling: Option<Autoscaling>,
    /// The whole image.
    pub image: String,
    /// CPU and memory.
    pub resources: Resources,
    /// Its further environment.
    pub environment: ValidEnvironment,
    /// What its pods carry, and where they run.
    pub pod: ValidPod,
    /// A hash of each Secret and ConfigMap that it reads and that is there.
    pub sources: Vec<String>,
}

/// What the shop will be. `found`: what is there of the Secrets and ConfigMaps that its spec names.
pub fn validate(shop: &OrderShop, defaults: &Defaults, found: &Sources) -> Result<ValidShop, ValidateError> {
    let owner = owner(shop)?;
    let spec = &shop.spec;
    let version = spec.version.as_ref().unwrap_or(&defaults.version);
    let gateway = &spec.gateway.service;
    if gateway.node_port.is_some() && gateway.type_ == GatewayServiceType::ClusterIP {
        return Err(ValidateError::NodePort);
    }
    let mut problems = Vec::new();
    let services = Service::ALL
        .into_iter()
        .map(|each| service(spec, &owner.name, each, defaults, sources_of(spec, each, found, &mut problems)))
        .collect::<Result<_, _>>()?;
    if let Some(problem) = problems.iter().find(|problem| problem.field() == sources::REDIS_URL) {
        return Err(ValidateError::NoRedis(problem.clone()));
    }
    Ok(ValidShop {
        generation: shop.meta().generation,
        version: version.clone(),
        paused: spec.paused,
        hibernated: spec.hibernated,
        pull_policy: spec.image.pull_policy,
        pull_secrets: spec.image.pull_secrets.iter().map(|secret| secret.name.clone()).collect(),
        redis: redis(spec, &owner.name, defaults)?,
        network: spec.network_policy.clone(),
        passwords: Passwords::default(),
        redis_url: spec.redis.external.as_ref().map(|external| external.url_secret.clone()),
        services,
        gateway_type: gateway.type_,
        node_port: gateway.node_port,
        ingress: spec.gateway.ingress.clone(),
        smtp: spec.mail.smtp_secret.clone(),
        collector: telemetry::collector(&spec.telemetry)?,
        reads_sources: !sources::wanted(spec).is_empty(),
        problems,
        owner,
    })
}

/// One service. `sources`: a hash of each Secret and ConfigMap that it reads and that is there.
fn service(
    spec: &OrderShopSpec,
    shop: &str,
    service: Service,
    defaults: &Defaults,
    sources: Vec<String>,
) -> Result<ValidService, ValidateError> {
    let said = spec.services.get(service);
    let field = service.field();
    if said.replicas < 0 {
        return Err(ValidateError::Replicas { field, replicas: said.replicas });
    }
    let registry = spec.image.registry.as_ref().unwrap_or(&defaults.registry).trim_end_matches('/');
    let version = spec.version.as_ref().unwrap_or(&defaults.version);
    let image = || format!("{registry}/ordershop-{}:{version}", service.name());
    let path = format!("spec.services.{field}");
    let autoscaling = said
        .autoscaling
        .as_ref()
        .map(|said| autoscaling::of(service, said, spec.redis.external.is_some()))
        .transpose()
        .map_err(|source| ValidateError::Autoscaling { field, source })?
        .filter(|_| !spec.hibernated);
    let replicas = autoscaling.map_or(said.replicas, |autoscaling| autoscaling.min);
    Ok(ValidService {
        service,
        replicas: if spec.hibernated { 0 } else { replicas },
        autoscaling,
        image: said.image.clone().unwrap_or_else(image),
        resources: resources(said.resources.as_ref(), &path, &SERVICE)?,
        environment: pods::environment(said, &path)?,
        pod: pods::pod(&said.pod, &format!("{path}.pod"), shop, service.name())?,
        sources,
    })
}

/// The hashes of what a service reads. What is missing becomes a problem, once for all who read it.
fn sources_of(
    spec: &OrderShopSpec,
    service: Service,
    found: &Sources,
    problems: &mut Vec<Problem>,
) -> Vec<String> {
    let mut hashes = Vec::new();
    for used in sources::uses_of(spec, service) {
        match found.look_up(&used) {
            Ok(hash) => hashes.extend(hash),
            Err(problem) if problems.contains(&problem) => {}
            Err(problem) => problems.push(problem),
        }
    }
    hashes
}

fn redis(spec: &OrderShopSpec, shop: &str, defaults: &Defaults) -> Result<ValidRedis, ValidateError> {
    let said = &spec.redis;
    check(&said.storage.size, || "spec.redis.storage.size".to_owned())?;
    Ok(ValidRedis {
        image: said.image.clone().unwrap_or_else(|| defaults.redis_image.clone()),
        storage_size: said.storage.size.clone(),
        storage_class: said.storage.class_name.clone(),
        persistence: said.persistence,
        resources: resources(said.resources.as_ref(), "spec.redis", &REDIS)?,
        on_delete: said.on_delete,
        password_rotation: said.password_rotation.clone(),
        pod: pods::pod(&said.pod, "spec.redis.pod", shop, labels::REDIS)?,
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
