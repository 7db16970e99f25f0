//! The nftables table that does what the rules say, pure. It is swapped as a whole, so no moment is half closed.

use super::rules::{Allow, Closed, Direction};
use std::collections::BTreeSet;

/// The script for `nft -f` that puts the table in place of the one that is there.
#[must_use]
pub fn script(table: &str, closed: &Closed) -> String {
    let mut chains = String::new();
    for ((address, direction), rules) in closed {
        line(&mut chains, &format!(" chain {} {{", chain(address, *direction)));
        for rule in rules {
            exceptions(&mut chains, rule, *direction);
        }
        line(&mut chains, "  drop\n }");
    }
    let (out, into) = (jumps(closed, Direction::Out), jumps(closed, Direction::In));
    // What a node sends by itself, probes among it, passes neither hook. What a pod sends to the node itself comes
    // by way of input.
    format!(
        "{}table inet {table} {{\n{chains}\
         \x20chain forwarded {{\n  type filter hook forward priority -1; policy accept;\n\
         \x20 ct state established,related accept\n{out}{into} }}\n\
         \x20chain to_node {{\n  type filter hook input priority -1; policy accept;\n\
         \x20 ct state established,related accept\n{out} }}\n}}\n",
        remove(table)
    )
}

/// The script that removes the table, also when there is none.
#[must_use]
pub fn remove(table: &str) -> String {
    format!("table inet {table}\ndelete table inet {table}\n")
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn chain(address: &str, direction: Direction) -> String {
    let way = match direction {
        Direction::In => "in",
        Direction::Out => "out",
    };
    format!("{way}_{}", address.replace('.', "_"))
}

/// A chain that returns goes on with the next rule: what may leave one pod must still be let into the other.
fn exceptions(text: &mut String, rule: &Allow, direction: Direction) {
    let end = match direction {
        Direction::In => "saddr",
        Direction::Out => "daddr",
    };
    let peers = match &rule.peers {
        None => vec![String::new()],
        // Peers that are not there: nobody.
        Some(peers) => peers.iter().map(|(peer, except)| among(end, peer, except)).collect(),
    };
    let ports = match &rule.ports {
        None => vec![String::new()],
        Some(ports) => {
            ports.iter().map(|(protocol, first, last)| format!("{protocol} dport {first}-{last} ")).collect()
        }
    };
    for (peer, port) in peers.iter().flat_map(|peer| ports.iter().map(move |port| (peer, port))) {
        line(text, &format!("  {peer}{port}return"));
    }
}

fn among(end: &str, peer: &str, except: &BTreeSet<String>) -> String {
    let except = except.iter().fold(String::new(), |text, part| format!("{text}ip {end} != {part} "));
    format!("ip {end} {peer} {except}")
}

fn jumps(closed: &Closed, direction: Direction) -> String {
    let own = match direction {
        Direction::In => "daddr",
        Direction::Out => "saddr",
    };
    let verdicts: Vec<_> = closed
        .keys()
        .filter(|(_, found)| *found == direction)
        .map(|(address, _)| format!("{address} : jump {}", chain(address, direction)))
        .collect();
    if verdicts.is_empty() {
        String::new()
    } else {
        format!("  ip {own} vmap {{ {} }}\n", verdicts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_closed_pod_drops_all_but_its_exceptions_and_the_table_is_swapped() {
        let allow = Allow {
            peers: Some(BTreeMap::from([
                ("10.0.0.2".to_owned(), BTreeSet::new()),
                ("10.0.0.0/16".to_owned(), BTreeSet::from(["10.0.1.0/24".to_owned()])),
            ])),
            ports: Some(BTreeSet::from([("tcp".to_owned(), 6379, 6379)])),
        };
        let closed = Closed::from([
            (("10.0.0.1".to_owned(), Direction::In), BTreeSet::from([allow])),
            (("10.0.0.1".to_owned(), Direction::Out), BTreeSet::new()),
        ]);
        assert_eq!(
            script("t", &closed),
            "table inet t\ndelete table inet t\ntable inet t {\n \
             chain in_10_0_0_1 {\n  \
             ip saddr 10.0.0.0/16 ip saddr != 10.0.1.0/24 tcp dport 6379-6379 return\n  \
             ip saddr 10.0.0.2 tcp dport 6379-6379 return\n  drop\n }\n \
             chain out_10_0_0_1 {\n  drop\n }\n \
             chain forwarded {\n  type filter hook forward priority -1; policy accept;\n  \
             ct state established,related accept\n  \
             ip saddr vmap { 10.0.0.1 : jump out_10_0_0_1 }\n  ip daddr vmap { 10.0.0.1 : jump in_10_0_0_1 }\n }\n \
             chain to_node {\n  type filter hook input priority -1; policy accept;\n  \
             ct state established,related accept\n  ip saddr vmap { 10.0.0.1 : jump out_10_0_0_1 }\n }\n}\n"
        );
    }
}
