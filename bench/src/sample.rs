//! The events that are measured: accounts of about 200 bytes. Both sides write the same bytes.

use event_store::{Kind, NewEvent, StreamName};
use serde_json::{Value, json};

pub(crate) const ACCOUNT: Kind = Kind::new("account");
/// Two streams, so that order across streams is part of what is measured.
pub(crate) const ACTIONS: [&str; 2] = ["opened", "changed"];

pub(crate) fn streams() -> Vec<StreamName> {
    ACTIONS.iter().map(|action| ACCOUNT.stream(action)).collect()
}

/// The n-th event: ten events an entity, the first of which opens it.
pub(crate) struct Sample {
    pub(crate) entity_id: String,
    pub(crate) action: &'static str,
    pub(crate) state: Value,
}

pub(crate) fn sample(prefix: &str, n: u64) -> Sample {
    let entity_id = format!("{prefix}-{:08}", n / 10);
    let action = if n.is_multiple_of(10) { ACTIONS[0] } else { ACTIONS[1] };
    let state = json!({
        "id": entity_id,
        "owner": format!("owner number {n} of the bench"),
        "iban": format!("DE00 5001 0517 {n:010}"),
        "currency": "EUR",
        "balance": n,
        "limit": 500,
        "note": "a text of about the length that people write into a note",
    });
    Sample { entity_id, action, state }
}

impl Sample {
    pub(crate) fn event(&self) -> NewEvent {
        NewEvent::put(ACCOUNT, self.action, self.entity_id.clone(), &self.state)
    }
}
