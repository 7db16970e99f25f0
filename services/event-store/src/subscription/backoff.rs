//! How long to wait before an event is tried again. Pure.

use std::time::Duration;

/// Exponential with full jitter: a pause between half of and all of `base * 2^attempt`, capped.
/// `random` is a number of [0, 1).
pub(crate) fn pause(base: Duration, cap: Duration, attempt: u32, random: f64) -> Duration {
    let full = base.saturating_mul(1_u32.checked_shl(attempt.min(30)).unwrap_or(u32::MAX)).min(cap);
    full.mul_f64(0.5 + random / 2.0)
}

/// A number of [0, 1) that differs between events and attempts; quality does not matter here.
pub(crate) fn jitter(id: crate::Id, attempt: u32) -> f64 {
    let mut x = id.ms ^ id.seq.rotate_left(32) ^ u64::from(attempt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x ^= u64::from(std::process::id()).rotate_left(17);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    f64::from(u32::try_from(x >> 33).unwrap_or(0)) / f64::from(1_u32 << 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(100);
    const CAP: Duration = Duration::from_secs(30);

    #[test]
    fn pauses_double_and_stay_below_the_cap() {
        assert_eq!(pause(BASE, CAP, 0, 1.0), BASE);
        assert_eq!(pause(BASE, CAP, 3, 1.0), BASE * 8);
        assert_eq!(pause(BASE, CAP, 3, 0.0), BASE * 4);
        assert_eq!(pause(BASE, CAP, 40, 1.0), CAP);
        assert_eq!(pause(BASE, CAP, u32::MAX, 1.0), CAP);
    }

    #[test]
    fn jitter_is_a_fraction_and_differs_between_events() {
        let values: Vec<f64> = (0..100).map(|n| jitter(crate::Id::new(n, n), 1)).collect();
        assert!(values.iter().all(|v| (0.0..1.0).contains(v)));
        assert!(values.iter().any(|v| *v < 0.3) && values.iter().any(|v| *v > 0.7));
    }
}
