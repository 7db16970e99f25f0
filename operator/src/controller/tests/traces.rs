//! What a reconciliation shows of itself at a collector of traces.

use std::time::Duration;

use telemetry::{Program, Settings, Traces, testing::Collector};
use tokio::runtime::Handle;
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;

use super::Trial;

#[tokio::test]
async fn a_reconciliation_is_one_span_that_says_of_what_and_how_it_ended_with_its_steps_below() {
    let collector = Collector::start().await;
    let endpoint = |name: &str| (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| collector.endpoint());
    let settings = Settings::read(endpoint).unwrap().unwrap();
    let program = Program { name: "operator", version: "1", instance: "one", own: &["ordershop_operator"] };
    let traces = Traces::start(&program, settings, &Handle::current());
    let _here = tracing::subscriber::set_default(tracing_subscriber::registry().with(traces.layer()));

    let trial = Trial::new("{}");
    // As the controller calls it: within a span that is not the operator's own.
    let controllers = tracing::info_span!(target: "kube_runtime", "reconciling object");
    trial.reconcile().instrument(controllers).await.unwrap();
    trial.server.refuse("serviceaccounts/shop-crm");
    trial.edit_spec(|spec| spec["services"] = serde_json::json!({ "crm": { "replicas": 3 } }));
    trial.server.remove("serviceaccounts/shop-crm");
    trial.reconcile().await.unwrap_err();
    traces.flush(Duration::MAX).await;

    let spans = collector.spans();
    let roots: Vec<_> = spans.iter().filter(|span| span.name == "reconcile").collect();
    assert_eq!(roots.len(), 2, "{spans:#?}");
    for (root, outcome) in roots.iter().zip(["success", "error"]) {
        assert_eq!(root.parent, "");
        let said = |name: &str| root.attributes[name].as_str();
        assert_eq!((said("namespace"), said("shop"), said("outcome")), ("ns", "shop", outcome));
        assert_eq!(root.failed, outcome == "error");
        let below: Vec<_> =
            spans.iter().filter(|span| span.parent == root.id).map(|span| span.name.as_str()).collect();
        assert_eq!(below, ["fetch", "validate", "build", "apply", "status"]);
    }
    let generations: Vec<_> =
        roots.iter().map(|root| root.attributes["generation"].parse::<i64>().unwrap()).collect();
    assert_eq!(generations[0] + 1, generations[1]);
    assert_ne!(roots[0].attributes["id"], roots[1].attributes["id"]);
}
