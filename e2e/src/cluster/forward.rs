//! A port on this machine that leads to a component's pods, through the API server.
//!
//! Each connection is forwarded by itself to a pod that is ready at that moment, so a pod that is replaced
//! costs the connections to it and nothing else.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// Ends with its drop.
pub(super) struct Forward {
    address: SocketAddr,
    task: AbortHandle,
}

impl Forward {
    /// Opens a port for the pods that `selector` finds.
    pub(super) async fn open(pods: Api<Pod>, selector: String, port: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (pods, selector) = (pods.clone(), selector.clone());
                tokio::spawn(async move {
                    if let Err(error) = forward(&pods, &selector, port, stream).await {
                        eprintln!("     port-forward to {selector}: {error:#}");
                    }
                });
            }
        });
        Ok(Self { address, task: task.abort_handle() })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(pods: &Api<Pod>, selector: &str, port: u16, mut stream: TcpStream) -> Result<()> {
    let listed = pods.list(&ListParams::default().labels(selector)).await?;
    let pod = listed.items.iter().find(|pod| is_ready(pod)).context("no pod is ready")?;
    let name = pod.metadata.name.as_deref().context("a pod without a name")?;
    let mut forwarder = pods.portforward(name, &[port]).await?;
    let mut upstream = forwarder.take_stream(port).context("no stream")?;
    // Either side may cut the connection: the HTTP client sees that by itself.
    let _ = tokio::io::copy_bidirectional(&mut stream, &mut upstream).await;
    drop(upstream);
    let _ = forwarder.join().await;
    Ok(())
}

/// Whether the pod takes requests, and is not about to end.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
