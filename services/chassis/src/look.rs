//! A look at Redis every few seconds, for `/metrics`: whether it answers, how much of its memory is used, how many
//! dead letters the groups have. Never asked by a scrape, which so answers at once when Redis does not.

use event_store::{EventStore, Observation};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const PERIOD: Duration = Duration::from_secs(5);
/// A server that takes longer counts as away.
const BOUND: Duration = Duration::from_secs(2);

/// What was seen last. Cheap to clone: all clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    groups: Vec<(&'static str, Observation)>,
    up: bool,
    memory: Option<u64>,
    limit: Option<u64>,
    /// By group; one that could not be counted is absent, never 0.
    dead: BTreeMap<&'static str, u64>,
}

impl Look {
    /// From now on this group's dead letters are counted.
    pub(crate) fn group(&self, name: &'static str, observation: Observation) {
        self.with(|state| state.groups.push((name, observation)));
    }

    /// Looks until it is cancelled.
    pub(crate) async fn run(self, store: EventStore, cancel: CancellationToken) {
        let looking = async {
            loop {
                self.once(&store).await;
                tokio::time::sleep(PERIOD).await;
            }
        };
        cancel.run_until_cancelled(looking).await;
    }

    async fn once(&self, store: &EventStore) {
        let groups = self.with(|state| state.groups.clone());
        let inspector = store.inspect();
        let up = matches!(timeout(BOUND, store.ping()).await, Ok(Ok(())));
        let servers = match timeout(BOUND, inspector.servers()).await {
            Ok(Ok(servers)) if up => servers,
            _ => Vec::new(),
        };
        let mut dead = BTreeMap::new();
        for (name, observation) in groups {
            let streams: Vec<_> = observation.states().into_iter().map(|state| state.stream).collect();
            // Which streams it reads is not known yet, or not now.
            if streams.is_empty() {
                continue;
            }
            if let Ok(Ok(parked)) = timeout(BOUND, inspector.parked(name, &streams)).await {
                dead.insert(name, parked);
            }
        }
        // On Redis Cluster the memory of all of it; a limit that one of them does not have is none.
        let memory = servers.iter().map(|server| server.memory_bytes).sum();
        let limit = servers.iter().map(|server| server.memory_limit_bytes).sum();
        self.with(|state| {
            state.up = up;
            (state.memory, state.limit) = if servers.is_empty() { (None, None) } else { (memory, limit) };
            state.dead = dead;
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn encoded(state: &State, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let gauge = |value: u64| ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        let values = [
            ("ordershop_redis_up", "Whether Redis answers this process", Some(u64::from(state.up))),
            ("ordershop_redis_memory_bytes", "Memory that Redis uses", state.memory),
            (
                "ordershop_redis_memory_limit_bytes",
                "Memory beyond which Redis refuses appends; absent without a limit",
                state.limit,
            ),
        ];
        for (name, help, value) in values {
            let Some(value) = value else { continue };
            gauge(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let name = "ordershop_group_dead_letters";
        let mut family = encoder.encode_descriptor(
            name,
            "Events put aside that nobody has given back",
            None,
            MetricType::Gauge,
        )?;
        for (group, letters) in &state.dead {
            gauge(*letters).encode(family.encode_family(&[("group", *group)])?)?;
        }
        Ok(())
    }
}

impl Collector for Look {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        self.with(|state| Self::encoded(state, &mut encoder))
    }
}
