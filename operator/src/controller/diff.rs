//! Whether an object on the API server still says what was applied, pure.
//!
//! The watches carry metadata only, and a write that changes nothing is still a write: so a reconciliation
//! compares what it would apply with what it listed, and sends only what differs. What is there beyond that
//! (filled in by Kubernetes, added by another manager) is not looked at; what is no longer wanted shows in the
//! hash that every object carries.

use serde_json::{Map, Value};

use crate::crd;

/// The path of the first field that is not as wanted, or `None`.
#[must_use]
pub fn difference(wanted: &Value, live: &Value) -> Option<String> {
    let mut path = Vec::new();
    differs(wanted, Some(live), &mut path).then(|| path.join("."))
}

/// Leaves the path of the difference in `path`.
fn differs(wanted: &Value, live: Option<&Value>, path: &mut Vec<String>) -> bool {
    match (wanted, live) {
        // The API server drops what is empty.
        (Value::Null, None | Some(Value::Null)) => false,
        (Value::Object(fields), None) if fields.is_empty() => false,
        (Value::Array(items), None) if items.is_empty() => false,
        (Value::Object(fields), Some(Value::Object(live))) => fields.iter().any(|(name, wanted)| {
            path.push(name.clone());
            let found = differs(wanted, live.get(name), path);
            if !found {
                path.pop();
            }
            found
        }),
        (Value::Array(wanted), Some(Value::Array(live))) => differs_list(wanted, live, path),
        (Value::String(wanted), Some(Value::String(live))) => {
            wanted != live && !(is_amount(path) && crd::same_quantity(wanted, live))
        }
        (wanted, live) => live != Some(wanted),
    }
}

/// Lists whose elements have a key are sets of objects to Kubernetes: others may add elements, in any place.
/// All other lists are one value.
fn differs_list(wanted: &[Value], live: &[Value], path: &mut Vec<String>) -> bool {
    let keyed = wanted.iter().all(|item| item.as_object().is_some_and(|item| key(item).is_some()));
    if !keyed && wanted.len() != live.len() {
        return true;
    }
    wanted.iter().enumerate().any(|(index, item)| {
        let key = item.as_object().filter(|_| keyed).and_then(key);
        path.push(key.map_or_else(|| index.to_string(), |(_, value)| value.to_string()));
        let counterpart = match key {
            Some((name, value)) => live.iter().find(|live| live.get(name) == Some(value)),
            None => live.get(index),
        };
        let found = differs(item, counterpart, path);
        if !found {
            path.pop();
        }
        found
    })
}

/// The field that tells the elements of a list apart: `uid` of owners, `name` of containers, ports, variables
/// and volumes.
fn key(item: &Map<String, Value>) -> Option<(&'static str, &Value)> {
    let named = |name| item.get(name).map(|value| (name, value));
    named("uid").or_else(|| named("name"))
}

/// Whether the path leads to an amount, which the API server rewrites (`1000m` becomes `1`).
fn is_amount(path: &[String]) -> bool {
    path.iter().rev().nth(1).is_some_and(|parent| parent == "requests" || parent == "limits")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_add_is_not_a_difference() {
        let wanted =
            json!({"metadata": {"labels": {"a": "1"}}, "spec": {"replicas": 1, "empty": {}, "none": null}});
        let live = json!({
            "metadata": {"labels": {"a": "1", "b": "2"}, "uid": "x"},
            "spec": {"replicas": 1, "paused": false},
            "status": {},
        });
        assert_eq!(difference(&wanted, &live), None);
    }

    #[test]
    fn an_edited_field_is_named() {
        let wanted = json!({"spec": {"template": {"containers": [{"name": "crm", "image": "a:1"}]}}});
        let live = json!({"spec": {"template": {"containers": [{"name": "crm", "image": "a:2"}]}}});
        assert_eq!(difference(&wanted, &live).as_deref(), Some(r#"spec.template.containers."crm".image"#));
    }

    #[test]
    fn a_removed_field_is_a_difference() {
        assert_eq!(difference(&json!({"a": {"b": 1}}), &json!({"a": {}})).as_deref(), Some("a.b"));
        assert_eq!(difference(&json!({"a": {"b": 1}}), &json!({})).as_deref(), Some("a"));
    }

    #[test]
    fn a_container_that_another_manager_added_is_left_alone() {
        let wanted = json!([{"name": "crm", "image": "a"}]);
        let live =
            json!([{"name": "sidecar"}, {"name": "crm", "image": "a", "terminationMessagePath": "/x"}]);
        assert_eq!(difference(&wanted, &live), None);
    }

    #[test]
    fn a_list_without_keys_is_one_value() {
        assert_eq!(difference(&json!(["a"]), &json!(["a", "b"])).as_deref(), Some(""));
        assert_eq!(difference(&json!(["a", "b"]), &json!(["b", "a"])).as_deref(), Some("0"));
        assert_eq!(difference(&json!(["a"]), &json!(["a"])), None);
    }

    #[test]
    fn amounts_are_compared_by_value() {
        let wanted = json!({"resources": {"requests": {"cpu": "1000m"}, "limits": {"memory": "1024Mi"}}});
        let live = json!({"resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}});
        assert_eq!(difference(&wanted, &live), None);
        let live = json!({"resources": {"requests": {"cpu": "2"}, "limits": {"memory": "1Gi"}}});
        assert_eq!(difference(&wanted, &live).as_deref(), Some("resources.requests.cpu"));
    }

    #[test]
    fn text_that_looks_like_an_amount_is_compared_by_its_letters() {
        assert!(difference(&json!({"value": "1000m"}), &json!({"value": "1"})).is_some());
    }
}
