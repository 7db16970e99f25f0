//! The life of the operator's process: connects, waits for its CRD and for its turn, reconciles, and ends.
//!
//! It ends by itself only when it is told to, or when it can no longer be sure to be the only one that writes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use kube::{
    Client,
    runtime::events::{Recorder, Reporter},
};
use telemetry::{Lost, SettingsError};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing::{error, info, warn};
use tracing_subscriber::filter::Targets;

use crate::{
    admin::{self, Readiness},
    api::{self, Fence},
    controller::{self, backoff::Backoff, labels, reconcile::Context, scope::Scope, validate::Defaults},
    crd::manifest::ManifestError,
    lease::{Elector, LeaseError},
    metrics::Metrics,
};

/// How long a reconciliation that is under way can keep the process from ending.
const LONGEST_SHUTDOWN: Duration = Duration::from_secs(10);

/// How the operator runs.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The registry and path of the services' images, for shops that do not say otherwise.
    #[arg(long, env = "ORDERSHOP_DEFAULT_REGISTRY", default_value = "localhost/ordershop")]
    pub default_registry: String,

    /// The version of the services, for shops that do not say otherwise.
    #[arg(long, env = "ORDERSHOP_DEFAULT_VERSION", default_value = env!("CARGO_PKG_VERSION"))]
    pub default_version: String,

    /// The image of Redis, for shops that do not say otherwise.
    #[arg(long, env = "ORDERSHOP_DEFAULT_REDIS_IMAGE", default_value = "redis:8.0")]
    pub default_redis_image: String,

    /// Where /livez, /readyz and /metrics are.
    #[arg(long, env = "ORDERSHOP_ADMIN_LISTEN", default_value = "0.0.0.0:8080")]
    pub admin_listen: SocketAddr,

    /// The namespaces whose OrderShops this operator keeps, separated by commas. Default: those of the whole
    /// cluster. An operator for some namespaces needs Roles in these only; it must not share a namespace with
    /// another operator.
    #[arg(long, env = "ORDERSHOP_WATCH_NAMESPACE", value_delimiter = ',')]
    pub watch_namespace: Vec<String>,

    /// The namespace of the Lease by which replicas agree on who writes. Default: the first watched namespace in
    /// alphabetical order, or the operator's own namespace when it watches the whole cluster.
    #[arg(long, env = "ORDERSHOP_LEASE_NAMESPACE")]
    pub lease_namespace: Option<String>,

    /// This replica's name in the Lease.
    #[arg(long, env = "ORDERSHOP_IDENTITY")]
    pub identity: Option<String>,

    /// What is logged: error, warn, info, debug, trace, also per module.
    #[arg(long, env = "ORDERSHOP_LOG", default_value = "info")]
    pub log: Targets,
}

/// The operator cannot run, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No API server is configured: neither in the cluster nor by a kubeconfig.
    #[error("no Kubernetes to talk to: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// The API server's configuration is of no use.
    #[error("the connection to Kubernetes: {0}")]
    Client(#[from] kube::Error),
    /// The admin port cannot be opened, or no longer answers.
    #[error("the admin port {address}: {source}")]
    Admin {
        /// Where it should be.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Signals cannot be received.
    #[error("signals: {0}")]
    Signals(std::io::Error),
    /// Another replica may write now.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The operator is not installed so that it can work.
    #[error(transparent)]
    Check(#[from] crate::check::CheckError),
    /// The environment names no collector of traces that could be one.
    #[error(transparent)]
    Traces(#[from] SettingsError),
    /// The CRD cannot be printed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Runs the operator until SIGTERM or SIGINT. `spans`: those that were lost, where spans are sent.
pub async fn run(options: Options, spans: Option<Lost>) -> Result<(), RunError> {
    let metrics = Metrics::new(spans);
    let readiness = Readiness::default();
    let address = options.admin_listen;
    let at_admin = |source| RunError::Admin { address, source };
    let listener = TcpListener::bind(address).await.map_err(at_admin)?;
    let stop = stopped()?;
    let fence = Fence::default();
    let client = api::client(kube::Config::infer().await?, &metrics, &fence)?;
    let scope = Scope::of(&options.watch_namespace);
    let lease_namespace = options.lease_namespace.as_deref().filter(|name| !name.is_empty());
    let lease_namespace = lease_namespace.or(scope.lease_namespace());
    let elector = Elector::new(client.clone(), lease_namespace, options.identity.clone(), fence);
    info!(version = env!("CARGO_PKG_VERSION"), identity = elector.identity(), admin = %address, ?scope, "starting");

    tokio::select! {
        served = admin::serve(listener, readiness.clone(), metrics.clone()) => served.map_err(at_admin),
        worked = work(options, scope, client, elector, readiness, metrics, stop) => worked,
    }
}

/// Waits for the CRD and for the lead, then reconciles until told to stop.
async fn work(
    options: Options,
    scope: Scope,
    client: Client,
    elector: Elector,
    readiness: Readiness,
    metrics: Metrics,
    stop: watch::Receiver<bool>,
) -> Result<(), RunError> {
    let identity = elector.identity().to_owned();
    let turn = async {
        controller::wait_for_crd(&client, &scope, |why| readiness.pending(why)).await;
        readiness.ready();
        elector.acquire().await
    };
    let mut lead = tokio::select! {
        lead = turn => lead,
        () = told(stop.clone()) => return Ok(()),
    };
    metrics.leads(true);
    info!("leads");

    let context = Arc::new(Context {
        recorder: Recorder::new(
            client.clone(),
            Reporter { controller: labels::FIELD_MANAGER.to_owned(), instance: Some(identity) },
        ),
        client,
        defaults: Defaults {
            registry: options.default_registry,
            version: options.default_version,
            redis_image: options.default_redis_image,
        },
        metrics,
        backoff: Backoff::default(),
    });
    let finish = async {
        told(stop.clone()).await;
        tokio::time::sleep(LONGEST_SHUTDOWN).await;
    };
    tokio::select! {
        () = controller::run(context, &scope, told(stop.clone())) => {}
        () = finish => warn!("a reconciliation did not end in time"),
        lost = lead.keep() => {
            error!(error = %lost, "ends, since another replica may write now");
            return Err(lost.into());
        }
    }
    lead.release().await;
    Ok(())
}

/// Becomes true on SIGTERM or SIGINT.
fn stopped() -> Result<watch::Receiver<bool>, RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("told to stop");
        sender.send_replace(true);
        sender.closed().await;
    });
    Ok(receiver)
}

async fn told(mut stop: watch::Receiver<bool>) {
    // The sender is gone only when the process ends.
    let _ = stop.wait_for(|stop| *stop).await;
}
