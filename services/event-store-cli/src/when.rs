//! Times as people write and read them. Ids are times by the server's clock; what is meant relative
//! to now is meant by this machine's.

use event_store::Id;
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// Milliseconds since the Unix epoch as `2026-11-22T20:34:22.123Z`.
#[must_use]
pub fn time(ms: u64) -> String {
    i64::try_from(ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| format!("{ms} ms"), |time| format!("{time:.3}"))
}

/// A span as people say it, to two parts: `1m 30s`.
#[must_use]
pub fn span(ms: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let Some(at) = UNITS.iter().position(|(size, _)| ms >= *size) else { return format!("{ms}ms") };
    let (size, name) = UNITS[at];
    match UNITS.get(at + 1) {
        Some((next, lesser)) if ms % size >= *next => {
            format!("{}{name} {}{lesser}", ms / size, ms % size / next)
        }
        _ => format!("{}{name}", ms / size),
    }
}

/// Where to begin: an id, a time (`2026-11-22T20:00:00Z`), or a span before now (`90s`, `10m`, `2h`, `7d`).
pub(crate) fn since(text: &str) -> Result<Id, String> {
    since_at(text, Timestamp::now())
}

fn since_at(text: &str, now: Timestamp) -> Result<Id, String> {
    if let Ok(id) = text.parse::<Id>() {
        return Ok(id);
    }
    let time = match text.parse::<Timestamp>() {
        Ok(time) => time,
        Err(_) => before(text, now).ok_or_else(|| {
            format!(
                "{text:?} is no id (1548699678802-91), time (2026-11-22T20:00:00Z) or span (90s, 10m, 2h, 7d)"
            )
        })?,
    };
    Ok(Id::new(u64::try_from(time.as_millisecond()).unwrap_or(0), 0))
}

fn before(text: &str, now: Timestamp) -> Option<Timestamp> {
    now.checked_sub(SignedDuration::from_secs(i64::try_from(seconds(text)?).ok()?)).ok()
}

/// A span of time: `90s`, `10m`, `2h`, `7d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let seconds = seconds(text).filter(|seconds| *seconds > 0);
    seconds.map(Duration::from_secs).ok_or_else(|| format!("{text:?} is no span of time (90s, 10m, 2h, 7d)"))
}

fn seconds(text: &str) -> Option<u64> {
    let unit = text.chars().last()?;
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    number.checked_mul(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_an_id_a_time_or_a_span_before_now() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        for (text, id) in [
            ("5-3", Id::new(5, 3)),
            ("1970-01-01T00:00:01Z", Id::new(1_000, 0)),
            ("1970-01-01T01:00:01+01:00", Id::new(1_000, 0)),
            ("10m", Id::new(999_400_000, 0)),
            ("0s", Id::new(1_000_000_000, 0)),
        ] {
            assert_eq!(since_at(text, now), Ok(id), "{text}");
        }
        for wrong in ["", "m", "-5m", "5x", "yesterday", "99999999999999999999d", "9999999999999d", "5ü"] {
            assert!(since_at(wrong, now).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_and_spans_read_well() {
        assert_eq!(time(1_548_699_678_802), "2019-01-28T18:21:18.802Z");
        assert_eq!(time(u64::MAX), "18446744073709551615 ms");
        for (ms, text) in
            [(0, "0ms"), (999, "999ms"), (90_500, "1m 30s"), (3_600_000, "1h"), (90_000_000, "1d 1h")]
        {
            assert_eq!(span(ms), text);
        }
    }
}
