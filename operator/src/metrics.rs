//! What the operator counts about itself, in the Prometheus text format.
//!
//! Labels are bounded: kinds, resources, verbs and the names of error variants, never a shop or a message.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::Registry,
};
use telemetry::Lost;

/// How a reconciliation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReconcileOutcome {
    /// The shop is as it should be, or on its way.
    Success,
    /// The shop cannot be built or decoded: waits for its owner.
    Invalid,
    /// Something was refused or not reached: tried again.
    Error,
    /// The shop is gone.
    Gone,
}

impl ReconcileOutcome {
    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Invalid => "invalid",
            Self::Error => "error",
            Self::Gone => "gone",
        }
    }
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyResult {
    /// It was not there.
    Created,
    /// It differed.
    Repaired,
    /// It was as it should be: nothing was sent.
    Unchanged,
    /// The shop no longer has it.
    Deleted,
    /// It was refused.
    Failed,
}

impl ApplyResult {
    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Repaired => "repaired",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
            Self::Failed => "failed",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    resource: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApplyLabels {
    kind: String,
    result: &'static str,
}

/// The operator's metrics. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    reconciliations: Family<OutcomeLabel, Counter>,
    errors: Family<ReasonLabel, Counter>,
    duration: DurationHistogram,
    requests: Family<RequestLabels, Counter>,
    denied: Family<RequestLabels, Counter>,
    applies: Family<ApplyLabels, Counter>,
    shops: Gauge,
    shops_ready: Gauge,
    /// Namespace and name of those that are counted as ready.
    ready: Arc<Mutex<HashSet<(String, String)>>>,
    leader: Gauge,
    spans: Option<Lost>,
}

#[derive(Clone, Debug)]
struct DurationHistogram(Histogram);

impl Default for DurationHistogram {
    fn default() -> Self {
        Self(Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]))
    }
}

impl Metrics {
    /// Nothing counted yet. `spans`: those that were lost, where spans are sent.
    #[must_use]
    pub fn new(spans: Option<Lost>) -> Self {
        Self { spans, ..Self::default() }
    }

    /// A reconciliation ended.
    pub fn reconciled(&self, outcome: ReconcileOutcome, took: Duration) {
        self.reconciliations.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }).inc();
        self.duration.0.observe(took.as_secs_f64());
    }

    /// Something went wrong. `reason`: the name of an error variant.
    pub fn failed(&self, reason: &'static str) {
        self.errors.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// A request was sent to the API server. `verb` and `resource`: as RBAC names them.
    pub fn requested(&self, verb: &'static str, resource: &str) {
        self.requests.get_or_create(&RequestLabels { verb, resource: resource.to_owned() }).inc();
    }

    /// The API server said that the operator may not do this.
    pub fn denied(&self, verb: &'static str, resource: &str) {
        self.denied.get_or_create(&RequestLabels { verb, resource: resource.to_owned() }).inc();
    }

    /// An object was looked at.
    pub fn applied(&self, kind: &str, result: ApplyResult) {
        self.applies.get_or_create(&ApplyLabels { kind: kind.to_owned(), result: result.as_str() }).inc();
    }

    /// How many shops there are.
    pub fn shops(&self, count: usize) {
        self.shops.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Whether a shop is ready; one that is gone is not.
    pub fn shop_ready(&self, namespace: &str, name: &str, is_ready: bool) {
        let shop = (namespace.to_owned(), name.to_owned());
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if is_ready {
            ready.insert(shop);
        } else {
            ready.remove(&shop);
        }
        self.shops_ready.set(i64::try_from(ready.len()).unwrap_or(i64::MAX));
    }

    /// Whether this replica leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// All of them in the Prometheus text format.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::with_prefix("ordershop_operator");
        registry.register("reconciliations", "Reconciliations by outcome", self.reconciliations.clone());
        registry.register("errors", "Errors by reason", self.errors.clone());
        registry.register(
            "reconcile_duration_seconds",
            "How long a reconciliation takes",
            self.duration.0.clone(),
        );
        registry.register(
            "api_requests",
            "Requests to the API server by verb and resource",
            self.requests.clone(),
        );
        registry.register(
            "api_requests_denied",
            "Requests that the API server forbade, by verb and resource",
            self.denied.clone(),
        );
        registry.register("applies", "Objects looked at, by kind and result", self.applies.clone());
        registry.register("shops", "OrderShops that this operator keeps", self.shops.clone());
        registry.register("shops_ready", "OrderShops that are ready", self.shops_ready.clone());
        registry.register("leader", "Whether this replica leads", self.leader.clone());
        if let Some(lost) = &self.spans {
            let help = "Spans that did not reach the collector of traces";
            registry.register("spans_lost", help, ConstCounter::new(lost.count()));
        }
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_the_alerts_and_dashboards_is_there_by_its_name() {
        let metrics = Metrics::new(Some(Lost::default()));
        metrics.reconciled(ReconcileOutcome::Success, Duration::from_millis(20));
        metrics.failed("NameConflict");
        metrics.requested("patch", "deployments");
        metrics.applied("Deployment", ApplyResult::Repaired);
        metrics.shops(3);
        for (name, is_ready) in [("a", true), ("b", true), ("b", true), ("c", false), ("a", false)] {
            metrics.shop_ready("ns", name, is_ready);
        }
        metrics.leads(true);
        let text = metrics.text().unwrap();
        for line in [
            r#"ordershop_operator_reconciliations_total{outcome="success"} 1"#,
            r#"ordershop_operator_errors_total{reason="NameConflict"} 1"#,
            r#"ordershop_operator_reconcile_duration_seconds_bucket{le="0.025"} 1"#,
            r#"ordershop_operator_api_requests_total{verb="patch",resource="deployments"} 1"#,
            r#"ordershop_operator_applies_total{kind="Deployment",result="repaired"} 1"#,
            "ordershop_operator_shops 3",
            "ordershop_operator_shops_ready 1",
            "ordershop_operator_leader 1",
            "ordershop_operator_spans_lost_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
