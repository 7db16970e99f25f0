//! Ordering keys as numbers: which keys are occupied is what a consumer asks most often, so each key is
//! hashed once, when its event is read. Two keys with one number wait for each other without need; that
//! delays and never reorders. Pure.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::LazyLock;

static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// An ordering key's number in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(u64);

/// Some of them.
pub(super) type Marks = HashSet<Mark, BuildHasherDefault<AsIs>>;

impl Mark {
    pub(super) fn of(key: &str) -> Self {
        Self(KEYS.hash_one(key))
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
        self.0 = number;
    }
}
