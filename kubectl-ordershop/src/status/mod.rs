//! `kubectl ordershop status`: what Kubernetes and the event store know of a shop, on one screen.
//!
//! Asking is here, what it looks like is [`render`]'s. What could not be asked is said in its place: a shop whose
//! Redis is away still has a status.

mod render;

use crate::cluster::{Cluster, Shop};
use crate::failure::Failure;
use crate::redis;
use event_store::doctor::Access;
use event_store::inspect::{Group, ServerInfo};
use event_store::{Config, EventStore};
use event_store_cli::args::Server;
use event_store_cli::exit::Done;
use event_store_cli::output::Out;
use jiff::Timestamp;
use ordershop_operator::crd::{Condition, ConditionType, ServiceStatus};
use serde::Serialize;
use serde_json::Value;

pub(crate) use render::text;

/// All of it, for programs as it stands.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) shop: String,
    pub(crate) namespace: String,
    pub(crate) ready: bool,
    /// The version that was last rolled out to the end.
    pub(crate) version: Option<String>,
    pub(crate) url: Option<String>,
    pub(crate) hibernated: bool,
    /// Whether the operator has seen the newest spec.
    pub(crate) up_to_date: bool,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) services: Vec<ServiceStatus>,
    pub(crate) redis: Redis,
}

/// What Redis said.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Redis {
    /// It answered.
    Told {
        /// One; on Redis Cluster every master.
        servers: Vec<ServerInfo>,
        groups: Vec<GroupStatus>,
    },
    /// It was not asked, or did not answer.
    Unknown {
        /// Why.
        unknown: String,
    },
}

/// A group over all of its streams.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct GroupStatus {
    pub(crate) group: String,
    /// Its dead letters.
    pub(crate) parked: u64,
    /// Entries delivered and not finished.
    pub(crate) pending: u64,
    /// Entries not delivered yet; `None` when the server cannot tell for one of its streams.
    pub(crate) lag: Option<u64>,
}

impl From<Group> for GroupStatus {
    fn from(group: Group) -> Self {
        Self {
            pending: group.streams.iter().map(|stream| stream.pending).sum(),
            lag: group.streams.iter().map(|stream| stream.lag).sum(),
            parked: group.parked,
            group: group.group,
        }
    }
}

pub(crate) async fn run(cluster: &Cluster, shop: &Shop, out: &mut Out) -> Result<Done, Failure> {
    let status = gather(cluster, shop).await;
    if out.json {
        out.value(&status)?;
    } else {
        for line in text(&status, Timestamp::now()).lines() {
            out.line(line)?;
        }
    }
    Ok(if status.ready { Done::Fine } else { Done::Wrong })
}

/// Asks Redis too; that it does not answer is a part of the status.
pub(crate) async fn gather(cluster: &Cluster, shop: &Shop) -> Status {
    let hibernated = shop.spec("/hibernated").as_bool().unwrap_or(false);
    let redis = if hibernated {
        Redis::Unknown { unknown: "it hibernates; its data is kept".to_owned() }
    } else {
        ask(cluster, shop).await.unwrap_or_else(|e| Redis::Unknown { unknown: e.to_string() })
    };
    of(shop, &cluster.namespace, hibernated, redis)
}

/// Pure.
fn of(shop: &Shop, namespace: &str, hibernated: bool, redis: Redis) -> Status {
    let status = &shop.status;
    let up_to_date = status.observed_generation == shop.object.metadata.generation;
    Status {
        shop: shop.name(),
        namespace: namespace.to_owned(),
        // True of an older spec says nothing about this one.
        ready: up_to_date && status.is(ConditionType::Ready),
        version: status.version.clone(),
        url: status.url.clone(),
        hibernated,
        up_to_date,
        conditions: status.conditions.clone(),
        services: status.services.clone(),
        redis,
    }
}

async fn ask(cluster: &Cluster, shop: &Shop) -> Result<Redis, Failure> {
    let way = redis::open(cluster, shop).await?;
    let store = look(&way.server).await?;
    let servers = store.inspect().servers().await?;
    let streams = store.streams().await?;
    let groups = store.inspect().groups(&streams).await?;
    Ok(Redis::Told { servers, groups: groups.into_iter().map(GroupStatus::from).collect() })
}

/// The store, for looking only.
pub(crate) async fn look(server: &Server) -> Result<EventStore, Failure> {
    let config = server.url.iter().fold(None, |config: Option<Config>, url| {
        Some(config.map_or_else(|| Config::new(url), |config| config.node(url)))
    });
    let config = config.ok_or_else(|| Failure::Failed("no server".to_owned()))?;
    Ok(EventStore::connect(config.access(Access::ReadOnly)).await?)
}

/// The same for programs, as it goes into a report.
pub(crate) fn json(status: &Status) -> Value {
    serde_json::to_value(status).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::api::{ApiResource, DynamicObject};
    use ordershop_operator::crd::OrderShop;
    use serde_json::json;

    fn shop(generation: i64, observed: i64) -> Shop {
        let mut object = DynamicObject::new("shop", &ApiResource::erase::<OrderShop>(&()));
        object.metadata.generation = Some(generation);
        let status = json!({"observedGeneration": observed, "conditions": [{"type": "Ready", "status": "True",
            "lastTransitionTime": "2026-11-22T20:00:00Z", "reason": "x"}]});
        Shop { object, status: serde_json::from_value(status).unwrap() }
    }

    #[test]
    fn a_shop_is_ready_only_for_the_spec_that_it_has_now() {
        let ready = |shop: &Shop| of(shop, "x", false, Redis::Unknown { unknown: String::new() }).ready;
        assert!(ready(&shop(2, 2)));
        assert!(!ready(&shop(3, 2)));
    }
}
