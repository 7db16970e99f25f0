//! What is remembered of a cluster between two commands, and the small decisions on it.

use crate::cache;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::net::TcpListener;
use std::path::PathBuf;

/// The host's port that is tried first.
const FIRST_PORT: u16 = 8080;

/// The record of one cluster.
#[derive(Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) engine: String,
    pub(crate) image: String,
    pub(crate) workers: usize,
    /// The port on this machine's loopback that leads to the node port.
    pub(crate) port: u16,
    /// False from the first change until the nodes are ready.
    pub(crate) complete: bool,
}

impl State {
    pub(crate) fn read(name: &str) -> Result<Option<Self>> {
        let file = folder()?.join(format!("{name}.json"));
        // A record that cannot be read is one of another version: the cluster is made anew.
        Ok(std::fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok()))
    }

    pub(crate) fn write(&self, name: &str) -> Result<()> {
        let folder = folder()?;
        std::fs::create_dir_all(&folder)?;
        let unfinished = folder.join(format!("{name}.tmp"));
        std::fs::write(&unfinished, serde_json::to_vec_pretty(self)?)?;
        std::fs::rename(unfinished, folder.join(format!("{name}.json"))).context("cannot record the cluster")
    }

    pub(crate) fn remove(name: &str) -> Result<()> {
        let file = folder()?.join(format!("{name}.json"));
        if file.exists() {
            std::fs::remove_file(file)?;
        }
        Ok(())
    }

    /// The clusters of this cache.
    pub(crate) fn names() -> Result<Vec<String>> {
        let Ok(entries) = std::fs::read_dir(folder()?) else { return Ok(Vec::new()) };
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json").map(str::to_owned))
            .collect();
        names.sort();
        Ok(names)
    }
}

fn folder() -> Result<PathBuf> {
    Ok(cache::dir()?.join("clusters"))
}

/// The port of last time if it is free, else the first free one from 8080 on. `forwarded` are those that a firewall
/// rule leads elsewhere: whoever listens there is never asked.
pub(crate) fn free_port(before: Option<u16>, forwarded: &HashSet<u16>) -> Result<u16> {
    before
        .into_iter()
        .chain(FIRST_PORT..FIRST_PORT + 100)
        .filter(|port| !forwarded.contains(port))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .context("no port from 8080 to 8179 is free on 127.0.0.1")
}

/// How many nodes a `kubectl get nodes -o json` shows, if all of them are Ready.
pub(crate) fn ready_nodes(json: &str) -> Option<usize> {
    let list: serde_json::Value = serde_json::from_str(json).ok()?;
    let nodes = list["items"].as_array()?;
    let ready = |node: &serde_json::Value| {
        node["status"]["conditions"].as_array().is_some_and(|conditions| {
            conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        })
    };
    nodes.iter().all(ready).then_some(nodes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_or_led_elsewhere_is_passed_over() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let none = HashSet::new();
        assert_ne!(free_port(Some(port), &none).unwrap(), port);
        drop(taken);
        assert_eq!(free_port(Some(port), &none).unwrap(), port);
        assert_ne!(free_port(Some(port), &HashSet::from([port])).unwrap(), port);
    }

    #[test]
    fn nodes_count_only_when_all_are_ready() {
        let node =
            |ready: &str| serde_json::json!({"status": {"conditions": [{"type": "Ready", "status": ready}]}});
        let both = serde_json::json!({"items": [node("True"), node("True")]}).to_string();
        let one = serde_json::json!({"items": [node("True"), node("Unknown")]}).to_string();
        assert_eq!(ready_nodes(&both), Some(2));
        assert_eq!(ready_nodes(&one), None);
        assert_eq!(ready_nodes("no answer"), None);
    }
}
