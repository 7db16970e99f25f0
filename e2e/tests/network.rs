//! Who reaches whom: every pair of a shop's pods is tried on the network itself, under the shop's policies.

use anyhow::{Context, Result, bail, ensure};
use e2e::cluster::{Node, SERVICES, SHOP, SOON, Shop, with_shared_shop};
use e2e::deadline::eventually;
use e2e::enforcer::Enforcer;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// A connection: from this pod, to that one's port.
type Way = (String, String, u16);

/// Pods beside the shop's: one that no policy selects, and one that a policy closes.
const OUTSIDER: &str = "outsider";
const CLOSED: &str = "closed";

/// What listens in a shop: every port of every component.
fn ports(component: &str) -> Vec<u16> {
    match component {
        "redis" | OUTSIDER | CLOSED => vec![6379],
        "gateway" => vec![5000, 9090],
        "crm" | "notification" => vec![9090],
        _ => vec![8080, 9090],
    }
}

/// The promise: only services reach Redis, only the gateway reaches the services, everybody else the gateway.
fn is_allowed(from: &str, to: &str, port: u16) -> bool {
    match (from, to, port) {
        // Who is closed may still go out.
        (OUTSIDER | CLOSED, "gateway", 5000) | ("gateway", _, 8080) | (CLOSED, OUTSIDER, _) => true,
        ("gateway", "redis", _) => false,
        (_, "redis", 6379) => SERVICES.contains(&from),
        _ => false,
    }
}

#[tokio::test]
async fn each_pod_reaches_what_it_needs_and_nothing_else() -> Result<()> {
    with_shared_shop(async |shop| {
        let client = e2e::cluster::client().await?;
        let nodes = Node::all(&client, &redis_image(shop).await?).await?;
        let enforcer = nodes
            .iter()
            .any(Node::is_assembled)
            .then(|| Enforcer::start(&client, shop.namespace(), nodes.clone()));
        let outcome = under_enforcement(shop, &nodes).await;
        put_back(shop).await?;
        if let Some(enforcer) = enforcer {
            enforcer.stop().await.context("the enforcer")?;
        }
        for node in nodes {
            node.leave().await?;
        }
        outcome
    })
    .await
}

async fn under_enforcement(shop: &Shop, nodes: &[Node]) -> Result<()> {
    for name in [OUTSIDER, CLOSED] {
        listener(shop, name).await?;
    }
    policies_are_enforced(shop, nodes).await?;

    eventually("every pair of pods is connected or not as promised", SOON, async || {
        let pods = addresses(shop).await?;
        let (mut wrong, found) = (Vec::new(), connections(nodes, &pods).await?);
        for (from, to, port) in ways(&pods) {
            let open = found.contains(&(from.clone(), to.clone(), port));
            if open != is_allowed(&from, &to, port) && from != to {
                wrong.push(format!("{from} {} {to}:{port}", if open { "reaches" } else { "does not reach" }));
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join(", "));
        Ok(())
    })
    .await?;

    // A pod that starts under the policies finds names and Redis, and the shop goes on as before.
    let old = shop.pods(&Shop::selector("crm")).await?;
    for pod in &old {
        shop.objects::<Pod>().delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;
    }
    shop.has_replicas("crm", 1, SOON).await?;
    let gone = shop.pods(&Shop::selector("crm")).await?;
    ensure!(gone.iter().all(|pod| old.iter().all(|before| before.uid() != pod.uid())));
    shop.answers(SOON).await?.new_customer("UnderPolicies").await?;
    Ok(())
}

async fn put_back(shop: &Shop) -> Result<()> {
    let now = DeleteParams::default().grace_period(0);
    for name in [OUTSIDER, CLOSED] {
        shop.objects::<Pod>().delete(name, &now).await?;
    }
    shop.objects::<NetworkPolicy>().delete(CLOSED, &now).await?;
    Ok(())
}

/// First of all: a policy that closes a pod does close it. Without that everything below would prove nothing.
async fn policies_are_enforced(shop: &Shop, nodes: &[Node]) -> Result<()> {
    let way = (OUTSIDER.to_owned(), CLOSED.to_owned(), 6379);
    let reaches = async |wanted: bool| {
        let what = if wanted { "a pod without a policy is reached" } else { "a deny-all policy is enforced" };
        eventually(what, SOON, async || {
            let mut pods = addresses(shop).await?;
            pods.retain(|name, _| [&way.0, &way.1].contains(&name));
            let found = connections(nodes, &pods).await?;
            ensure!(found.contains(&way) == wanted, "{found:?}");
            Ok(())
        })
        .await
    };
    reaches(true).await?;
    let deny: NetworkPolicy = serde_json::from_value(json!({
        "metadata": {"name": CLOSED},
        "spec": {"podSelector": {"matchLabels": {"app": CLOSED}}, "policyTypes": ["Ingress"]},
    }))?;
    shop.objects().create(&PostParams::default(), &deny).await?;
    reaches(false).await
}

/// A pod that is no part of the shop, and listens.
async fn listener(shop: &Shop, name: &str) -> Result<()> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 999, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "redis", "image": redis_image(shop).await?, "imagePullPolicy": "IfNotPresent",
                "args": ["--save", "", "--dir", "/tmp", "--protected-mode", "no"],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    let how = PatchParams::apply("e2e").force();
    shop.objects::<Pod>().patch(name, &how, &Patch::Apply(pod)).await?;
    Ok(())
}

