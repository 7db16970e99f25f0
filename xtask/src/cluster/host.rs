//! The few things of the machine that a cluster needs changed, and their undoing after the last cluster is gone.
//!
//! Only what was recorded as ours is undone, and only firewall chains that nobody uses any more.

use super::engine::{Engine, podman_folder};
use crate::cache;
use crate::tools::{Run, is_root};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use walkdir::WalkDir;

const INSTANCES: &str = "/proc/sys/fs/inotify/max_user_instances";
/// All nodes share this limit with the machine; the usual 128 is soon used up.
const INSTANCES_NEEDED: u32 = 1024;
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
/// kind mounts it into every node.
const MODULES: &str = "/lib/modules";

/// What was there before the first cluster.
#[derive(Serialize, Deserialize)]
struct Before {
    inotify_instances: Option<String>,
    ip_forward: Option<String>,
    made_modules: bool,
    /// nftables' tables (family and name); those that come with the cluster go with it when they are empty.
    tables: Vec<String>,
    netns_mount: bool,
}

/// Changes what must be changed; what was there is recorded first.
pub(crate) fn prepare() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    if !record()?.exists() {
        let before = Before {
            inotify_instances: read_setting(INSTANCES),
            ip_forward: read_setting(FORWARDING),
            made_modules: !Path::new(MODULES).exists(),
            tables: tables(),
            netns_mount: is_mounted(Path::new("/run/netns")),
        };
        let unfinished = cache::dir()?.join("machine.tmp");
        fs::write(&unfinished, serde_json::to_vec_pretty(&before)?)?;
        fs::rename(unfinished, record()?)?;
    }
    if !Path::new(MODULES).exists() {
        fs::create_dir_all(MODULES)?;
    }
    let instances = read_setting(INSTANCES).and_then(|text| text.parse::<u32>().ok());
    if instances.is_some_and(|instances| instances < INSTANCES_NEEDED) {
        // Not everywhere may root do that; a small cluster runs without it.
        if fs::write(INSTANCES, INSTANCES_NEEDED.to_string()).is_err() {
            eprintln!(
                "     {INSTANCES} could not be raised to {INSTANCES_NEEDED}: pods may fail to watch files"
            );
        }
    }
    Ok(())
}

/// Undoes that. Call when no cluster is left.
pub(crate) fn restore(engine: &Engine) -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let record = record()?;
    let before: Option<Before> = fs::read(&record).ok().and_then(|text| serde_json::from_slice(&text).ok());
    if engine.is_podman() {
        let folder = podman_folder()?;
        unmount_below(&folder)?;
        for path in [folder.join("run"), folder.join("tmp")] {
            if path.exists() {
                fs::remove_dir_all(path)?;
            }
        }
        remove_empty_cgroups();
        for family in ["iptables", "ip6tables"] {
            remove_unused_chains(family)?;
        }
    }
    let Some(before) = before else { return Ok(()) };
    for table in tables().into_iter().filter(|table| !before.tables.contains(table)) {
        remove_empty_table(&table);
    }
    if !before.netns_mount && is_mounted(Path::new("/run/netns")) && is_empty(Path::new("/run/netns")) {
        Command::new("umount").arg("/run/netns").succeeds();
        // fails, as it should, when something is in it
        let _ = fs::remove_dir("/run/netns");
    }
    for (file, value) in [(INSTANCES, before.inotify_instances), (FORWARDING, before.ip_forward)] {
        if let Some(value) = value.filter(|value| read_setting(file).as_ref() != Some(value)) {
            fs::write(file, value)?;
        }
    }
    if before.made_modules {
        // fails, as it should, when something is in it
        let _ = fs::remove_dir(MODULES);
    }
    fs::remove_file(record)?;
    Ok(())
}

/// Ports of this machine that a firewall rule leads to some container. A cluster that was killed, not removed, leaves
/// such rules behind; they come before those of a new cluster.
pub(crate) fn forwarded_ports() -> HashSet<u16> {
    // Without root, and so without a list, no container engine makes such rules either.
    ports_of_rules(&Command::new("iptables-save").args(["-t", "nat"]).text().unwrap_or_default())
}

fn ports_of_rules(saved: &str) -> HashSet<u16> {
    let rules = saved.lines().filter(|rule| rule.contains("-j DNAT"));
    rules.filter_map(|rule| rule.split_once("--dport ")?.1.split(' ').next()?.parse().ok()).collect()
}

fn record() -> Result<PathBuf> {
    Ok(cache::dir()?.join("machine.json"))
}

fn read_setting(file: &str) -> Option<String> {
    fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

fn mount_points() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(|path| path.replace("\\040", " ").into())
        .collect()
}

fn is_mounted(path: &Path) -> bool {
    mount_points().iter().any(|point| point == path)
}

/// podman leaves its storage mounted on itself.
fn unmount_below(folder: &Path) -> Result<()> {
    for point in mount_points().iter().rev().filter(|point| point.starts_with(folder)) {
        Command::new("umount").arg(point).run()?;
    }
    Ok(())
}

/// podman leaves the parent of its containers' control groups in every hierarchy.
fn remove_empty_cgroups() {
    let hierarchies =
        fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]) {
        let groups = WalkDir::new(hierarchy.join("libpod_parent")).contents_first(true).into_iter().flatten();
        for group in groups.filter(|entry| entry.file_type().is_dir()) {
            // fails, as it should, while a process is in it
            let _ = fs::remove_dir(group.path());
        }
    }
}

