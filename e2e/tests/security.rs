//! What nobody may: services in Redis, the operator in the cluster, and what is left when a shop is deleted.

use anyhow::{Context, Result, ensure};
use e2e::cluster::{
    Namespace, OPERATOR_NAMESPACE, READY_WITHIN, RELEASE, SHOP, SOON, Shop, client, order_shops,
    with_shared_shop, with_shop,
};
use e2e::deadline::eventually;
use e2e::redis::Cli;
use k8s_openapi::api::authorization::v1::{ResourceRule, SelfSubjectRulesReview};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// What the store asks for when it connects and does without.
const DISPENSABLE: [&str; 6] =
    ["fcall", "fcall_ro", "function|load", "function|list", "config|get", "client|setinfo"];

#[tokio::test]
async fn no_service_is_denied_what_it_needs_and_each_is_denied_the_rest() -> Result<()> {
    with_shared_shop(async |shop| {
        let client = shop.answers(SOON).await?;
        let customer = client.new_customer("DeniedNothing").await?;
        let cup = client.new_product("Cup", 7, 10).await?;
        client.new_order(&customer, &[cup]).await?;
        eventually("the mails of an order", SOON, async || {
            let sent = shop.sent_mails().await?;
            ensure!(sent.len() >= 3, "{} mails", sent.len());
            Ok(())
        })
        .await?;

        // What it looks at every few seconds, it may look at.
        for service in ["inventory", "order", "billing", "crm", "notification"] {
            let dead = format!("ordershop_group_dead_letters{{group=\"{service}\"}}");
            eventually("its dead letters are counted", SOON, async || {
                ensure!(shop.metrics(service).await?.contains(&dead), "{service} does not know {dead}");
                Ok(())
            })
            .await?;
        }

        let denied: Value =
            serde_json::from_str(&shop.redis_as("admin", &["--json", "ACL", "LOG", "128"]).await?)?;
        for entry in denied.as_array().context("ACL LOG is no list")? {
            let (object, user) =
                (entry["object"].as_str().unwrap_or(""), entry["username"].as_str().unwrap_or(""));
            let of_a_service = e2e::cluster::SERVICES.contains(&user);
            ensure!(!of_a_service || DISPENSABLE.contains(&object), "{user} was denied {object}: {entry}");
        }

        for (user, command) in [
            ("crm", "XADD events:order_created * event_id 1 entity {}"),
            ("customer", "HSET product_entity:1 name x"),
            ("order", "HSET eventstore:group:billing:positions f v"),
            ("inventory", "CONFIG GET maxmemory"),
            ("notification", "FLUSHALL"),
        ] {
            // Its answer is an error, which redis-cli prints.
            let words: Vec<_> = command.split(' ').collect();
            let answer = shop.redis_as(user, &words).await?;
            ensure!(answer.contains("NOPERM"), "{user}: {command}: {answer}");
        }
        let answer = shop.run(&["SET", "a", "b"]).await?;
        ensure!(answer.contains("NOPERM"), "the reader only reads: {answer}");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "full: rolls Redis twice and every service once"]
async fn new_passwords_are_in_use_everywhere_and_the_old_ones_are_refused() -> Result<()> {
    with_shop("passwords", async |shop| {
        let client = shop.answers(SOON).await?;
        client.new_customer("Before").await?;
        let (before, old) =
            (shop.quiet(Duration::from_secs(3), SOON).await?, shop.redis_password("crm").await?);

        shop.patch(json!({"spec": {"redis": {"passwordRotation": "again"}}})).await?;
        eventually("the old passwords are gone", READY_WITHIN, async || {
            let secret = shop.objects::<Secret>().get(&format!("{SHOP}-redis")).await?;
            let data = secret.data.unwrap_or_default();
            let editions: BTreeSet<_> =
                data.keys().filter_map(|key| key.rsplit_once('.')).map(|(_, id)| id).collect();
            ensure!(editions.len() == 1 && shop.redis_password("crm").await? != old, "{editions:?}");
            Ok(())
        })
        .await?;
        shop.ready(READY_WITHIN).await?;

        let refused = shop.run(&["--user", "crm", "--pass", &old, "--no-auth-warning", "PING"]).await?;
        ensure!(refused.contains("NOAUTH"), "the old password is good: {refused}");
        ensure!(shop.redis_as("crm", &["PING"]).await?.contains("PONG"));
        let client = shop.answers(SOON).await?;
        client.new_customer("After").await?;
        eventually("both are welcomed", SOON, async || {
            ensure!(shop.sent_mails().await?.len() == 2);
            Ok(())
        })
        .await?;

        let after = shop.quiet(Duration::from_secs(3), SOON).await?;
        let changed = before.first_difference(&after).context("nothing was written at all")?;
        ensure!(before.count("Secret") == after.count("Secret"), "{changed}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn redis_volume_stays_or_goes_with_the_shop_as_the_spec_says() -> Result<()> {
    let client = client().await?;
    let namespace = Namespace::create(&client, "volume").await?;
    let outcome = volumes(&client, namespace.name()).await;
    outcome.and(namespace.remove().await)
}

async fn volumes(client: &Client, namespace: &str) -> Result<()> {
    let shops = order_shops(client, namespace);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let claim = format!("data-{SHOP}-redis-0");
    for (policy, stays) in [("retain", true), ("delete", false)] {
        let none = json!({"replicas": 0});
        let services = e2e::cluster::SERVICES
            .map(|name| (if name == "read-model" { "readModel" } else { name }.to_owned(), none.clone()));
        let shop = json!({
            "apiVersion": "ordershop.dev/v1alpha1", "kind": "OrderShop", "metadata": {"name": SHOP},
            "spec": {
                "redis": {"onDelete": policy},
                "services": services.into_iter().collect::<serde_json::Map<_, _>>(),
            },
        });
        let how = PatchParams::apply("e2e").force();
        shops.patch(SHOP, &how, &Patch::Apply(shop)).await?;
        eventually("Redis has its volume", SOON, async || {
            let found = claims.get(&claim).await?;
            let phase = found.status.and_then(|status| status.phase);
            ensure!(phase.as_deref() == Some("Bound"), "{phase:?}");
            let owned = found.metadata.owner_references.is_some_and(|owners| !owners.is_empty());
            ensure!(owned != stays, "Kubernetes has not seen the policy {policy} yet");
            Ok(())
        })
        .await?;
        let shop = shops.get(SHOP).await?;
        ensure!(shop.metadata.finalizers.is_none(), "a shop must go also when its operator has gone");

        shops.delete(SHOP, &DeleteParams::default()).await?;
        eventually("nothing of the shop is left but what stays", SOON, async || {
            let shop = Shop::new(client.clone(), namespace);
            ensure!(shop.pods("").await?.is_empty(), "pods are left");
            let ours = ListParams::default().labels("app.kubernetes.io/part-of=ordershop");
            let secrets = shop.objects::<Secret>().list(&ours).await?.items.len();
            let policies = shop.objects::<NetworkPolicy>().list(&ours).await?.items.len();
            ensure!(secrets + policies == 0, "{secrets} Secrets and {policies} NetworkPolicies are left");
            let there = claims.get_opt(&claim).await?.is_some();
            ensure!(
                there == stays,
                "with onDelete {policy} the volume {}",
                if there { "is there" } else { "is gone" }
            );
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// The operator's rights as the API server sees them: no more than this, in any namespace, and what every account may.
const RIGHTS: [(&str, &str, &str); 15] = [
    ("ordershop.dev", "ordershops", "get list watch"),
    ("ordershop.dev", "ordershops/status", "patch"),
    ("apps", "deployments", "get list watch create patch delete"),
    ("apps", "statefulsets", "get list watch create patch delete"),
    ("", "serviceaccounts", "get list watch create patch delete"),
    ("", "services", "get list watch create patch delete"),
    ("networking.k8s.io", "ingresses networkpolicies", "get list watch create patch delete"),
    ("", "secrets", "get create patch delete"),
    ("", "persistentvolumeclaims", "get list watch create patch"),
    ("", "configmaps", "get"),
    ("", "pods", "list watch"),
    ("autoscaling", "horizontalpodautoscalers", "get list watch create patch delete"),
    ("policy", "poddisruptionbudgets", "get list watch create patch delete"),
    ("keda.sh", "scaledobjects triggerauthentications", "get list watch create patch delete"),
    ("events.k8s.io", "events", "create patch"),
];

#[tokio::test]
async fn the_operator_may_do_what_it_does_and_nothing_else() -> Result<()> {
    let operators = rights(&format!("{OPERATOR_NAMESPACE}:{RELEASE}")).await?;
    let everybodys = rights("default:nobody").await?;
    let own: BTreeSet<_> = operators.difference(&everybodys).collect();
    ensure!(!own.is_empty(), "the account {RELEASE} in {OPERATOR_NAMESPACE} may do nothing");
    for (group, resource, verb) in own {
        let listed = RIGHTS.iter().any(|(of, resources, verbs)| {
            of == group
                && resources.split(' ').any(|one| one == resource)
                && verbs.split(' ').any(|one| one == verb)
        });
        ensure!(listed, "the operator may {verb} {resource} of {group:?}: list it in RIGHTS or take it away");
    }
    Ok(())
}

/// What a service account may do in the namespace `default`: groups, resources and verbs.
async fn rights(account: &str) -> Result<BTreeSet<(String, String, String)>> {
    let mut config = Config::infer().await?;
    config.auth_info.impersonate = Some(format!("system:serviceaccount:{account}"));
    config.auth_info.impersonate_groups =
        Some(["system:serviceaccounts", "system:authenticated"].map(str::to_owned).to_vec());
    let review: SelfSubjectRulesReview = serde_json::from_value(json!({"spec": {"namespace": "default"}}))?;
    let review = Api::all(Client::try_from(config)?).create(&PostParams::default(), &review).await?;
    let mut rights = BTreeSet::new();
    for ResourceRule { api_groups, resources, verbs, .. } in
        review.status.context("no answer")?.resource_rules
    {
        for group in api_groups.unwrap_or_default() {
            for resource in resources.iter().flatten() {
                rights.extend(verbs.iter().map(|verb| (group.clone(), resource.clone(), verb.clone())));
            }
        }
    }
    Ok(rights)
}
