//! When a shop whose reconciliation failed is tried again: later each time, and not all at the same moment.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_mins(1);

/// The failures in a row of each shop.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: Mutex<HashMap<(String, String), u32>>,
    /// Seeded at random: two operators do not retry in step.
    random: RandomState,
}

impl Backoff {
    /// One more failure of this shop: how long to wait.
    pub fn failed(&self, namespace: &str, name: &str) -> Duration {
        let key = (namespace.to_owned(), name.to_owned());
        let mut failures = self.failures();
        let count = failures.entry(key).and_modify(|count| *count = count.saturating_add(1)).or_insert(1);
        let percent = u32::try_from(self.random.hash_one((namespace, name, *count)) % 50).unwrap_or(0);
        delay(*count, percent)
    }

    /// The shop is fine again.
    pub fn succeeded(&self, namespace: &str, name: &str) {
        self.failures().remove(&(namespace.to_owned(), name.to_owned()));
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<(String, String), u32>> {
        // A count is whole at any moment, so a panic elsewhere cannot have left it half-written.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Doubles with each failure up to the longest, less `percent` of it.
fn delay(failures: u32, percent: u32) -> Duration {
    let doubled = FIRST.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(LONGEST);
    doubled * (100 - percent.min(100)) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_waits_longer_up_to_a_minute() {
        let delays = [1, 2, 3, 7, 8, 1000].map(|failures| delay(failures, 0).as_millis());
        assert_eq!(delays, [500, 1000, 2000, 32_000, 60_000, 60_000]);
    }

    #[test]
    fn a_success_starts_again_from_the_beginning() {
        let backoff = Backoff::default();
        for _ in 0..10 {
            backoff.failed("ns", "shop");
        }
        assert!(backoff.failed("ns", "shop") >= LONGEST / 2);
        backoff.succeeded("ns", "shop");
        assert!(backoff.failed("ns", "shop") <= FIRST);
    }
}
