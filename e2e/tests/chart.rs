//! The chart's life: install, upgrade, uninstall. It takes the operator away from everybody, so it runs alone.

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Release, SHOP, SOON, Shop, client, order_shops, revisions, with_shop};
use e2e::deadline::eventually;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use std::collections::BTreeSet;
use std::time::Duration;

const CRD: &str = "ordershops.ordershop.dev";
/// Long enough for a reconcile and for its echo.
const QUIET: Duration = Duration::from_secs(5);

#[tokio::test]
async fn upgrade_and_uninstall_leave_shops_running_and_install_takes_them_up_again() -> Result<()> {
    let release = Release::find().await?;
    let outcome = with_shop("chart", async |shop| life(shop, &release).await).await;
    // Whatever happened: the operator is there again afterwards.
    release.install(&[]).await.context("cannot bring the operator back")?;
    outcome
}

async fn life(shop: &Shop, release: &Release) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client().await?);
    let definition = definitions.get(CRD).await?.uid();
    let gateway = shop.answers(SOON).await?;
    gateway.new_customer("Installed").await?;
    let pods = pods(shop).await?;

    let before = revisions().await?;
    let children = shop.quiet(QUIET, SOON).await?;
    release.install(&["--set-string", "podAnnotations.e2e=upgraded"]).await.context("helm upgrade")?;
    ensure!(revisions().await? > before, "no new revision");
    shop.ready(SOON).await?;
    ensure!(self::pods(shop).await? == pods, "the upgrade replaced pods of the shop");
    // Another operator process has looked at everything by now: it must have found nothing to do.
    let written = children.first_difference(&shop.quiet(QUIET, SOON).await?);
    ensure!(written.is_none(), "the new operator wrote {written:?} without need");
    gateway.new_customer("Upgraded").await?;

    release.uninstall().await.context("helm uninstall")?;
    ensure!(definitions.get(CRD).await?.uid() == definition, "the CustomResourceDefinition was replaced");
    order_shops(&client().await?, &shop.get().await?.namespace().unwrap_or_default()).get(SHOP).await?;
    ensure!(self::pods(shop).await? == pods, "the uninstall replaced pods of the shop");
    gateway.new_customer("Uninstalled").await?;
    let customers: Vec<serde_json::Value> = gateway.get("/customers").await?;
    ensure!(customers.len() == 3, "{customers:?}");

    // What breaks while the operator is away is repaired when it is back.
    let deployments: Api<Deployment> = shop.objects();
    let crm = format!("{SHOP}-crm");
    deployments.delete(&crm, &DeleteParams::default()).await?;
    release.install(&[]).await.context("helm install")?;
    eventually("the Deployment that was deleted meanwhile", SOON, async || {
        deployments.get(&crm).await.map(drop).context("not there")
    })
    .await?;
    shop.ready(SOON).await?;
    ensure!(definitions.get(CRD).await?.uid() == definition, "the CustomResourceDefinition was replaced");
    Ok(())
}

/// Names and ids of the shop's pods: a replaced pod has another id.
async fn pods(shop: &Shop) -> Result<BTreeSet<(String, Option<String>)>> {
    let pods: Vec<Pod> = shop.pods("app.kubernetes.io/part-of=ordershop").await?;
    Ok(pods.iter().map(|pod| (pod.name_any(), pod.uid())).collect())
}
