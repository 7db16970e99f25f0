//! The life of a service: start, connect, serve, stop. A service says what it needs on an [`App`];
//! the order in which things begin and end is decided here, once.
//!
//! ```text
//! start   admin port up (alive) → API up (503) → set-up → connected → ready
//! stop    not ready → requests in flight answered → events in flight finished → exit 0
//! ```

use crate::config::{CommonArgs, HttpArgs, RedisArgs};
use crate::health::{Gate, Readiness};
use crate::metrics::Metrics;
use crate::observe::Groups;
use crate::problem::Problem;
use crate::signal::Signals;
use crate::{admin, http, listen, log};
use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use event_store::{Event, EventStore, Handler, Projection, Subscription, View, Write};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// Any error of a set-up.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The first wait between two attempts to connect; doubles up to the longest.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(2);

/// Why a service could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address} (--{flag}): {source}")]
    Listen {
        /// The flag that gave the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A service that has not started.
#[derive(Debug)]
#[must_use = "a service does nothing until it runs"]
pub struct Service {
    name: &'static str,
    common: CommonArgs,
    http: Option<HttpArgs>,
}

impl Service {
    /// A service without an HTTP API: only its admin port.
    pub fn new(name: &'static str, common: CommonArgs) -> Self {
        Self { name, common, http: None }
    }

    /// It has an HTTP API; its set-up must call [`App::serve`].
    pub fn with_http(mut self, http: HttpArgs) -> Self {
        self.http = Some(http);
        self
    }

    /// Runs this process: logs, signals, set-up, shutdown. Returns the process' exit code.
    ///
    /// `setup` is called at once; [`App::connect`] inside it waits for Redis. An error of it, or the
    /// end of a task of the app, ends the process: whoever started it starts it again.
    pub fn run<F, Fut>(self, setup: F) -> ExitCode
    where
        F: FnOnce(App) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let consumer = self.common.consumer(self.name);
        if let Err(error) = log::init(&self.common.log, self.name, &consumer) {
            eprintln!("ordershop-{}: {error}", self.name);
            return ExitCode::from(2);
        }
        // Waiting is most of the work; a machine with many cores needs no thread on each.
        let threads = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "the runtime cannot start");
                return ExitCode::FAILURE;
            }
        };
        let code = runtime.block_on(self.live(setup));
        runtime.shutdown_background();
        code
    }

    async fn live<F, Fut>(self, setup: F) -> ExitCode
    where
        F: FnOnce(App) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let bound = self.common.shutdown();
        let started = async { Ok::<_, BoxError>((Signals::listen()?, self.start(setup).await?)) };
        let (mut signals, mut running) = match started.await {
            Ok(started) => started,
            Err(error) => {
                tracing::error!(%error, "the service cannot start");
                return ExitCode::FAILURE;
            }
        };
        let mut code = ExitCode::SUCCESS;
        tokio::select! {
            signal = signals.next() => tracing::info!(signal, bound_seconds = bound.as_secs(), "stopping"),
            reason = running.failed() => {
                tracing::error!(reason, "stopping after a failure");
                code = ExitCode::FAILURE;
            }
        }
        tokio::select! {
            () = running.stop() => {
                tracing::info!("stopped");
                return code;
            }
            signal = signals.next() => {
                tracing::error!(signal, "asked again: ending with work in flight, which is done again elsewhere");
            }
            () = tokio::time::sleep(bound) => {
                tracing::error!(seconds = bound.as_secs(), "not stopped within the bound: ending with work in flight");
            }
        }
        ExitCode::FAILURE
    }

    /// Starts the service inside this process. [`Service::run`] is this with logs and signals.
    pub async fn start<F, Fut>(self, setup: F) -> Result<Running, StartError>
    where
        F: FnOnce(App) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let admin = bind("admin-listen", self.common.admin_listen).await?;
        let api = match &self.http {
            Some(http) => Some(bind("listen", http.listen).await?),
            None => None,
        };
        let (failures, failed) = mpsc::unbounded_channel();
        let readiness = Readiness::default();
        let serving = api.is_some().then(|| readiness.gate("api", "the API is not set up yet"));
        let app = App {
            name: self.name,
            consumer: self.common.consumer(self.name).into(),
            readiness,
            metrics: Metrics::new(self.name),
            routes: Arc::new(OnceLock::new()),
            serving,
            cancel: CancellationToken::new(),
            tasks: TaskTracker::new(),
            failures,
        };
        let mut running = Running {
            admin: admin.1,
            api: None,
            stopping: CancellationToken::new(),
            gone: CancellationToken::new(),
            requests: TaskTracker::new(),
            setup: CancellationToken::new(),
            failed,
            app: app.clone(),
        };
        let router =
            http::dressed(admin::router(app.readiness.clone(), app.metrics.clone()), Metrics::new(self.name));
        tokio::spawn(listen::serve(admin.0, router, running.gone.clone()));
        if let Some((listener, address)) = api {
            running.api = Some(address);
            running.requests.spawn(listen::serve(listener, app.front(), running.stopping.clone()));
        }
        running.requests.close();
        tracing::info!(admin = %admin.1, api = running.api.map(tracing::field::display), "started");

        let cut = running.setup.clone();
        tokio::spawn(async move {
            let failures = app.failures.clone();
            let setup = tokio::spawn(cut.run_until_cancelled_owned(setup(app)));
            let reason = match setup.await {
                Ok(Some(Err(error))) => format!("set-up failed: {error}"),
                Err(error) => format!("set-up failed: {error}"),
                Ok(_) => return,
            };
            let _ = failures.send(reason);
        });
        Ok(running)
    }
}

