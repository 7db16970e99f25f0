//! What the status of an `OrderShop` says.

use serde_json::Value;

/// The condition of this type.
#[must_use]
pub fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}
