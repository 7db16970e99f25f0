//! Ports on loopback, below the range from which the kernel takes those of outgoing connections: a service
//! that is started again must find its port free.

use anyhow::{Result, bail};
use std::net::{Ipv4Addr, TcpListener};

const FROM: u16 = 20_000;
const TO: u16 = 32_000;

/// `count` ports that nobody listens on. Two runs at once begin to look in different places.
pub(super) fn free(count: usize) -> Result<Vec<u16>> {
    let span = TO - FROM;
    let offset = u16::try_from(u64::from(std::process::id()) * 41 % u64::from(span))?;
    let candidates = (0..span).map(|i| FROM + (offset + i) % span);
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let ports: Vec<u16> = candidates.filter(is_free).take(count).collect();
    if ports.len() < count {
        bail!("fewer than {count} free ports between {FROM} and {TO}");
    }
    Ok(ports)
}
