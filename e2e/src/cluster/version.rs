//! Another version of the shop's images: the same ones by another tag, made on the nodes themselves.

use super::SERVICES;
use super::shop::Shop;
use crate::deadline::eventually;
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use std::time::Duration;

/// Pods that may reach the node's own containerd are not for a namespace that is restricted.
const NAMESPACE: &str = "kube-system";
const WITHIN: Duration = Duration::from_mins(2);

impl Shop {
    /// Gives the images of the nine services a further tag on every node; the version that this is. It needs nodes
    /// that run containerd and have `ctr`, as kind's do.
    pub async fn another_version(&self) -> Result<String> {
        let mut tags = Vec::new();
        let mut version = String::new();
        for service in SERVICES {
            let pod = self.deployment(service).await?.spec.and_then(|spec| spec.template.spec);
            let image = pod.and_then(|pod| pod.containers.into_iter().next()?.image).context("no image")?;
            let (name, tag) = image.rsplit_once(':').with_context(|| format!("{image} has no tag"))?;
            version = format!("{tag}-next");
            tags.push((image.clone(), format!("{name}:{version}")));
        }
        let redis = self.objects::<StatefulSet>().get("shop-redis").await?;
        let pod = redis.spec.and_then(|spec| spec.template.spec).context("no pod")?;
        let program = pod.containers[0].image.clone().context("no image")?;
        for node in Api::<Node>::all(self.client.clone()).list(&ListParams::default()).await? {
            tag_on(&Api::namespaced(self.client.clone(), NAMESPACE), &node.name_any(), &program, &tags)
                .await?;
        }
        Ok(version)
    }
}

/// Runs the node's `ctr` once per image, in a container of an image that the node has.
async fn tag_on(pods: &Api<Pod>, node: &str, image: &str, tags: &[(String, String)]) -> Result<()> {
    let containers = tags.iter().enumerate().map(|(index, (from, to))| {
        json!({
            "name": format!("tag-{index}"),
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["/host/usr/local/bin/ctr", "--address", "/host/run/containerd/containerd.sock",
                "--namespace", "k8s.io", "images", "tag", "--force", from, to],
            "securityContext": {"runAsUser": 0},
            "volumeMounts": [{"name": "host", "mountPath": "/host"}],
        })
    });
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"generateName": "e2e-tag-"},
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "tolerations": [{"operator": "Exists"}],
            "containers": containers.collect::<Vec<_>>(),
            "volumes": [{"name": "host", "hostPath": {"path": "/"}}],
        },
    }))?;
    let name = pods.create(&PostParams::default(), &pod).await?.name_any();
    let done = eventually("the images have another tag", WITHIN, async || {
        let status = pods.get(&name).await?.status.unwrap_or_default();
        ensure!(status.phase.as_deref() == Some("Succeeded"), "{:?}", status.container_statuses);
        Ok(())
    })
    .await;
    pods.delete(&name, &DeleteParams::default()).await?;
    done
}
