//! What a service says it needs: the event store, routes, subscriptions, projections, tasks. When
//! they begin and end is decided in `service`.

use crate::config::{CommonArgs, RedisArgs};
use crate::events::Handled;
use crate::health::{Gate, Readiness};
use crate::http;
use crate::look::Look;
use crate::metrics::Metrics;
use crate::observe::Groups;
use crate::problem::Problem;
use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use event_store::{Event, EventStore, Kind, Projection, Subscription, Typed, TypedHandler, View, Write};
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// The first wait between two attempts to connect; doubles up to the longest.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(2);

/// What a service sets itself up on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App {
    name: &'static str,
    consumer: Arc<str>,
    readiness: Readiness,
    metrics: Metrics,
    look: Look,
    routes: Arc<OnceLock<Router>>,
    serving: Option<Gate>,
    cancel: CancellationToken,
    tasks: TaskTracker,
    failures: mpsc::UnboundedSender<String>,
    /// How long a shutdown waits for events in flight.
    finish: Duration,
}

impl App {
    pub(crate) fn new(
        name: &'static str,
        common: &CommonArgs,
        readiness: Readiness,
        serving: Option<Gate>,
        finish: Duration,
        failures: mpsc::UnboundedSender<String>,
    ) -> Self {
        Self {
            name,
            consumer: common.consumer(name).into(),
            readiness,
            metrics: Metrics::new(name),
            look: Look::default(),
            routes: Arc::new(OnceLock::new()),
            serving,
            cancel: CancellationToken::new(),
            tasks: TaskTracker::new(),
            failures,
            finish,
        }
    }

    pub(crate) fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Ends the process, for this reason.
    pub(crate) fn fail(&self, reason: String) {
        // Nobody listens any more when the service has stopped.
        let _ = self.failures.send(reason);
    }

