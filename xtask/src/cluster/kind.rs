//! kind itself: the cluster's configuration and the few commands that are used.

use super::engine::Engine;
use super::state::State;
use super::{NODE_PORT, kubeconfig_of, network};
use crate::tools::{Run, bound_to_us, found, go};
use anyhow::{Context, Result};
use serde_json::json;
use std::io::{Seek, Write};
use std::path::Path;
use std::process::Command;

/// kind on this engine, in the cluster's own network.
pub(crate) fn command(engine: &Engine, cluster: &str) -> Result<Command> {
    let mut kind = go::KIND.command()?;
    engine.set_env(&mut kind);
    let network = network(cluster)?;
    kind.env("KIND_EXPERIMENTAL_PROVIDER", engine.name())
        .env("KIND_EXPERIMENTAL_PODMAN_NETWORK", &network)
        .env("KIND_EXPERIMENTAL_DOCKER_NETWORK", &network);
    Ok(kind)
}

/// Makes the nodes and waits until they are Ready.
pub(crate) fn create(engine: &Engine, name: &str, state: &State, kubeconfig: &Path) -> Result<()> {
    let mut config = tempfile::tempfile()?;
    config.write_all(configuration(name, state).to_string().as_bytes())?;
    config.rewind()?;
    let mut create = command(engine, name)?;
    create
        .args(["create", "cluster", "--name", name, "--config", "-", "--wait", "180s", "--kubeconfig"])
        .arg(kubeconfig);
    // A kind that fails deletes the nodes of its cluster's name: it must not live on beside the next one.
    let mut create = if found("setpriv") { bound_to_us(&create) } else { create };
    create.stdin(config).run().context("kind could not make the cluster")
}

/// Writes the kubeconfig again, as the user may have removed it; false when there is nothing to write.
pub(crate) fn export_kubeconfig(engine: &Engine, name: &str) -> bool {
    let export = || -> Result<()> {
        command(engine, name)?
            .args(["export", "kubeconfig", "--name", name, "--kubeconfig"])
            .arg(kubeconfig_of(name)?)
            .run()
    };
    export().is_ok()
}

/// kind's configuration (YAML takes JSON).
fn configuration(name: &str, state: &State) -> serde_json::Value {
    let mut nodes = vec![json!({
        "role": "control-plane",
        "image": state.image,
        "extraPortMappings": [
            {"containerPort": NODE_PORT, "hostPort": state.port, "listenAddress": "127.0.0.1"},
        ],
    })];
    nodes.extend((0..state.workers).map(|_| json!({"role": "worker", "image": state.image})));
    // On a machine with cgroup v1 the kubelet would otherwise refuse to start.
    let kubelet = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": false,
    });
    json!({
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "name": name,
        "networking": {"apiServerAddress": "127.0.0.1"},
        "nodes": nodes,
        "kubeadmConfigPatches": [kubelet.to_string()],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_port_is_reachable_from_this_machine_only() {
        let state =
            State { engine: "podman".into(), image: "node".into(), workers: 2, port: 8081, complete: false };
        let config = configuration("test", &state);
        assert_eq!(config["nodes"].as_array().unwrap().len(), 3);
        let mapping = &config["nodes"][0]["extraPortMappings"][0];
        assert_eq!((&mapping["hostPort"], &mapping["listenAddress"]), (&json!(8081), &json!("127.0.0.1")));
        assert!(config["nodes"][1].get("extraPortMappings").is_none());
    }
}
