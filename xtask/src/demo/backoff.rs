//! How long to wait before a process that died is started again. Pure.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);
/// Who lived this long starts afresh.
const STEADY: Duration = Duration::from_secs(10);

/// Doubles from one short life to the next.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Backoff {
    short_lives: u32,
}

impl Backoff {
    /// The pause after a life of this length.
    pub(super) fn after(&mut self, life: Duration) -> Duration {
        if life >= STEADY {
            self.short_lives = 0;
        }
        let pause = FIRST.saturating_mul(2_u32.saturating_pow(self.short_lives)).min(LONGEST);
        self.short_lives = self.short_lives.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..8).map(|_| backoff.after(Duration::from_millis(5)).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    }

    #[test]
    fn a_process_that_ran_well_is_started_again_at_once() {
        let mut backoff = Backoff::default();
        for _ in 0..9 {
            backoff.after(Duration::ZERO);
        }
        assert_eq!(backoff.after(Duration::from_mins(1)), FIRST);
    }
}