    /// Tells every task to end and waits for them.
    pub(crate) async fn end_tasks(&self) {
        self.cancel.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// This process' name among the consumers of its group.
    #[must_use]
    pub fn consumer(&self) -> &str {
        &self.consumer
    }

    /// Cancelled when tasks must end: after the last request in flight was answered.
    #[must_use]
    pub fn cancelled(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// A further condition of readiness; closed for `reason` until it is opened.
    #[must_use]
    pub fn gate(&self, name: &str, reason: &str) -> Gate {
        self.readiness.gate(name, reason)
    }

    /// The event store; waits for as long as Redis is away. The service is not ready meanwhile, and
    /// whenever the store does not answer later.
    ///
    /// `kinds` are those that the service appends: it does not get ready where the store keeps them otherwise.
    pub async fn connect(&self, redis: &RedisArgs, kinds: impl IntoIterator<Item = Kind>) -> EventStore {
        let config = redis.store().kinds(kinds);
        let gate = self.gate("redis", "not connected yet");
        // From the start: a Redis that is not there yet is down.
        self.metrics.collect(self.look.clone());
        let mut wait = FIRST_RETRY;
        let mut told = String::new();
        let store = loop {
            let error = match EventStore::connect(config.clone()).await {
                Ok(store) => break store,
                Err(error) => error.to_string(),
            };
            if error == told {
                tracing::debug!(error, "still not connected to the event store");
            } else {
                tracing::warn!(error, "not connected to the event store; trying again until it is there");
            }
            gate.close(format!("not connected: {error}"));
            told = error;
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_RETRY);
        };
        let probed = store.clone();
        self.readiness.probe("redis", move || {
            let store = probed.clone();
            async move { store.ping().await.map_err(|error| error.to_string()) }
        });
        tracing::info!("connected to the event store");
        self.spawn("look", self.look.clone().run(store.clone(), self.cancelled()));
        store
    }

    /// From now on the HTTP API answers with these routes; 503 before.
    ///
    /// Unknown routes, wrong methods and panics are answered as problems; the first call counts.
    pub fn serve(&self, routes: Router) {
        if self.routes.set(http::dressed(routes, Some(self.metrics.clone()))).is_ok()
            && let Some(gate) = &self.serving
        {
            gate.open();
        }
    }

    /// Handles the events of a subscription until the service stops. Events of a newer schema than the
    /// handler's wait for a newer replica of the service.
    pub fn subscribe(&self, store: &EventStore, subscription: Subscription, handler: impl TypedHandler) {
        let consumer = store.subscribe(subscription.shutdown_within(self.finish));
        let observation = consumer.observe();
        self.metrics.collect(Groups::new(self.name, observation.clone()));
        self.look.group(self.name, observation.clone());
        let observed = observation.clone();
        self.readiness.warning(move || observed.standstill().map(|standstill| standstill.to_string()));
        let observed = observation.clone();
        self.readiness.warning(move || {
            let unread: Vec<_> = observed.unread_streams().iter().map(ToString::to_string).collect();
            (!unread.is_empty()).then(|| unread.join(". "))
        });
        let (observed, name) = (observation.clone(), self.consumer.to_string());
        self.readiness.warning(move || observed.is_name_taken().then(|| format!(
                "another process uses the consumer's name {name}: this one handles no events until that one ends; give each process a name of its own"
            )));
        self.readiness.probe("subscription", move || {
            let answer = match observation.fault() {
                Some(fault) => Err(fault.to_string()),
                None if observation.ready() => Ok(()),
                None => Err("the group is not being read yet".to_owned()),
            };
            async move { answer }
        });
        let cancel = self.cancelled();
        self.spawn("subscription", async move {
            if let Err(error) = consumer.run(Typed(Handled(handler)), cancel).await {
                tracing::error!(%error, "no events are handled");
            }
        });
    }

    /// Keeps a projection up to date until the service stops; its view for reading. The service is
    /// ready when this version has once caught up with the log as it was at the start: until then
    /// the replicas of the program before serve theirs.
    pub fn project<F>(&self, store: &EventStore, projection: Projection, writes: F) -> View
    where
        F: Fn(&Event) -> Vec<Write> + Send + Sync + 'static,
    {
        let projector = store.project(projection);
        let view = projector.view();
        let cancel = self.cancelled();
        let observed = projector.observe();
        self.readiness.warning(move || observed.fault().map(|fault| fault.to_string()));
        self.spawn("projection", async move {
            if let Err(error) = projector.run(writes, cancel).await {
                tracing::error!(%error, "the projection is not kept up to date");
            }
        });
        let gate = self.gate("projection", "not caught up with the log yet");
        let (reader, cancel) = (view.clone(), self.cancelled());
        self.spawn("catch-up", async move {
            let caught_up = async {
                while let Err(e) = reader.caught_up(Duration::from_secs(5)).await {
                    tracing::info!(error = %e, "not ready yet");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            };
            if cancel.run_until_cancelled(caught_up).await.is_some() {
                gate.open();
                cancel.cancelled().await;
            }
        });
        view
    }

    /// Runs a task until the service stops. It must end when [`App::cancelled`] is, and not before:
    /// its early end, or a panic in it, ends the process.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let app = self.clone();
        self.tasks.spawn(async move {
            let reason = match tokio::spawn(task).await {
                Err(error) => format!("{name}: {error}"),
                Ok(()) if !app.cancel.is_cancelled() => format!("{name} ended by itself"),
                Ok(()) => return,
            };
            app.fail(reason);
        });
    }

    /// What listens from the start: the routes, or 503 while there are none.
    pub(crate) fn front(&self) -> Router {
        let routes = self.routes.clone();
        let early = http::dressed(
            Router::new()
                .route("/{*path}", axum::routing::any(not_yet))
                .route("/", axum::routing::any(not_yet)),
            Some(self.metrics.clone()),
        );
        Router::new().fallback_service(tower::service_fn(move |request: Request| {
            routes.get().unwrap_or(&early).clone().oneshot(request)
        }))
    }
}

async fn not_yet() -> Response {
    Problem::unavailable("this service is starting, or cannot reach the event store").into_response()
}
