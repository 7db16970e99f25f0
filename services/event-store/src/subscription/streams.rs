//! The streams of a group: which of them its living consumers read. Consumers of one group may name different streams,
//! as the old and the new pods of a rolling update do. Pure; `register` talks to the server.
//!
//! # Why the order per key holds while the streams grow
//!
//! Consumer `O` reads stream `A`, consumer `N` joins with `A` and `B`. An event `a` of `A` must not be handed out while an
//! earlier event `b` of one of its keys on `B` is unfinished.
//!
//! - Each consumer stores with its heartbeats, on the server, which streams it reads. `ready` compares that list with the
//!   one that the question was made with, in the step that answers it: from the moment at which `N` is in the list, no
//!   answer permits `a` without a look at `b`.
//! - A consumer that hands out without a question relies on the list of its last heartbeat for [`LEASE`], not longer.
//!   Beyond that an event with predecessors on streams that it does not read needs a question.
//! - `N` handles nothing until `B` has been in the list for [`LEASE`]. So whoever did not know of `B` has handed out its
//!   last event before the first event of `B` is handled. What was handed out by then counts as handled before `B`
//!   joined.
//! - `B` counts as read until its readers have sent no heartbeat for the time that they stored ([`counts_as_read`]). So
//!   `N` that dies, or is rolled back, holds `a` up for a bounded time. Events of `B` are then handled when
//!   a consumer reads `B` again.
//! - A group without any living consumer has no list that anybody relies on: then nothing waits.
//!
//! A server's clock that is set forward by more than that time lets all streams count as unread until the next
//! heartbeats, which open them as streams that join.

use super::item::Item;
use crate::{Layout, StreamName};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For so long a consumer relies on the list of streams that a heartbeat brought; a stream that joins a group is handled
/// after this time. All versions of the library must agree on it: a longer one here breaks the order with older programs.
pub(super) const LEASE: Duration = Duration::from_secs(2);

/// For how long after a heartbeat of its reader a stream counts as read. Longer than a takeover takes, so that what a dead
/// consumer held is claimed by another one that reads the stream, if there is one.
pub(super) fn counts_as_read(claim_after: Duration) -> Duration {
    (claim_after * 2).max(LEASE * 2)
}

/// A stream of the group that a consumer does not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Other {
    pub(super) stream: StreamName,
    pub(super) key: String,
}

/// A stream that a consumer of the group reads or has read; times in milliseconds of the server's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    name: String,
    /// From then on its events may be handled.
    open: u64,
    /// The last heartbeat of a reader that was stored.
    read: u64,
    /// Until then it counts as read.
    until: u64,
}

/// The streams of a group, by the server's word.
#[derive(Clone, Debug)]
pub(super) struct StreamList {
    /// When the list was asked for: it is not older.
    asked: Instant,
    /// The server's time, in milliseconds.
    now: u64,
    streams: Vec<Listed>,
}

impl StreamList {
    /// From the words of an answer: the server's time, then name, open, read and until of each stream.
    pub(super) fn parse(asked: Instant, words: &[String]) -> Option<Self> {
        let (now, rest) = words.split_first()?;
        let listed = |words: &[String]| {
            let [name, open, read, until] = words else { return None };
            let number = |word: &String| word.parse().ok();
            Some(Listed {
                name: name.clone(),
                open: number(open)?,
                read: number(read)?,
                until: number(until)?,
            })
        };
        let streams = rest.chunks(4).map(listed).collect::<Option<_>>()?;
        Some(Self { asked, now: now.parse().ok()?, streams })
    }

    /// For how long none of a consumer's own streams may be handled yet.
    pub(super) fn closed_for(&self, own: &[StreamName]) -> Duration {
        let is_own = |listed: &&Listed| own.iter().any(|stream| stream.to_string() == listed.name);
        let open = self.streams.iter().filter(is_own).map(|listed| listed.open).max();
        // Longer only where the server's clock was set back meanwhile.
        Duration::from_millis(open.unwrap_or(0).saturating_sub(self.now)).min(LEASE)
    }

