//! The machines: where a node and this machine find each other, and how a node's kubelet is stopped.

use crate::cluster::{Shop, client};
use crate::deadline::eventually;
use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::ListParams;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;
use tokio::process::Command;

/// A node that comes back is Ready when its kubelet has looked at all its pods.
const NODE_READY_WITHIN: Duration = Duration::from_mins(2);

/// The program that nodes run in, docker or podman: kind's nodes are containers.
#[derive(Clone, Debug)]
pub struct Engine(pub String);

/// The address of a node that runs the shop.
pub(super) async fn address(shop: &Shop) -> Result<IpAddr> {
    let nodes: Api<Node> = Api::all(client().await?);
    let node = nodes.get(&name(shop).await?).await?;
    let addresses = node.status.and_then(|status| status.addresses).unwrap_or_default();
    let internal = addresses.iter().find(|address| address.type_ == "InternalIP");
    Ok(internal.context("the node has no address")?.address.parse()?)
}

/// An address of this machine on the way to the node, with a free port. Nothing is sent.
pub(super) fn our_address(node: IpAddr) -> Result<SocketAddr> {
    let any: IpAddr =
        if node.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let way = UdpSocket::bind((any, 0))?;
    way.connect((node, 9))?;
    Ok(TcpListener::bind((way.local_addr()?.ip(), 0))?.local_addr()?)
}

/// Where Redis runs.
async fn name(shop: &Shop) -> Result<String> {
    let pods = shop.pods(&Shop::selector("redis")).await?;
    let node = pods.into_iter().find_map(|pod| pod.spec?.node_name);
    node.context("Redis runs nowhere")
}

/// Stops the kubelet of a node for a while. It is started again whatever happens meanwhile.
pub(super) async fn stop_kubelet(shop: &Shop, engine: Option<&Engine>, time: Duration) -> Result<()> {
    let Some(Engine(program)) = engine else {
        bail!("a kubelet can be stopped where nodes are containers: on kind");
    };
    let node = name(shop).await?;
    systemctl(program, &node, "stop").await?;
    tokio::time::sleep(time).await;
    systemctl(program, &node, "start").await?;
    let nodes: Api<Node> = Api::all(client().await?);
    eventually("the node is Ready again", NODE_READY_WITHIN, async || {
        let listed = nodes.list(&ListParams::default()).await?;
        for node in listed {
            let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
            let ready = conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
            ensure!(ready, "{:?} is not", node.metadata.name);
        }
        Ok(())
    })
    .await
}

async fn systemctl(program: &str, node: &str, verb: &str) -> Result<()> {
    let command = ["exec", node, "systemctl", verb, "kubelet"];
    let output = Command::new(program).args(command).output().await.with_context(|| program.to_owned())?;
    ensure!(output.status.success(), "{program} {command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