async fn redis_image(shop: &Shop) -> Result<String> {
    let redis = shop.objects::<StatefulSet>().get(&format!("{SHOP}-redis")).await?;
    let template = redis.spec.context("no spec")?.template.spec.context("no pod")?;
    template.containers.into_iter().find_map(|container| container.image).context("no image")
}

/// The address of each pod of the shop, and of those beside it.
async fn addresses(shop: &Shop) -> Result<BTreeMap<String, String>> {
    let mut addresses = BTreeMap::new();
    for pod in shop.pods("").await? {
        let label = |name: &str| pod.labels().get(name).cloned();
        let name = label("app.kubernetes.io/component").or_else(|| label("app")).context("a pod of whom?")?;
        if pod.metadata.deletion_timestamp.is_none() {
            let address = pod.status.and_then(|status| status.pod_ip);
            addresses.insert(name.clone(), address.with_context(|| format!("{name} has no address yet"))?);
        }
    }
    ensure!(addresses.len() == SERVICES.len() + 3, "{addresses:?}");
    Ok(addresses)
}

fn ways(pods: &BTreeMap<String, String>) -> Vec<Way> {
    let to = |from: &String| {
        let from = from.clone();
        pods.keys().flat_map(move |to| {
            let from = from.clone();
            ports(to).into_iter().map(move |port| (from.clone(), to.clone(), port))
        })
    };
    pods.keys().flat_map(to).collect()
}

/// Tries all ways between these pods at once, each from inside of the one pod's own network, and gives those that
/// are open. What is closed does not answer: after three seconds it is given up.
async fn connections(nodes: &[Node], pods: &BTreeMap<String, String>) -> Result<BTreeSet<Way>> {
    let targets: BTreeSet<_> =
        ways(pods).into_iter().map(|(_, to, port)| format!("{}:{port}", pods[&to])).collect();
    let script = format!(
        r#"
for netns in /var/run/netns/*; do
  own=$(nsenter --net="$netns" ip -4 -o addr show dev eth0 2>/dev/null | sed -n 's/.* inet \([0-9.]*\).*/\1/p')
  case " {sources} " in *" $own "*) ;; *) continue ;; esac
  nsenter --net="$netns" bash -c '
    for to in {targets}; do (exec 3<>"/dev/tcp/${{to%:*}}/${{to#*:}}" && echo "$0 $to") 2>/dev/null & done
    sleep 3; kill $(jobs -pr) 2>/dev/null; wait' "$own" &
done
wait
"#,
        sources = pods.values().map(String::as_str).collect::<Vec<_>>().join(" "),
        targets = targets.into_iter().collect::<Vec<_>>().join(" "),
    );
    let name = |address: &str| {
        pods.iter().find(|(_, one)| *one == address).map(|(name, _)| name.clone()).context("whose address?")
    };
    let mut open = BTreeSet::new();
    for node in nodes {
        for line in node.run(&script).await?.lines() {
            let Some((from, to)) = line.split_once(' ') else { bail!("what is {line:?}?") };
            let (to, port) = to.split_once(':').context("no port")?;
            open.insert((name(from)?, name(to)?, port.parse()?));
        }
    }
    Ok(open)
}