    fn alive(&self) -> impl Iterator<Item = &Listed> {
        self.streams.iter().filter(|listed| listed.until >= self.now)
    }

    /// The streams that no living consumer reads, each with the time since the last heartbeat of a reader.
    pub(super) fn unread(&self) -> impl Iterator<Item = (StreamName, Duration)> {
        let unread = self.streams.iter().filter(|listed| listed.until < self.now);
        unread.filter_map(|listed| {
            let since = Duration::from_millis(self.now.saturating_sub(listed.read));
            Some((StreamName::parse(&listed.name)?, since))
        })
    }
}

/// What a consumer knows of the streams that its group reads beside its own.
#[derive(Debug)]
pub(super) struct OtherStreams {
    streams: Arc<[Other]>,
    /// The names of all streams of the group, each between spaces.
    names: Arc<str>,
    /// When the list was asked for. It may be relied on without a question for [`LEASE`] from then on.
    asked: Option<Instant>,
}

impl OtherStreams {
    /// Before the first list.
    pub(super) fn unknown(own: &[StreamName]) -> Self {
        Self { streams: Arc::default(), names: names(own, &[]), asked: None }
    }

    /// Takes over what a list says, unless a later one is known.
    pub(super) fn learn(&mut self, list: &StreamList, own: &[StreamName], layout: Layout) {
        if self.asked.is_some_and(|asked| asked > list.asked) {
            return;
        }
        let others: Vec<&str> = list
            .alive()
            .map(|listed| listed.name.as_str())
            .filter(|name| own.iter().all(|stream| stream.to_string() != *name))
            .collect();
        self.names = names(own, &others);
        let other = |stream: StreamName| Other { key: layout.stream(&stream), stream };
        self.streams = others.into_iter().filter_map(StreamName::parse).map(other).collect();
        self.asked = Some(list.asked);
    }

    /// The list cannot be relied on any more: another server may answer from now on.
    pub(super) fn forget(&mut self) {
        self.asked = None;
    }

    /// The streams, for questions to the server.
    pub(super) fn streams(&self) -> Arc<[Other]> {
        self.streams.clone()
    }

    /// The names of all streams of the group, for questions to the server.
    pub(super) fn names(&self) -> Arc<str> {
        self.names.clone()
    }

    /// No predecessor of this event is on a stream that the group reads and this consumer does not.
    pub(super) fn are_not_before(&self, item: &Item, now: Instant) -> bool {
        if self.asked.is_some_and(|asked| now < asked + LEASE) {
            self.streams.is_empty() || item.before_on(&self.streams).is_empty()
        } else {
            !item.has_other_predecessors()
        }
    }
}

fn names(own: &[StreamName], others: &[&str]) -> Arc<str> {
    let own = own.iter().map(ToString::to_string);
    let all = own.chain(others.iter().map(|name| (*name).to_owned()));
    all.fold(" ".to_owned(), |text, name| text + &name + " ").into()
}

/// A stream of a group that no living consumer reads although entries wait there.
///
/// So it is after a release that reads fewer streams, or was rolled back. The entries are handled when a consumer that names
/// the stream starts again; nothing waits for them meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnreadStream {
    /// The stream.
    pub stream: StreamName,
    /// The time since the last heartbeat of a consumer that reads it, by the server's clock.
    pub since: Duration,
    /// Entries that are pending or not yet delivered; `None` when the server cannot tell.
    pub waiting: Option<u64>,
}

