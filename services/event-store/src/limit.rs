//! How much one append may hold. Pure.

use crate::error::{AppendError, AppendErrorKind};

/// What one step on the server may hold. Lua and the server do nothing else meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimit {
    pub(crate) events: usize,
    /// As they are sent: keys and arguments.
    pub(crate) bytes: usize,
}

/// So many small events of a kind with a list and an index hold a server up for about 200 ms (Redis 7.0, one slow core),
/// a thousand for about 20 ms; one state of 16 MiB for about as long.
impl Default for BatchLimit {
    fn default() -> Self {
        Self { events: 5_000, bytes: 16 << 20 }
    }
}

impl BatchLimit {
    /// A batch of so many events, of which so many bytes are laid out.
    pub(crate) fn check(self, events: usize, bytes: usize) -> Result<(), AppendError> {
        let Self { events: most_events, bytes: most_bytes } = self;
        if events <= most_events && bytes <= most_bytes {
            return Ok(());
        }
        let size =
            if events > most_events { String::new() } else { format!(" and more than {most_bytes} bytes") };
        let message = format!(
            "a batch of {events} events{size}: one append takes {most_events} events and {most_bytes} bytes at most, \
             since the server does nothing else meanwhile; append it in parts"
        );
        Err(AppendError::new(AppendErrorKind::TooLarge { events, most_events, most_bytes }, message))
    }
}
