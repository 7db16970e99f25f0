//! Scaling by lag with the real KEDA.

use anyhow::{Result, ensure};
use e2e::cluster::{READY_WITHIN, SOON, Shop, with_shop};
use e2e::deadline::eventually;
use e2e::demo::{run, xtask};
use e2e::redis::Cli;
use serde_json::json;
use std::time::Duration;

const CUSTOMERS: usize = 40;
/// KEDA looks every ten seconds, the autoscaler every fifteen, and pods take their time.
const GROWN_WITHIN: Duration = Duration::from_mins(3);
/// Kubernetes' autoscaler waits five minutes before it takes pods away.
const SHRUNK_WITHIN: Duration = Duration::from_mins(9);

#[tokio::test]
#[ignore = "full: builds and installs KEDA, and waits as long as an autoscaler does"]
async fn crm_grows_with_its_queue_and_shrinks_when_it_is_empty() -> Result<()> {
    run(xtask().args(["keda", "up"])).await?;
    let outcome = with_shop("keda", scaled_by_lag).await;
    run(xtask().args(["keda", "down"])).await?;
    outcome
}

async fn scaled_by_lag(shop: &Shop) -> Result<()> {
    shop.patch(json!({"spec": {
        "services": {"crm": {"autoscaling": {"minReplicas": 1, "maxReplicas": 3, "lagPerReplica": 10}}},
        "networkPolicy": {"redisFrom": [{"namespaceLabels": {"kubernetes.io/metadata.name": "keda"}}]},
    }}))
    .await?;
    let client = shop.answers(SOON).await?;
    shop.ready(READY_WITHIN).await?;

    // Nobody of crm gets into Redis: its queue grows.
    shop.redis_as("admin", &["ACL", "SETUSER", "crm", "off"]).await?;
    shop.redis_as("admin", &["CLIENT", "KILL", "USER", "crm"]).await?;
    for n in 0..CUSTOMERS {
        client.new_customer(&format!("Waiting{n}")).await?;
    }
    let grown = eventually("crm has three pods", GROWN_WITHIN, async || {
        let replicas = shop.replicas().await?["crm"];
        ensure!(replicas == 3, "{replicas}");
        Ok(())
    })
    .await;
    shop.redis_as("admin", &["ACL", "SETUSER", "crm", "on"]).await?;
    grown?;

    eventually("everybody is welcomed once", SOON, async || {
        let sent = shop.sent_mails().await?.len();
        ensure!(sent == CUSTOMERS, "{sent}");
        Ok(())
    })
    .await?;
    eventually("crm is back to one pod", SHRUNK_WITHIN, async || {
        let replicas = shop.replicas().await?["crm"];
        ensure!(replicas == 1, "{replicas}");
        Ok(())
    })
    .await?;
    shop.ready(SOON).await.map(drop)
}
