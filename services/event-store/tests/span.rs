//! What the span of a handler says, on a real server. The only test of its program: whether a span is made at
//! all is remembered per process, so one that nobody listens to would decide it for the others.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::{Id, Outcome, Subscription};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use support::{ACCOUNT, Recorder, Seen, eventually, put, server};
use tokio_util::sync::CancellationToken;
use tracing::field::{Field, Visit};
use tracing::span;

/// Keeps the fields of every span called `handle`, and in which of them something was logged.
#[derive(Clone, Default)]
struct Spans {
    fields: Arc<Mutex<Vec<BTreeMap<String, String>>>>,
    entered: Arc<Mutex<Vec<usize>>>,
    logged_in: Arc<Mutex<Vec<usize>>>,
}

struct Fields<'a>(&'a mut BTreeMap<String, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

impl tracing::Subscriber for Spans {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.name() == "handle" || metadata.target() == "ledger"
    }
    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut all = self.fields.lock().unwrap();
        let mut fields = BTreeMap::new();
        attributes.record(&mut Fields(&mut fields));
        all.push(fields);
        span::Id::from_u64(all.len() as u64)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        let entered = self.entered.lock().unwrap().last().copied();
        self.logged_in.lock().unwrap().extend(entered);
    }
    fn enter(&self, span: &span::Id) {
        self.entered.lock().unwrap().push(usize::try_from(span.into_u64()).unwrap() - 1);
    }
    fn exit(&self, _: &span::Id) {
        self.entered.lock().unwrap().pop();
    }
}

#[tokio::test]
async fn what_a_handler_logs_stands_in_a_span_that_names_the_event() {
    let s = server().await;
    let spans = Spans::default();
    let _guard = tracing::subscriber::set_default(spans.clone());
    let id: Id = s.store.append(vec![put("created", "a", 1).correlation_id("flow")]).await.unwrap()[0].id;
    let answer = |_| async {
        tokio::task::yield_now().await;
        tracing::info!(target: "ledger", "booked");
        Outcome::Done(Vec::new())
    };
    let seen = Seen::default();
    let subscription = Subscription::new("group", "one").streams([ACCOUNT.stream("created")]);
    let cancel = CancellationToken::new();
    let running =
        tokio::spawn(s.store.subscribe(subscription).run(Recorder { seen, answer }, cancel.clone()));
    eventually("it has logged", || async { !spans.logged_in.lock().unwrap().is_empty() }).await;
    cancel.cancel();
    running.await.unwrap().unwrap();
    let fields = spans.fields.lock().unwrap();
    assert_eq!((fields.len(), spans.logged_in.lock().unwrap().clone()), (1, vec![0]));
    let id = id.to_string();
    let expected =
        [("correlation", "\"flow\""), ("entity", "\"a\""), ("id", &id), ("stream", "account_created")];
    let found: Vec<(&str, &str)> =
        fields[0].iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert_eq!(found, expected);
}
