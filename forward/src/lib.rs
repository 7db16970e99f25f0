//! A port on this machine that leads to a component's pods, through the API server: for programs that run outside of
//! a cluster and must reach what is inside.
//!
//! Each connection is forwarded by itself to a pod that is ready at that moment, so a pod that is replaced costs the
//! connections to it and nothing else. Listens on the loopback only.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, Portforwarder};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// An open port. Ends with its drop; connections that are open then go on.
#[derive(Debug)]
pub struct Forward {
    address: SocketAddr,
    task: AbortHandle,
}

/// A connection that could not be forwarded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// This machine has no port to give.
    #[error("a port on this machine: {0}")]
    Listen(#[source] std::io::Error),
    /// The pods cannot be listed.
    #[error("the pods of {selector}: {source}")]
    List {
        /// The pods' labels.
        selector: String,
        /// What the API server said.
        source: kube::Error,
    },
    /// There is no pod that takes connections.
    #[error("no pod of {selector} is ready")]
    NotReady {
        /// The pods' labels.
        selector: String,
    },
    /// The way to the pod cannot be opened.
    #[error("port {port} of pod {pod}: {source}")]
    Open {
        /// The pod.
        pod: String,
        /// The port.
        port: u16,
        /// What the API server said.
        source: kube::Error,
    },
}

/// Where connections lead.
#[derive(Clone, Debug)]
struct Target {
    pods: Api<Pod>,
    selector: String,
    port: u16,
}

impl Forward {
    /// Opens a port for the pods that `selector` finds. A connection that cannot be forwarded is closed, and
    /// `on_failure` is told why.
    pub async fn open(
        pods: Api<Pod>,
        selector: String,
        port: u16,
        on_failure: impl Fn(ForwardError) + Send + Sync + 'static,
    ) -> Result<Self, ForwardError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(ForwardError::Listen)?;
        let address = listener.local_addr().map_err(ForwardError::Listen)?;
        let (target, on_failure) = (Target { pods, selector, port }, Arc::new(on_failure));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (target, on_failure) = (target.clone(), Arc::clone(&on_failure));
                tokio::spawn(async move {
                    if let Err(error) = target.forward(stream).await {
                        on_failure(error);
                    }
                });
            }
        });
        Ok(Self { address, task: task.abort_handle() })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether a connection could be forwarded now: opens the way and closes it. For a program that wants to say why not
/// before it connects.
pub async fn check(pods: Api<Pod>, selector: String, port: u16) -> Result<(), ForwardError> {
    let forwarder = Target { pods, selector, port }.open().await?;
    forwarder.abort();
    Ok(())
}

impl Target {
    async fn open(&self) -> Result<Portforwarder, ForwardError> {
        let selector = || self.selector.clone();
        let listed = self.pods.list(&ListParams::default().labels(&self.selector)).await;
        let listed = listed.map_err(|source| ForwardError::List { selector: selector(), source })?;
        let ready = listed.items.iter().find(|pod| is_ready(pod));
        let pod = ready.and_then(|pod| pod.metadata.name.clone());
        let pod = pod.ok_or_else(|| ForwardError::NotReady { selector: selector() })?;
        let opened = self.pods.portforward(&pod, &[self.port]).await;
        opened.map_err(|source| ForwardError::Open { pod, port: self.port, source })
    }

    async fn forward(&self, mut stream: TcpStream) -> Result<(), ForwardError> {
        let mut forwarder = self.open().await?;
        if let Some(mut upstream) = forwarder.take_stream(self.port) {
            // Either side may cut the connection: who uses it sees that by itself.
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut upstream).await;
        }
        let _ = forwarder.join().await;
        Ok(())
    }
}

/// Whether the pod takes connections, and is not about to end.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