async fn bind(flag: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map_err(|source| StartError::Listen { flag, address, source })
}

/// What a service sets itself up on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App {
    name: &'static str,
    consumer: Arc<str>,
    readiness: Readiness,
    metrics: Metrics,
    routes: Arc<OnceLock<Router>>,
    serving: Option<Gate>,
    cancel: CancellationToken,
    tasks: TaskTracker,
    failures: mpsc::UnboundedSender<String>,
}

impl App {
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
    pub async fn connect(&self, redis: &RedisArgs) -> EventStore {
        let gate = self.gate("redis", "not connected yet");
        let mut wait = FIRST_RETRY;
        let mut told = String::new();
        let store = loop {
            let error = match EventStore::connect(redis.store()).await {
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
        store
    }

    /// From now on the HTTP API answers with these routes; 503 before.
    ///
    /// Unknown routes, wrong methods and panics are answered as problems; the first call counts.
    pub fn serve(&self, routes: Router) {
        if self.routes.set(http::dressed(routes, self.metrics.clone())).is_ok()
            && let Some(gate) = &self.serving
        {
            gate.open();
        }
    }

    /// Handles the events of a subscription until the service stops.
    pub fn subscribe(&self, store: &EventStore, subscription: Subscription, handler: impl Handler + 'static) {
        let consumer = store.subscribe(subscription);
        let observation = consumer.observe();
        self.metrics.collect(Groups::new(self.name, observation.clone()));
        self.readiness.probe("subscription", move || {
            let ready = observation.ready();
            async move { if ready { Ok(()) } else { Err("the group is not being read yet".to_owned()) } }
        });
        let cancel = self.cancelled();
        self.spawn("subscription", async move { consumer.run(handler, cancel).await });
    }

    /// Keeps a projection up to date until the service stops; its view for reading. The service is
    /// ready when the projection has once caught up with the log.
    pub fn project<F>(&self, store: &EventStore, projection: Projection, writes: F) -> View
    where
        F: Fn(&Event) -> Vec<Write> + Send + Sync + 'static,
    {
        let projector = store.project(projection);
        let view = projector.view();
        let cancel = self.cancelled();
        self.spawn("projection", async move { projector.run(writes, cancel).await });
        let gate = self.gate("projection", "not caught up with the log yet");
        let (store, reader, cancel) = (store.clone(), view.clone(), self.cancelled());
        self.spawn("catch-up", async move {
            let caught_up = async {
                loop {
                    match store.head().await {
                        Ok(head) if reader.wait_until(head, Duration::from_secs(1)).await.is_ok() => break,
                        Ok(_) => {}
                        Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                    }
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
        let (cancel, failures) = (self.cancelled(), self.failures.clone());
        self.tasks.spawn(async move {
            let reason = match tokio::spawn(task).await {
                Err(error) => format!("{name}: {error}"),
                Ok(()) if !cancel.is_cancelled() => format!("{name} ended by itself"),
                Ok(()) => return,
            };
            let _ = failures.send(reason);
        });
    }

    /// What listens from the start: the routes, or 503 while there are none.
    fn front(&self) -> Router {
        let routes = self.routes.clone();
        let early = http::dressed(
            Router::new()
                .route("/{*path}", axum::routing::any(not_yet))
                .route("/", axum::routing::any(not_yet)),
            self.metrics.clone(),
        );
        Router::new().fallback_service(tower::service_fn(move |request: Request| {
            routes.get().unwrap_or(&early).clone().oneshot(request)
        }))
    }
}

async fn not_yet() -> Response {
    Problem::unavailable("this service is starting, or cannot reach the event store").into_response()
}

/// A started service.
#[derive(Debug)]
pub struct Running {
    admin: SocketAddr,
    api: Option<SocketAddr>,
    app: App,
    /// No new requests.
    stopping: CancellationToken,
    /// No admin port.
    gone: CancellationToken,
    requests: TaskTracker,
    setup: CancellationToken,
    failed: mpsc::UnboundedReceiver<String>,
}

impl Running {
    /// Where the admin server listens.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Where the HTTP API listens, if there is one.
    #[must_use]
    pub fn api(&self) -> Option<SocketAddr> {
        self.api
    }

    /// Waits for a failure: of the set-up, or of a task that ended by itself.
    pub async fn failed(&mut self) -> String {
        match self.failed.recv().await {
            Some(reason) => reason,
            // The app keeps a sender for as long as the service runs.
            None => std::future::pending().await,
        }
    }

    /// Stops: no new requests, those in flight are answered, then tasks end. Without a bound of its
    /// own; [`Service::run`] sets one.
    pub async fn stop(self) {
        self.app.gate("process", "stopping").close("stopping");
        self.setup.cancel();
        // Requests in flight may wait for events that this very service handles: they go first.
        self.stopping.cancel();
        self.requests.wait().await;
        self.app.cancel.cancel();
        self.app.tasks.close();
        self.app.tasks.wait().await;
        self.gone.cancel();
    }
}