impl fmt::Display for UnreadStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no consumer of the group has read {} for {} s", self.stream, self.since.as_secs())?;
        match self.waiting {
            Some(waiting) => write!(f, "; {waiting} entries wait there"),
            None => write!(f, "; how many entries wait there is unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::RawEntry;
    use crate::{Id, Kind};

    const ACCOUNT: Kind = Kind::new("account");

    fn own() -> [StreamName; 1] {
        [ACCOUNT.stream("updated")]
    }

    /// (name, open, until) of each stream, at the server's time 1000.
    fn list(asked: Instant, streams: &[(&str, u64, u64)]) -> StreamList {
        let mut words = vec!["1000".to_owned()];
        for (name, open, until) in streams {
            words.extend([(*name).to_owned(), open.to_string(), "900".to_owned(), until.to_string()]);
        }
        StreamList::parse(asked, &words).unwrap()
    }

    fn after(links: &str) -> Item {
        let fields = [
            ("event_id", "6d3ff6f4-8a0d-4ae6-9ff8-cf1d46c0e4a1"),
            ("entity", "{\"id\":\"a\"}"),
            ("version", "3"),
            ("after", links),
        ];
        let fields = fields.map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())).to_vec();
        let event = RawEntry { id: Id::new(9, 0), fields }.into_event(&own()[0]).unwrap();
        Item::new(event, 0, &own())
    }

    #[test]
    fn an_event_behind_a_stream_of_others_needs_a_question_while_that_stream_counts_as_read() {
        let now = Instant::now();
        let (behind, beside) = (after("closed=5-1 updated=4-1"), after("updated=4-1"));
        let mut others = OtherStreams::unknown(&own());
        let known = |streams: &[(&str, u64, u64)], others: &mut OtherStreams| {
            others.learn(&list(now, streams), &own(), Layout::Plain);
            others.are_not_before(&behind, now)
        };
        assert!(!known(&[("account_updated", 0, 1500), ("account_closed", 0, 1000)], &mut others));
        assert!(others.are_not_before(&beside, now));
        assert_eq!(&*others.names(), " account_updated account_closed ");
        assert!(known(&[("account_updated", 0, 1500), ("account_closed", 0, 999)], &mut others), "unread");
        assert!(known(&[("account_updated", 0, 1500), ("account_opened", 0, 1500)], &mut others), "another");
    }

    #[test]
    fn a_list_is_relied_on_for_the_lease_from_when_it_was_asked_for() {
        let now = Instant::now();
        let (behind, beside) = (after("closed=5-1"), after("updated=4-1"));
        let mut others = OtherStreams::unknown(&own());
        assert!(!others.are_not_before(&behind, now), "there is no list yet");
        others.learn(&list(now, &[("account_updated", 0, 1500)]), &own(), Layout::Plain);
        assert!(others.are_not_before(&behind, now + LEASE / 2));
        assert!(!others.are_not_before(&behind, now + LEASE));
        assert!(others.are_not_before(&beside, now + LEASE), "all its predecessors are on own streams");
        others.forget();
        assert!(!others.are_not_before(&behind, now));
    }

    #[test]
    fn a_consumer_is_closed_until_the_last_of_its_own_streams_is_open() {
        let streams = [("account_updated", 1200, 1500), ("account_closed", 9000, 9500)];
        let list = list(Instant::now(), &streams);
        assert_eq!(list.closed_for(&[ACCOUNT.stream("closed")]), LEASE, "the server's clock was set back");
        assert_eq!(list.closed_for(&own()), Duration::from_millis(200));
        assert_eq!(list.closed_for(&[ACCOUNT.stream("opened")]), Duration::ZERO);
    }

    #[test]
    fn an_unread_stream_says_since_when_and_what_waits() {
        let list = list(Instant::now(), &[("account_updated", 0, 999), ("account_closed", 0, 1000)]);
        let unread: Vec<_> = list.unread().collect();
        assert_eq!(unread, [(ACCOUNT.stream("updated"), Duration::from_millis(100))]);
        let mut one = UnreadStream {
            stream: ACCOUNT.stream("closed"),
            since: Duration::from_secs(75),
            waiting: Some(12),
        };
        let said = "no consumer of the group has read account_closed for 75 s; ";
        assert_eq!(one.to_string(), format!("{said}12 entries wait there"));
        one.waiting = None;
        assert_eq!(one.to_string(), format!("{said}how many entries wait there is unknown"));
    }
}
