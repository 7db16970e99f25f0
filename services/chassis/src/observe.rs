//! Metrics of a subscription, asked from the event store's own observation at every scrape.

use event_store::Observation;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;

/// The observation of one group, as metrics.
pub(crate) struct Groups {
    group: &'static str,
    observation: Observation,
}

impl Groups {
    pub(crate) fn new(group: &'static str, observation: Observation) -> Self {
        Self { group, observation }
    }
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Groups").field("group", &self.group).finish_non_exhaustive()
    }
}

impl Collector for Groups {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let states = self.observation.states();
        let labels = |stream: &str| [("group", self.group.to_owned()), ("stream", stream.to_owned())];

        let name = "ordershop_group_pending";
        let help = "Entries handed out and not finished";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for state in &states {
            let labels = labels(&state.stream.to_string());
            ConstGauge::new(gauge(state.pending)).encode(family.encode_family(&labels)?)?;
        }

        // Redis does not always know the lag; then there is no sample, never a zero.
        let name = "ordershop_group_lag";
        let help = "Entries of the stream not handed out yet; absent while unknown";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for state in &states {
            let Some(lag) = state.lag else { continue };
            let labels = labels(&state.stream.to_string());
            ConstGauge::new(gauge(lag)).encode(family.encode_family(&labels)?)?;
        }

        let name = "ordershop_group_oldest_pending_seconds";
        let help = "Time since the oldest entry in work was appended; 0 without any";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for state in &states {
            let labels = labels(&state.stream.to_string());
            let age = state.oldest_pending.unwrap_or_default().as_secs_f64();
            ConstGauge::new(age).encode(family.encode_family(&labels)?)?;
        }

        let name = "ordershop_group_standstill_seconds";
        let help = "Time for which nothing was finished although entries are pending, by its cause: an entry \
                    that is tried again, or unknown; 0 while the group goes on";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        let standstill = self.observation.standstill();
        for (cause, has_failed) in [("retry", true), ("unknown", false)] {
            let of_cause = standstill.as_ref().filter(|standstill| standstill.retry.is_some() == has_failed);
            let lasts = of_cause.map(|standstill| standstill.lasts).unwrap_or_default();
            let labels = [("group", self.group), ("cause", cause)];
            ConstGauge::new(lasts.as_secs_f64()).encode(family.encode_family(&labels)?)?;
        }

        let counters = [
            ("handled", "Events finished", self.observation.handled()),
            ("retried", "Attempts that failed and were made again", self.observation.retried()),
            (
                "conflicted",
                "Attempts whose outputs conflicted with what their entity had become",
                self.observation.conflicted(),
            ),
            ("parked", "Events put aside as dead letters", self.observation.parked()),
            ("claimed", "Entries taken over from consumers that were gone", self.observation.claimed()),
        ];
        for (name, help, value) in counters {
            let name = format!("ordershop_events_{name}");
            let mut family = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
            let labels = [("group", self.group)];
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
