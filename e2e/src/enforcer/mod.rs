//! An enforcer of `NetworkPolicy` for clusters whose network has none: a tool for tests, not for use.
//!
//! The assembled node image has no enforcing network. This one looks at pods, namespaces and policies, turns them
//! into one nftables table and swaps it on every node when it changed ([`rules`] and [`table`] are pure). It enforces
//! the policies of one namespace, so that a test disturbs no other, and takes its table away at the end.

pub mod rules;
pub mod table;

use crate::cluster::Node;
use anyhow::Result;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::{Api, Client};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const TABLE: &str = "ordershop_e2e";
/// How long a change of a pod or a policy can take to have its effect.
const PERIOD: Duration = Duration::from_millis(300);

/// Enforces until it is stopped.
pub struct Enforcer {
    task: JoinHandle<Result<()>>,
    stop: oneshot::Sender<()>,
}

impl Enforcer {
    /// Begins with the policies of this namespace, on these nodes.
    #[must_use]
    pub fn start(client: &Client, namespace: &str, nodes: Vec<Node>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (client, namespace) = (client.clone(), namespace.to_owned());
        let task = tokio::spawn(async move {
            let enforced = enforce(&client, &namespace, &nodes, stopped).await;
            for node in &nodes {
                node.run(&nft(&table::remove(TABLE))).await?;
            }
            enforced
        });
        Self { task, stop }
    }

    /// Ends it, opens everything again, and says what went wrong meanwhile.
    pub async fn stop(self) -> Result<()> {
        // A task that has ended by itself says why below.
        let _ = self.stop.send(());
        self.task.await?
    }
}

/// Until its test is over, or gone. A round that has begun ends first: what is asked of a node is done there also when
/// nobody waits for it any more, maybe after the table was taken away.
async fn enforce(
    client: &Client,
    namespace: &str,
    nodes: &[Node],
    mut stopped: oneshot::Receiver<()>,
) -> Result<()> {
    let mut last = String::new();
    loop {
        let all = ListParams::default();
        let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), namespace);
        let (pods, namespaces): (Api<Pod>, Api<Namespace>) =
            (Api::all(client.clone()), Api::all(client.clone()));
        let (policies, pods, namespaces) =
            tokio::try_join!(policies.list(&all), pods.list(&all), namespaces.list(&all))?;
        let closed = rules::closed(&policies.items, &pods.items, &namespaces.items)?;
        let script = table::script(TABLE, &closed);
        if script != last {
            for node in nodes {
                node.run(&nft(&script)).await?;
            }
            last = script;
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            _ = &mut stopped => return Ok(()),
        }
    }
}

fn nft(script: &str) -> String {
    format!("nft -f - <<'END'\n{script}END\n")
}
