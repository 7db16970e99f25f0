//! Whether a group stands still: nothing was finished for a long time although entries are pending. Pure.

use super::item::Place;
use crate::{Id, StreamName};
use std::fmt;
use std::time::Duration;

/// A group of which nobody has finished anything for twice the claim time, although entries are pending.
///
/// By then a dead consumer's entries have been taken over. What remains is a handler that does not end, an entry that is
/// tried again, or a fault of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standstill {
    /// For so long nothing was finished, by the server's clock.
    pub lasts: Duration,
    /// The stream of the lowest pending entry.
    pub stream: StreamName,
    /// The lowest pending entry.
    pub id: Id,
    /// The consumer that it is pending for.
    pub consumer: String,
    /// Why this consumer tries it again; `None` where another one holds it, or where no attempt has failed.
    pub retry: Option<String>,
}

impl fmt::Display for Standstill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lasts, stream, id, consumer, retry } = self;
        write!(f, "nothing was finished for {} s: {stream} {id} is pending for {consumer}", lasts.as_secs())?;
        match retry {
            Some(reason) => write!(f, " and is tried again: {reason}"),
            None => Ok(()),
        }
    }
}

/// What the server says of one stream of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// So long ago something of the stream was finished, or became pending while nothing else was.
    pub(super) quiet: Duration,
    /// The lowest pending entry, and the consumer that it is pending for.
    pub(super) lowest: Option<(Place, String)>,
}

/// The place of the lowest pending entry with its consumer, and for how long the group has stood still, if it does.
pub(super) fn of(streams: &[Progress], claim_after: Duration) -> Option<(Place, String, Duration)> {
    let quiet = streams.iter().map(|progress| progress.quiet).min()?;
    let (place, consumer) = streams.iter().filter_map(|progress| progress.lowest.clone()).min()?;
    (quiet >= claim_after * 2).then_some((place, consumer, quiet))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIM_AFTER: Duration = Duration::from_secs(30);

    fn progress(quiet: u64, lowest: Option<u64>) -> Progress {
        let place = |ms| ((Id::new(ms, 0), 0), format!("pod-{ms}"));
        Progress { quiet: Duration::from_secs(quiet), lowest: lowest.map(place) }
    }

    #[test]
    fn a_group_stands_still_when_no_stream_of_it_has_gone_on_for_twice_the_claim_time() {
        let at = |streams: &[Progress]| {
            of(streams, CLAIM_AFTER).map(|(place, consumer, _)| (place.0.ms, consumer))
        };
        assert_eq!(at(&[progress(60, Some(7)), progress(90, Some(5))]), Some((5, "pod-5".to_owned())));
        assert_eq!(at(&[progress(59, Some(7))]), None, "it may still be claimed");
        assert_eq!(at(&[progress(600, Some(7)), progress(3, None)]), None, "another stream goes on");
        assert_eq!(at(&[progress(600, None)]), None, "nothing is pending");
        assert_eq!(at(&[]), None);
    }

    #[test]
    fn it_says_which_entry_waits_for_whom_and_why() {
        let stream = crate::Kind::new("mail").stream("requested");
        let mut standstill = Standstill {
            lasts: Duration::from_secs(75),
            stream,
            id: Id::new(5, 0),
            consumer: "pod-1".to_owned(),
            retry: None,
        };
        let said = "nothing was finished for 75 s: mail_requested 5-0 is pending for pod-1";
        assert_eq!(standstill.to_string(), said);
        standstill.retry = Some("the mail server is away".to_owned());
        assert_eq!(standstill.to_string(), format!("{said} and is tried again: the mail server is away"));
    }
}
