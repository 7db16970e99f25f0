//! A way to the API server that a test can cut: what is sent on it then is neither refused nor answered.

use anyhow::{Context, Result};
use kube::config::Kubeconfig;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use tempfile::NamedTempFile;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Ends with its drop.
pub struct Proxy {
    kubeconfig: NamedTempFile,
    open: watch::Sender<bool>,
    task: AbortHandle,
}

impl Proxy {
    /// Opens a way to the API server of the test's own kubeconfig.
    pub async fn open() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut config = Kubeconfig::read().context("no kubeconfig")?;
        let server = divert(&mut config, listener.local_addr()?)?;
        let mut kubeconfig = NamedTempFile::new()?;
        // JSON is YAML.
        kubeconfig.write_all(serde_json::to_string(&config)?.as_bytes())?;
        let (open, gate) = watch::channel(true);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (server, gate) = (server.clone(), gate.clone());
                tokio::spawn(async move {
                    // What is cut is the client's and the server's to notice.
                    let _ = carry(stream, &server, gate).await;
                });
            }
        });
        Ok(Self { kubeconfig, open, task: task.abort_handle() })
    }

    /// A kubeconfig that leads this way.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        self.kubeconfig.path()
    }

    /// Nothing gets through from now on, on no connection.
    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    /// Everything gets through again, what waited too.
    pub fn mend(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Lets the current cluster of a kubeconfig be reached at `address`; where it was reached before.
fn divert(config: &mut Kubeconfig, address: SocketAddr) -> Result<String> {
    let name = config.current_context.as_ref().context("no current context")?;
    let context = config.contexts.iter().find(|context| context.name == *name);
    let cluster = context.and_then(|context| context.context.as_ref()).map(|context| context.cluster.clone());
    let cluster = cluster.context("the current context names no cluster")?;
    let found = config.clusters.iter_mut().find(|found| found.name == cluster);
    let found = found.and_then(|found| found.cluster.as_mut()).context("no such cluster")?;
    let server = found.server.replace(format!("https://{address}")).context("the cluster has no server")?;
    let server = server.strip_prefix("https://").context("only https is carried")?.trim_end_matches('/');
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    // The certificate is that of the real address.
    found.tls_server_name.get_or_insert_with(|| host.trim_matches(['[', ']']).to_owned());
    Ok(server.to_owned())
}

async fn carry(client: TcpStream, server: &str, gate: watch::Receiver<bool>) -> Result<()> {
    let server = TcpStream::connect(server).await?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::try_join!(pump(from_client, to_server, gate.clone()), pump(from_server, to_client, gate))?;
    Ok(())
}

/// Carries bytes one way for as long as the gate is open, and holds them back while it is not.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut gate: watch::Receiver<bool>,
) -> Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        gate.wait_for(|open| *open).await?;
        if read == 0 {
            return Ok(to.shutdown().await?);
        }
        to.write_all(&buffer[..read]).await?;
    }
}
