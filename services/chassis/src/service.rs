//! The life of a service: start, serve, stop. A service says what it needs on an [`App`]; the order
//! in which things begin and end is decided here, once.
//!
//! ```text
//! start   admin port up (alive) → API up (503) → set-up → connected → ready
//! stop    not ready → requests in flight answered → events in flight finished → exit 0
//! ```

use crate::app::App;
use crate::config::{CommonArgs, HttpArgs};
use crate::health::Readiness;
use crate::signal::Signals;
use crate::{admin, http, listen, log};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use telemetry::{LONGEST_FLUSH, Lost, Program, Settings, Traces};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Any error of a set-up.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

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
    /// Spans that were lost, where spans are sent.
    spans: Option<Lost>,
}

impl Service {
    /// A service without an HTTP API: only its admin port.
    pub fn new(name: &'static str, common: CommonArgs) -> Self {
        Self { name, common, http: None, spans: None }
    }

    /// It has an HTTP API; its set-up must call [`App::serve`].
    pub fn with_http(mut self, http: HttpArgs) -> Self {
        self.http = Some(http);
        self
    }

    /// Runs this process: logs, traces, signals, set-up, shutdown. Returns the process' exit code.
    ///
    /// `setup` is called at once; [`App::connect`] inside it waits for Redis. An error of it, or the
    /// end of a task of the app, ends the process: whoever started it starts it again.
    pub fn run<F, Fut>(mut self, setup: F) -> ExitCode
    where
        F: FnOnce(App) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let name = self.name;
        let wrong = |error: &dyn std::error::Error| {
            eprintln!("ordershop-{name}: {error}");
            ExitCode::from(2)
        };
        let settings = match Settings::from_env() {
            Ok(settings) => settings,
            Err(error) => return wrong(&error),
        };
        // Waiting is most of the work; a machine with many cores needs no thread on each.
        let threads = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                eprintln!("ordershop-{name}: the runtime cannot start: {error}");
                return ExitCode::FAILURE;
            }
        };
        let consumer = self.common.consumer(name);
        let program = Program {
            name: &format!("ordershop-{name}"),
            version: env!("CARGO_PKG_VERSION"),
            instance: &consumer,
            own: &["ordershop", "chassis", "event_store"],
        };
        let traces = settings.map(|settings| Traces::start(&program, settings, runtime.handle()));
        if let Err(error) = log::init(&self.common.log, name, &consumer, traces.as_ref()) {
            return wrong(&error);
        }
        self.spans = traces.as_ref().map(Traces::lost);
        let last = self.for_the_last_spans();
        let code = runtime.block_on(self.live(setup));
        if let Some(traces) = traces {
            runtime.block_on(traces.flush(last));
        }
        runtime.shutdown_background();
        code
    }

    /// How much of the time for a shutdown the work may take.
    fn shutdown(&self) -> Duration {
        self.common.shutdown().saturating_sub(self.for_the_last_spans())
    }

    /// How much of it is kept for sending the last spans.
    fn for_the_last_spans(&self) -> Duration {
        if self.spans.is_some() { LONGEST_FLUSH.min(self.common.shutdown() / 5) } else { Duration::ZERO }
    }

    async fn live<F, Fut>(self, setup: F) -> ExitCode
    where
        F: FnOnce(App) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let bound = self.shutdown();
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
        let bounds = Bounds::of(self.shutdown(), api.is_some());
        let app = App::new(self.name, &self.common, readiness, serving, bounds.events, failures);
        if let Some(lost) = self.spans {
            app.metrics().spans(lost);
        }
        let mut running = Running {
            admin: admin.1,
            api: None,
            drain: bounds.requests,
            stopping: CancellationToken::new(),
            gone: CancellationToken::new(),
            requests: TaskTracker::new(),
            setup: CancellationToken::new(),
            failed,
            app: app.clone(),
        };
        // Probes are not requests of the shop: they are counted nowhere, and no trace is made of them.
        let router = http::dressed(admin::router(app.readiness().clone(), app.metrics().clone()), None);
        tokio::spawn(listen::serve(admin.0, router, running.gone.clone(), Duration::ZERO));
        if let Some((listener, address)) = api {
            running.api = Some(address);
            let (front, stopping) = (app.front(), running.stopping.clone());
            running.requests.spawn(listen::serve(listener, front, stopping, bounds.silence));
        }
        running.requests.close();
        tracing::info!(admin = %admin.1, api = running.api.map(tracing::field::display), "started");

        let cut = running.setup.clone();
        tokio::spawn(async move {
            let report = app.clone();
            let setup = tokio::spawn(cut.run_until_cancelled_owned(setup(app)));
            let reason = match setup.await {
                Ok(Some(Err(error))) => format!("set-up failed: {error}"),
                Err(error) => format!("set-up failed: {error}"),
                Ok(_) => return,
            };
            report.fail(reason);
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

/// A started service.
#[derive(Debug)]
pub struct Running {
    admin: SocketAddr,
    api: Option<SocketAddr>,
    app: App,
    drain: Duration,
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
        // Requests in flight may wait for events that this very service handles: they go first. A
        // client that does not end must not keep the events from being finished well.
        self.stopping.cancel();
        if tokio::time::timeout(self.drain, self.requests.wait()).await.is_err() {
            tracing::warn!("requests are still in flight; ending the handling of events before them");
        }
        self.app.end_tasks().await;
        self.requests.wait().await;
        self.gone.cancel();
    }
}

/// A client that is at work sends its next request sooner; one that is not notices nothing.
const SILENCE: Duration = Duration::from_secs(2);

/// How the time for a shutdown is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    /// For the requests in flight, before events are ended.
    requests: Duration,
    /// Of that, for clients that keep a connection, to send a request and hear that it is the last.
    silence: Duration,
    /// For the events in flight, after that.
    events: Duration,
}

impl Bounds {
    fn of(whole: Duration, has_api: bool) -> Self {
        if has_api {
            let requests = whole * 6 / 10;
            Self { requests, silence: SILENCE.min(requests / 3), events: whole * 3 / 10 }
        } else {
            Self { requests: Duration::ZERO, silence: Duration::ZERO, events: whole * 8 / 10 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shutdown_takes_stays_within_its_bound() {
        for has_api in [true, false] {
            let whole = Duration::from_secs(10);
            let Bounds { requests, silence, events } = Bounds::of(whole, has_api);
            assert!(requests + events < whole && events > Duration::from_secs(2));
            assert!(silence * 2 < requests || !has_api, "slow requests have time left");
        }
    }
}
