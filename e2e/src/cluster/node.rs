//! A shell on a node of the cluster, by way of a privileged pod.

use super::SOON;
use super::exec::exec;
use crate::deadline::eventually;
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, Node as Object, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

/// Apart from the tests' namespaces, which admit no such pod.
const NAMESPACE: &str = "e2e-nodes";
/// The `DaemonSet` that is the network of assembled nodes and enforces no policy, and its image.
const ASSEMBLED: (&str, &str) = ("node-routes", "localhost/node-routes:1");

/// One node. Its pod ends by itself after an hour.
#[derive(Clone)]
pub struct Node {
    pods: Api<Pod>,
    name: String,
    assembled: bool,
}

impl Node {
    /// All nodes. `fallback`: an image with a shell, for nodes that lack the assembled one's.
    pub async fn all(client: &Client, fallback: &str) -> Result<Vec<Self>> {
        let how = PatchParams::apply("e2e").force();
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "privileged"}},
        });
        Api::<Namespace>::all(client.clone()).patch(NAMESPACE, &how, &Patch::Apply(namespace)).await?;
        let networks: Api<DaemonSet> = Api::namespaced(client.clone(), "kube-system");
        let assembled = networks.get_opt(ASSEMBLED.0).await?.is_some();
        let image = if assembled { ASSEMBLED.1 } else { fallback };
        let mut nodes = Vec::new();
        for node in Api::<Object>::all(client.clone()).list(&ListParams::default()).await? {
            let pods = Api::namespaced(client.clone(), NAMESPACE);
            let one = Self { pods, name: node.name_any(), assembled };
            one.start(image).await?;
            nodes.push(one);
        }
        ensure!(!nodes.is_empty(), "the cluster has no nodes");
        Ok(nodes)
    }

    async fn start(&self, image: &str) -> Result<()> {
        let wait: &[&str] =
            if self.assembled { &["/bin/busybox", "sleep", "3600"] } else { &["sleep", "3600"] };
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": self.name},
            "spec": {
                "nodeName": self.name, "hostNetwork": true, "hostPID": true, "restartPolicy": "Never",
                "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
                "tolerations": [{"operator": "Exists"}],
                "containers": [{
                    "name": "shell", "image": image, "imagePullPolicy": "IfNotPresent", "command": wait,
                    "securityContext": {"privileged": true, "runAsUser": 0},
                    "volumeMounts": [{"name": "host", "mountPath": "/host"}],
                }],
                "volumes": [{"name": "host", "hostPath": {"path": "/"}}],
            },
        });
        // One that is over from an earlier run.
        let _ = self.pods.delete(&self.name, &DeleteParams::default().grace_period(0)).await;
        eventually("a shell on the node", SOON, async || {
            let how = PatchParams::apply("e2e").force();
            let found = self.pods.patch(&self.name, &how, &Patch::Apply(&pod)).await?;
            let phase = found.status.and_then(|status| status.phase);
            ensure!(found.metadata.deletion_timestamp.is_none(), "the old one is still ending");
            ensure!(phase.as_deref() == Some("Running"), "{phase:?}");
            Ok(())
        })
        .await
    }

    /// Whether it is an assembled one, whose network enforces no policy.
    #[must_use]
    pub fn is_assembled(&self) -> bool {
        self.assembled
    }

    /// Runs a script of bash on the node itself; what it writes.
    pub async fn run(&self, script: &str) -> Result<String> {
        let chroot: &[&str] = if self.assembled { &["/bin/busybox", "chroot"] } else { &["chroot"] };
        let enter = ["/host", "nsenter", "-t", "1", "-m", "-n", "--", "bash", "-c", script];
        let command = chroot.iter().chain(&enter).copied();
        exec(&self.pods, &self.name, "shell", command).await.with_context(|| format!("on node {}", self.name))
    }

    /// Takes the pod away.
    pub async fn leave(self) -> Result<()> {
        self.pods.delete(&self.name, &DeleteParams::default().grace_period(0)).await?;
        Ok(())
    }
}
