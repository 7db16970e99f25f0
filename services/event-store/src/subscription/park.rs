//! Parking: an entry becomes a dead letter, in one step with its acknowledgement.

use super::finish::{Group, Settled};
use super::item::{Item, Place};
use crate::entry;
use std::sync::Arc;
use std::time::Duration;

/// Between attempts to park an entry, when the server refuses it.
const PARK_AGAIN: Duration = Duration::from_secs(1);

/// Why an entry is parked.
pub(super) enum Why {
    /// For a reason of its own.
    Own(String),
    /// It is a dead letter already, and was delivered again.
    Letter,
    /// An earlier event of one of its ordering keys is a dead letter.
    Behind,
}

impl Why {
    fn word(&self) -> &'static str {
        match self {
            Self::Own(_) => "own",
            Self::Letter => "letter",
            Self::Behind => "behind",
        }
    }

    pub(super) fn reason(&self) -> String {
        match self {
            Self::Own(reason) => reason.clone(),
            Self::Letter => String::new(),
            Self::Behind => "behind a dead letter of its entity".to_owned(),
        }
    }
}

/// What is parked.
pub(super) struct Letter {
    pub(super) place: Place,
    /// `None` for an entry that is no event: it holds nobody up.
    pub(super) item: Option<Arc<Item>>,
    pub(super) why: Why,
    pub(super) attempts: u32,
    pub(super) failing_for: Duration,
}

impl Group {
    /// Makes an entry a dead letter.
    pub(super) async fn park(&self, what: Letter) -> Settled {
        let (id, stream) = what.place;
        let keys =
            [self.keys[stream].clone(), self.positions.clone(), self.dead.clone(), self.letters.clone()];
        let s = &self.subscription;
        let (mut ordering, mut before, mut fields) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(item) = &what.item {
            ordering.extend(item.event.after.keys());
            before.extend(item.before.iter().map(|b| format!("{} {}", s.streams[b.stream], b.id)));
            let others = item.before_on(&self.others);
            before.extend(others.iter().map(|b| format!("{} {}", self.others[b.stream].stream, b.id)));
            fields.extend(item.fields().map(|field| field.concat()));
        }
        let mut args = vec![
            s.group.clone(),
            s.consumer.clone(),
            id.to_string(),
            s.streams[stream].to_string(),
            what.why.reason(),
            what.attempts.to_string(),
            what.failing_for.as_millis().to_string(),
            ordering.join("\n"),
            before.join("\n"),
            what.why.word().to_owned(),
        ];
        args.append(&mut fields);
        loop {
            let refused = match self.until_answered("park", &keys, &args).await.map(entry::words) {
                Ok(words) => match words.first().map(String::as_str) {
                    Some("ok") => return Settled::Parked,
                    Some("already") => return Settled::Finished,
                    Some("fenced") => return Settled::Fenced,
                    Some("free") => return Settled::Free,
                    _ => format!("the server answered {words:?}"),
                },
                Err(e) => e.to_string(),
            };
            tracing::warn!(group = s.group, %id, refused, "the server refused to park the entry; trying again");
            tokio::time::sleep(PARK_AGAIN).await;
        }
    }
}
