//! A person accepts a log that went back in time. Never done by a program of its own accord: only
//! people know what the world outside was told of the events that are lost.

use crate::batch::unexpected;
use crate::error::AppendError;
use crate::{EventStore, Id, NameOf, StreamName};

/// A stream of a group that was accepted as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accepted {
    /// The stream.
    pub stream: StreamName,
    /// The last id of its log: the group goes on behind it.
    pub last: Id,
    /// Positions that went back to it.
    pub positions: u64,
}

impl EventStore {
    /// Lets a group go on that halted because the log went back in time: its cursors and positions
    /// go back to the end of the log, and running consumers go on by themselves. `streams` are those of
    /// the subscription, in its order. Answers the streams that had halted the group.
    ///
    /// Events that were lost are not handled, those appended from now on are. Asked for twice, or
    /// again after a lost answer, it is done once.
    pub async fn accept_log(
        &self,
        group: &str,
        streams: &[StreamName],
    ) -> Result<Vec<Accepted>, AppendError> {
        NameOf::Group.check(group)?;
        let layout = self.layout();
        let family = streams.first().map_or("", |s| s.family());
        let mut accepted = Vec::new();
        for stream in streams {
            let keys =
                [layout.stream(stream), layout.cursors(family, group), layout.positions(family, group)];
            let (mut from, mut positions) = ("0".to_owned(), 0);
            loop {
                let args = [group.to_owned(), stream.to_string(), from.clone()];
                let words = self.call_until_answered("accept", &keys, &args).await?;
                let [_, next, lowered, last] = words.as_slice() else { return Err(unexpected(&words)) };
                positions += lowered.parse::<u64>().unwrap_or(0);
                if next == "0" {
                    if let Ok(last) = last.parse() {
                        accepted.push(Accepted { stream: stream.clone(), last, positions });
                    }
                    break;
                }
                from.clone_from(next);
            }
        }
        Ok(accepted)
    }
}