/// netavark leaves its chains and the jumps to them when the last container is gone.
fn remove_unused_chains(iptables: &str) -> Result<()> {
    let rules = Command::new(format!("{iptables}-save")).text().unwrap_or_default();
    for (table, arguments) in removals(&rules) {
        Command::new(iptables).args(["-w", "-t", &table]).args(arguments).run()?;
    }
    Ok(())
}

/// The commands (table and arguments of iptables) that remove netavark's chains from a table, if none of them serves
/// a network any more: rules with an address are a network's.
fn removals(saved: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for section in saved.split("\n*").map(|section| section.trim_start_matches(['#', '*'])) {
        let Some(table) =
            section.lines().map(|line| line.trim_start_matches('*')).find(|line| is_table(line))
        else {
            continue;
        };
        let rules: Vec<&str> =
            section.lines().filter(|line| line.starts_with("-A ") && line.contains("NETAVARK")).collect();
        let in_use = rules.iter().any(|rule| rule.contains(" -s ") || rule.contains(" --dport "));
        let chains = section.lines().filter_map(|line| line.strip_prefix(":NETAVARK"));
        let chains: Vec<String> =
            chains.filter_map(|rest| rest.split(' ').next()).map(|rest| format!("NETAVARK{rest}")).collect();
        if in_use || chains.is_empty() {
            continue;
        }
        let outside = rules.iter().filter(|rule| !rule.starts_with("-A NETAVARK"));
        let words = |rule: &&str| split_rule(&rule.replacen("-A ", "-D ", 1));
        found.extend(outside.map(|rule| (table.to_owned(), words(rule))));
        for verb in ["-F", "-X"] {
            found.extend(chains.iter().map(|chain| (table.to_owned(), vec![verb.to_owned(), chain.clone()])));
        }
    }
    found
}

fn is_table(word: &str) -> bool {
    matches!(word, "filter" | "nat" | "mangle" | "raw" | "security")
}

/// The words of a saved rule; a comment is quoted.
fn split_rule(rule: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in rule.split('"').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

fn tables() -> Vec<String> {
    let text = Command::new("nft").args(["list", "tables"]).text().unwrap_or_default();
    text.lines().filter_map(|line| line.strip_prefix("table ")).map(str::to_owned).collect()
}

fn remove_empty_table(table: &str) {
    let words = || table.split(' ');
    let Ok(text) = Command::new("nft").args(["list", "table"]).args(words()).text() else { return };
    if has_no_rule(&text) {
        Command::new("nft").args(["delete", "table"]).args(words()).succeeds();
    }
}

/// A table that has chains at most: those with a hook show their type and policy, and that is all.
fn has_no_rule(table: &str) -> bool {
    table.lines().map(str::trim).all(|line| {
        line.is_empty()
            || line == "}"
            || line.starts_with('#')
            || line.starts_with("table ")
            || line.starts_with("chain ")
            || (line.starts_with("type ") && line.ends_with("policy accept;"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INERT: &str = "*nat\n:PREROUTING ACCEPT [0:0]\n:NETAVARK-HOSTPORT-DNAT - [0:0]\n:NETAVARK-HOSTPORT-MASQ - [0:0]\n\
        -A PREROUTING -m addrtype --dst-type LOCAL -j NETAVARK-HOSTPORT-DNAT\n\
        -A NETAVARK-HOSTPORT-MASQ -m comment --comment \"masq marked\" -m mark --mark 0x2000/0x2000 -j MASQUERADE\nCOMMIT\n";

    #[test]
    fn a_port_that_a_rule_leads_to_a_container_is_known() {
        let rules = "-A NETAVARK-DN-1 -s 10.89.0.0/24 -d 127.0.0.1/32 -p tcp -m tcp --dport 8081 -j NETAVARK-HOSTPORT-SETMARK\n\
            -A NETAVARK-DN-1 -d 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.89.0.3:30080\n";
        assert_eq!(ports_of_rules(rules), HashSet::from([8080]));
        assert_eq!(ports_of_rules(INERT), HashSet::new());
    }

    #[test]
    fn chains_that_nobody_uses_are_removed_with_the_jumps_to_them() {
        let lines: Vec<String> = removals(INERT)
            .into_iter()
            .map(|(table, words)| format!("{table} {}", words.join(" ")))
            .collect();
        assert_eq!(lines[0], "nat -D PREROUTING -m addrtype --dst-type LOCAL -j NETAVARK-HOSTPORT-DNAT");
        assert!(lines.contains(&"nat -F NETAVARK-HOSTPORT-MASQ".to_owned()));
        assert_eq!(lines.last().map(String::as_str), Some("nat -X NETAVARK-HOSTPORT-MASQ"));
    }

    #[test]
    fn chains_of_another_network_stay() {
        let used =
            INERT.replace("COMMIT", "-A POSTROUTING -s 10.88.0.0/16 -j NETAVARK-1D8721804F16F\nCOMMIT");
        assert!(removals(&used).is_empty());
    }

    #[test]
    fn a_table_with_a_rule_is_not_empty() {
        let empty = "table ip nat {\n\tchain PREROUTING {\n\t\ttype nat hook prerouting priority dstnat; policy accept;\n\t}\n}";
        assert!(has_no_rule(empty));
        assert!(!has_no_rule(&empty.replace("accept;", "accept;\n\t\tcounter drop")));
    }
}
