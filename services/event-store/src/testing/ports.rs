//! Ports for the servers of tests. Each program has blocks of its own: a server that a test has killed leaves a port
//! behind to which clients, sentinels and other nodes go on talking, and another program's server there would be taken
//! for it. Never gives a port twice in the life of a program.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Above what services commonly have, below what systems give to outgoing connections.
const PORTS: Range<u16> = 11_000..30_000;
const BLOCK: u16 = 100;

/// The blocks that this program has taken.
struct Blocks {
    /// The first port of each is listened on as long as the program lives: that is what takes the block.
    taken: Vec<TcpListener>,
    /// What is left of the last one.
    left: Range<u16>,
}

/// A port that nobody listens on now, that this program has not been given before, and that no other program is
/// given while this one lives. It is none of those that systems give to outgoing connections, which could take it
/// between its choice and its use.
///
/// # Panics
/// When there is none left.
#[must_use]
pub fn free_port() -> u16 {
    static BLOCKS: Mutex<Blocks> = Mutex::new(Blocks { taken: Vec::new(), left: 0..0 });
    let mut blocks = BLOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(port) = blocks.left.find(|port| listen(*port).is_some()) {
            return port;
        }
        let (guard, left) = block().unwrap_or_else(|| panic!("no free port in {PORTS:?}"));
        blocks.taken.push(guard);
        blocks.left = left;
    }
}

/// Takes a block that no program has.
fn block() -> Option<(TcpListener, Range<u16>)> {
    let count = (PORTS.end - PORTS.start) / BLOCK;
    // Programs that run beside each other begin at different places.
    let chance = RandomState::new().hash_one(()).to_ne_bytes();
    let first = u16::from_ne_bytes([chance[0], chance[1]]) % count;
    (0..count).find_map(|n| {
        let begin = PORTS.start + (first + n) % count * BLOCK;
        Some((listen(begin)?, begin + 1..begin + BLOCK))
    })
}

fn listen(port: u16) -> Option<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_programs_have_a_block_in_common() {
        let blocks: Vec<_> = (0..50).map(|_| block().unwrap()).collect();
        let begins: HashSet<u16> = blocks.iter().map(|(_, left)| left.start).collect();
        assert_eq!(begins.len(), 50);
        let ports: HashSet<u16> = (0..BLOCK * 2).map(|_| free_port()).collect();
        assert_eq!(ports.len(), usize::from(BLOCK * 2), "none is given twice");
        assert!(blocks.iter().all(|(_, left)| left.clone().all(|port| !ports.contains(&port))));
    }
}
