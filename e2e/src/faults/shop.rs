//! What the suite needs of a shop: mails that come here, a port on the nodes, and a way into its Redis.

use crate::cluster::{READY_WITHIN, SHOP, Shop};
use anyhow::{Context, Result};
use faults::schedule::Fsync;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::ResourceExt;
use kube::api::{LogParams, PostParams};
use pod_forward::Forward;
use redis::aio::MultiplexedConnection;
use redis::{ConnectionAddr, IntoConnectionInfo};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

const SMTP: &str = "smtp";
const REDIS_PORT: u16 = 6379;
/// The key of the URL of a user who may read everything.
const ADMIN: &str = "admin";
/// A Redis that asks nobody who they are.
const OPEN: &str = "redis://localhost";

/// Sends mails there, writes as the schedule says, and opens the gateway; the port on every node.
pub(super) async fn prepare(shop: &Shop, smtp_url: &str, fsync: Fsync) -> Result<u16> {
    let secret: Secret =
        serde_json::from_value(json!({"metadata": {"name": SMTP}, "stringData": {"url": smtp_url}}))?;
    shop.objects().create(&PostParams::default(), &secret).await?;
    shop.patch(json!({"spec": {
        "gateway": {"service": {"type": "NodePort"}},
        "mail": {"smtpSecret": {"name": SMTP}},
        "redis": {"persistence": fsync.name()},
    }}))
    .await?;
    shop.ready(READY_WITHIN).await?;
    let gateway: Service = shop.objects().get(&format!("{SHOP}-gateway")).await?;
    let ports = gateway.spec.and_then(|spec| spec.ports).unwrap_or_default();
    let port =
        ports.iter().find_map(|port| port.node_port).context("the gateway has no port on the nodes")?;
    Ok(port.try_into()?)
}

/// A connection to the shop's Redis, for as long as the way there is kept.
pub(super) async fn redis(shop: &Shop) -> Result<(Forward, MultiplexedConnection)> {
    let forward =
        Forward::open(shop.objects(), Shop::selector("redis"), REDIS_PORT, |error| eprintln!("     {error}"))
            .await?;
    let secret: Option<Secret> = shop.objects().get_opt(&format!("{SHOP}-redis")).await?;
    let url = secret.and_then(|secret| secret.data?.remove(ADMIN));
    let url = url.map_or(Ok(OPEN.to_owned()), |url| String::from_utf8(url.0))?;
    let (host, port) = (forward.address().ip().to_string(), forward.address().port());
    let client = redis::Client::open(url.into_connection_info()?.set_addr(ConnectionAddr::Tcp(host, port)))?;
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(5)))
        .set_response_timeout(Some(Duration::from_secs(20)));
    let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    Ok((forward, connection))
}

/// Leaves what the pods that are there have said, also before their last restart.
pub(super) async fn keep_logs(shop: &Shop, folder: &Path) -> Result<()> {
    let pods = shop.objects();
    for pod in shop.pods("app.kubernetes.io/part-of=ordershop").await? {
        let name = pod.name_any();
        for (previous, suffix) in [(false, ""), (true, ".previous")] {
            // A container that was never restarted has no log of before.
            if let Ok(log) = pods_log(&pods, &name, previous).await {
                std::fs::write(folder.join(format!("{name}{suffix}.log")), log)?;
            }
        }
    }
    Ok(())
}

async fn pods_log(
    pods: &kube::Api<k8s_openapi::api::core::v1::Pod>,
    name: &str,
    previous: bool,
) -> kube::Result<String> {
    pods.logs(name, &LogParams { previous, ..LogParams::default() }).await
}
