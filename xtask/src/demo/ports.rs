//! Free loopback ports. Nothing is held: whoever gets a port binds it soon.

use anyhow::{Result, bail};
use std::net::{Ipv4Addr, TcpListener};

/// Below the range from which the kernel takes ports for outgoing connections, so that a service that is
/// restarted finds its port free.
const FROM: u16 = 20_000;
const TO: u16 = 32_000;

/// `count` ports that nobody listens on. Two demos that start at once begin to look in different places.
pub(super) fn free(count: usize) -> Result<Vec<u16>> {
    let span = TO - FROM;
    let offset = u16::try_from(u64::from(std::process::id()) * 37 % u64::from(span))?;
    let ports: Vec<u16> =
        (0..span).map(|i| FROM + (offset + i) % span).filter(|port| is_free(*port)).take(count).collect();
    if ports.len() < count {
        bail!("fewer than {count} free ports between {FROM} and {TO}");
    }
    Ok(ports)
}

/// Whether this port can be bound on loopback.
pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_someone_listens_on_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!is_free(listener.local_addr().unwrap().port()));
    }

    #[test]
    fn free_ports_differ_from_each_other() {
        let mut ports = free(20).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
    }
}
