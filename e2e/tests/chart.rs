//! The chart's life: install, upgrade, rollback, uninstall. It takes the operator away from everybody, so it runs
//! alone.

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Namespace, Release, SHOP, SOON, Shop, client, order_shops, with_shop};
use e2e::deadline::eventually;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::Role;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

const CRD: &str = "ordershops.ordershop.dev";
/// Long enough for a reconcile and for its echo.
const QUIET: Duration = Duration::from_secs(5);

#[tokio::test]
async fn upgrade_rollback_and_uninstall_leave_shops_running_and_install_takes_them_up_again() -> Result<()> {
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

    let tested = release.test().await.context("helm test")?;
    ensure!(tested.contains("leads"), "{tested}");
    let before = release.revisions().await?;
    let children = shop.quiet(QUIET, SOON).await?;
    release.install(&["--set-string", "podAnnotations.e2e=upgraded"]).await.context("helm upgrade")?;
    ensure!(release.revisions().await? > before, "no new revision");
    shop.ready(SOON).await?;
    ensure!(self::pods(shop).await? == pods, "the upgrade replaced pods of the shop");
    // Another operator process has looked at everything by now: it must have found nothing to do.
    let written = children.first_difference(&shop.quiet(QUIET, SOON).await?);
    ensure!(written.is_none(), "the new operator wrote {written:?} without need");
    gateway.new_customer("Upgraded").await?;

    release.rollback().await.context("helm rollback")?;
    ensure!(definitions.get(CRD).await?.uid() == definition, "the CustomResourceDefinition was replaced");
    ensure!(self::pods(shop).await? == pods, "the rollback replaced pods of the shop");
    shop.ready(SOON).await?;

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

/// What a release needs to run here: the images that this cluster has. The definition stays with its owner.
fn beside(main: &Release, namespace: &str) -> Result<Release> {
    let mut values = main.values()?;
    values["watchNamespaces"] = json!([namespace]);
    values["crd"]["install"] = json!(false);
    Release::new("beside", namespace, &values)
}

#[tokio::test]
async fn a_release_for_one_namespace_works_there_and_has_no_right_anywhere_else() -> Result<()> {
    let client = client().await?;
    let namespace = Namespace::create(&client, "namespaced").await?;
    let release = beside(&Release::find().await?, namespace.name())?;
    let outcome = one_namespace(&client, &release, namespace.name()).await;
    namespace.remove().await?;
    outcome
}

async fn one_namespace(client: &Client, release: &Release, namespace: &str) -> Result<()> {
    release.install(&[]).await.context("helm install")?;
    let tested = release.test().await.context("helm test")?;
    ensure!(tested.contains(namespace) && tested.contains("leads"), "{tested}");
    let account = format!("system:serviceaccount:{namespace}:beside-ordershop-operator");
    for (place, group, resource, verb, expected) in [
        (namespace, "ordershop.dev", "ordershops", "watch", true),
        (namespace, "apps", "deployments", "patch", true),
        ("default", "ordershop.dev", "ordershops", "list", false),
        ("default", "apps", "deployments", "patch", false),
        ("", "ordershop.dev", "ordershops", "list", false),
        (namespace, "", "pods/exec", "create", false),
    ] {
        let allowed = allowed(client, &account, place, group, resource, verb).await?;
        ensure!(allowed == expected, "{account} may {verb} {resource} in {place:?}: {allowed}");
    }
    release.uninstall().await.context("helm uninstall")?;
    let left: Vec<_> = Api::<Role>::namespaced(client.clone(), namespace)
        .list(&ListParams::default())
        .await?
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    ensure!(left.is_empty(), "the uninstall left {left:?}");
    Ok(())
}

/// What the API server would answer to this account.
async fn allowed(
    client: &Client,
    account: &str,
    namespace: &str,
    group: &str,
    resource: &str,
    verb: &str,
) -> Result<bool> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let review: SubjectAccessReview = serde_json::from_value(json!({
        "metadata": {},
        "spec": {
            "user": account,
            "resourceAttributes": {
                "namespace": namespace, "group": group, "resource": resource, "subresource": subresource, "verb": verb,
            },
        },
    }))?;
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Names and ids of the shop's pods: a replaced pod has another id.
async fn pods(shop: &Shop) -> Result<BTreeSet<(String, Option<String>)>> {
    let pods: Vec<Pod> = shop.pods("app.kubernetes.io/part-of=ordershop").await?;
    Ok(pods.iter().map(|pod| (pod.name_any(), pod.uid())).collect())
}
