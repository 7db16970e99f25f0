//! What is worth an Event, pure: only that a condition changed, never that it still holds.

use kube::runtime::events::{Event, EventType};

use crate::crd::{ConditionType, OrderShopStatus};

/// The Events of one change of the status.
#[must_use]
pub fn transitions(old: &OrderShopStatus, new: &OrderShopStatus) -> Vec<Event> {
    let mut events = Vec::new();
    let began = |type_| new.is(type_) && !old.is(type_);
    let ended = |type_| old.is(type_) && !new.is(type_);
    let about = |type_: ConditionType| {
        let condition = new.condition(type_);
        condition.map(|condition| (condition.reason.clone(), condition.message.clone())).unwrap_or_default()
    };
    if began(ConditionType::Degraded) {
        let (reason, message) = about(ConditionType::Degraded);
        events.push(event(EventType::Warning, reason, &message));
    }
    if ended(ConditionType::Degraded) {
        events.push(event(EventType::Normal, "Recovered".to_owned(), "What was wrong is gone"));
    }
    if began(ConditionType::Ready) {
        let version = new.version.as_deref().unwrap_or_default();
        let message = format!("Everything runs as the spec says, version {version}");
        events.push(event(EventType::Normal, "Ready".to_owned(), &message));
    }
    if ended(ConditionType::Ready) && !new.is(ConditionType::Degraded) {
        let (_, message) = about(ConditionType::Ready);
        events.push(event(EventType::Normal, "NotReady".to_owned(), &message));
    }
    events
}

fn event(type_: EventType, reason: String, note: &str) -> Event {
    // The API server refuses longer notes.
    let note = note.chars().take(1000).collect();
    Event { type_, reason, note: Some(note), action: "Reconcile".to_owned(), secondary: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::{Condition, ConditionStatus};

    fn status(ready: bool, degraded: bool) -> OrderShopStatus {
        let condition = |type_: ConditionType, holds| Condition {
            type_: type_.as_str().to_owned(),
            status: if holds { ConditionStatus::True } else { ConditionStatus::False },
            observed_generation: None,
            last_transition_time: String::new(),
            reason: "Why".to_owned(),
            message: "because".to_owned(),
        };
        OrderShopStatus {
            conditions: vec![
                condition(ConditionType::Ready, ready),
                condition(ConditionType::Degraded, degraded),
            ],
            ..OrderShopStatus::default()
        }
    }

    #[test]
    fn events_are_made_on_transitions_only() {
        let nothing = OrderShopStatus::default();
        for (old, new, expected) in [
            (nothing.clone(), status(false, false), vec![]),
            (status(false, false), status(true, false), vec!["Ready"]),
            (status(true, false), status(true, false), vec![]),
            (status(true, false), status(false, false), vec!["NotReady"]),
            (status(true, false), status(false, true), vec!["Why"]),
            (status(false, true), status(false, true), vec![]),
            (status(false, true), status(true, false), vec!["Recovered", "Ready"]),
        ] {
            let reasons: Vec<_> = transitions(&old, &new).into_iter().map(|event| event.reason).collect();
            assert_eq!(reasons, expected);
        }
    }
}
