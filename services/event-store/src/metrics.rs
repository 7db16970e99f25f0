//! What the store counts and measures, told to whoever wants to know: one small trait, so that the
//! library chooses no metrics system and a user without any pays a call that does nothing.

use crate::{GroupState, StreamName};
use std::fmt::Debug;
use std::time::Duration;

/// Is told what happens. Every method does nothing unless it is written; none may block, since all
/// are called where events are appended and handled.
pub trait Metrics: Debug + Send + Sync + 'static {
    /// So many events were appended to a stream by this program, those that its handlers returned
    /// among them. Repetitions of what was there already are not counted.
    fn appended(&self, stream: &StreamName, events: u64) {
        let _ = (stream, events);
    }

    /// An event was finished: its outputs, its position and its acknowledgement are there.
    fn handled(&self, group: &str, stream: &StreamName) {
        let _ = (group, stream);
    }

    /// A handler was asked about an event and answered after this time. For a histogram.
    fn handler_took(&self, group: &str, stream: &StreamName, time: Duration) {
        let _ = (group, stream, time);
    }

    /// An attempt failed and will be made again.
    fn retried(&self, group: &str, stream: &StreamName) {
        let _ = (group, stream);
    }

    /// An output conflicted with its expected version; the handler is asked again.
    fn conflicted(&self, group: &str, stream: &StreamName) {
        let _ = (group, stream);
    }

    /// An event was made a dead letter.
    fn parked(&self, group: &str, stream: &StreamName) {
        let _ = (group, stream);
    }

    /// So many entries were taken over from consumers that were gone.
    fn claimed(&self, group: &str, stream: &StreamName, entries: u64) {
        let _ = (group, stream, entries);
    }

    /// How a group stands on a stream, about once a second. What the server does not know is `None`.
    fn group_state(&self, group: &str, state: &GroupState) {
        let _ = (group, state);
    }
}

/// Nobody wants to know.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Silent;

impl Metrics for Silent {}
