//! When a consumer may take entries from others that have given no sign of life. Pure.
//!
//! Idle time alone does not prove death: after the server stood still, was away, or set its clock, the
//! entries of all consumers look abandoned, and whoever comes first would take what others are still
//! handling. A consumer knows such a time by itself: it could not keep its own entries alive either.
//! Then it gives the others as long as they need to say that they live.

use std::time::{Duration, Instant};

/// Nobody needs longer to connect again and to say that he lives.
const LONGEST_GRACE: Duration = Duration::from_secs(5);

/// An entry that is idle for so long was handed back or replayed, and waits for anybody.
const HANDED_BACK: Duration = Duration::from_hours(12);

/// A claim that takes longer than a part of the claim time may find the living silent; but however short
/// that time is, an answer may take this long.
const LEAST_MARGIN: Duration = Duration::from_secs(1);

/// Who is late again and again claims in the end: after so many claim times the dead have waited enough.
const CLAIM_TIMES: u32 = 4;

#[derive(Debug)]
pub(super) struct Patience {
    claim_after: Duration,
    /// When this consumer last kept its entries alive, or would have if it had any.
    kept: Option<Instant>,
    /// Since then it has always done so in time.
    calm_since: Instant,
    /// Since then it has not been calm for long enough.
    uneasy_since: Instant,
}

impl Patience {
    pub(super) fn new(claim_after: Duration, now: Instant) -> Self {
        Self { claim_after, kept: None, calm_since: now, uneasy_since: now }
    }

    /// Between two signs of life: so many of them may be late before anybody takes the silence for death.
    pub(super) fn interval(claim_after: Duration) -> Duration {
        claim_after / 4
    }

    /// So long after a sign of life the server still takes a claim.
    pub(super) fn margin(claim_after: Duration) -> Duration {
        Self::interval(claim_after).max(LEAST_MARGIN)
    }

    /// The own entries were kept alive at this time.
    pub(super) fn kept(&mut self, now: Instant) {
        let in_time = self.kept.is_some_and(|kept| now.duration_since(kept) <= self.claim_after / 2);
        if !in_time {
            if self.kept.is_some_and(|kept| self.is_calm(kept)) {
                self.uneasy_since = now;
            }
            self.calm_since = now;
        }
        self.kept = Some(now);
    }

    fn is_calm(&self, now: Instant) -> bool {
        now.duration_since(self.calm_since) >= (self.claim_after / 2).min(LONGEST_GRACE)
    }

    /// How long an entry must have been idle to be taken now.
    pub(super) fn least_idle(&self, now: Instant) -> Duration {
        let waited_enough = now.duration_since(self.uneasy_since) >= self.claim_after * CLAIM_TIMES;
        if self.kept.is_some() && (self.is_calm(now) || waited_enough) {
            self.claim_after
        } else {
            self.claim_after.max(HANDED_BACK)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIM_AFTER: Duration = Duration::from_millis(400);

    /// The least idle times after signs of life at these milliseconds.
    fn after(signs: &[u64]) -> Vec<bool> {
        let began = Instant::now();
        let mut patience = Patience::new(CLAIM_AFTER, began);
        let mut may_claim = Vec::new();
        for ms in signs {
            let now = began + Duration::from_millis(*ms);
            patience.kept(now);
            may_claim.push(patience.least_idle(now) == CLAIM_AFTER);
        }
        may_claim
    }

    #[test]
    fn who_comes_or_was_late_itself_gives_the_others_time_to_say_that_they_live() {
        assert_eq!(after(&[0, 100, 200, 300]), [false, false, true, true]);
        // Late by more than half of the time: whoever else was late may not have been dead either.
        assert_eq!(after(&[0, 100, 200, 401, 500, 601]), [false, false, true, false, false, true]);
        // A sign that is late by less cannot have cost anybody else his entries.
        assert_eq!(after(&[0, 200, 400, 600]), [false, true, true, true]);
    }

    #[test]
    fn who_is_always_late_claims_in_the_end() {
        assert_eq!(
            after(&[0, 300, 600, 900, 1200, 1500, 1800, 2100]),
            [false, false, false, false, false, false, true, true]
        );
        // Once calm, the next time is a new one.
        assert_eq!(after(&[0, 200, 1700, 2000, 2200, 2700]), [false, true, false, false, true, false]);
    }

    #[test]
    fn what_was_handed_back_is_taken_at_once() {
        let patience = Patience::new(CLAIM_AFTER, Instant::now());
        assert!(patience.least_idle(Instant::now()) < Duration::from_hours(24));
    }

    #[test]
    fn the_grace_is_bounded_however_long_entries_are_left_alone() {
        let began = Instant::now();
        let mut patience = Patience::new(Duration::from_hours(1), began);
        patience.kept(began);
        assert_eq!(patience.least_idle(began + LONGEST_GRACE), Duration::from_hours(1));
    }
}
