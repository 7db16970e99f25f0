//! Ordering keys as numbers: what a consumer asks most often is which keys are occupied and how far they are, so each
//! key is hashed once, when its event is read. The numbers are wide and begin at a secret of the process: that two
//! keys have the same one is not to be expected in the life of a universe. Pure.

use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::LazyLock;

static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(|| [RandomState::new(), RandomState::new()]);

/// An ordering key's number in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(u64, u64);

/// For maps and sets by marks.
pub(super) type ByMark = BuildHasherDefault<AsIs>;

impl Mark {
    pub(super) fn of(key: &str) -> Self {
        Self(KEYS[0].hash_one(key), KEYS[1].hash_one(key))
    }
}

impl Hash for Mark {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// Takes a number for its own hash.
#[derive(Debug, Default)]
pub(super) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 ^= number;
    }

    fn write_usize(&mut self, number: usize) {
        // Small numbers, such as those of streams: spread over all bits.
        self.0 ^= (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}
