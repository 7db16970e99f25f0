//! The conventions of Kubernetes' APIs, checked on the schema as it is installed: what would be hard to change
//! once it is released.

use serde_json::Value;

use super::{fields, schema};
use crate::service::Service;

/// Every field that a user or the operator writes: without the values of lists and maps.
fn properties(visit: &mut impl FnMut(&str, &Value)) {
    fields("", &schema(), &mut |path, field| {
        if !path.is_empty() && !path.ends_with("[]") {
            visit(path, field);
        }
    });
}

#[test]
fn every_field_reads_like_documentation() {
    properties(&mut |path, field| {
        let text = field["description"].as_str().unwrap_or_else(|| panic!("{path} has no description"));
        assert!(text.ends_with(['.', ')']), "{path} is not described by a sentence: {text:?}");
        assert!(text.split_whitespace().count() >= 3, "{path} is hardly described: {text:?}");
        assert!(!text.contains("[`") && !text.contains("::"), "{path} speaks of the source: {text:?}");
    });
}

#[test]
fn every_number_is_signed_and_what_a_user_writes_has_a_range() {
    fields("", &schema(), &mut |path, field| {
        if field["type"] == "integer" {
            let format = field["format"].as_str().unwrap_or_default();
            assert!(["int32", "int64"].contains(&format), "{path}: {format}");
            let ranged = field["minimum"].is_number() && field["maximum"].is_number();
            assert!(ranged || path.starts_with(".status"), "{path} has no range");
        }
        assert_ne!(field["type"], "number", "{path}: a fraction is a quantity, not a float");
        assert!(field.get("nullable").is_none(), "{path}");
    });
}

#[test]
fn every_list_says_how_two_writers_share_it() {
    fields("", &schema(), &mut |path, field| {
        if field["type"] != "array" {
            return;
        }
        let kind = field["x-kubernetes-list-type"].as_str().unwrap_or_default();
        assert!(["map", "set", "atomic"].contains(&kind), "{path}: {kind:?}");
        let keys = field["x-kubernetes-list-map-keys"].as_array();
        assert_eq!(kind == "map", keys.is_some(), "{path}: keys belong to a map");
        let required = field["items"]["required"].as_array().cloned().unwrap_or_default();
        for key in keys.into_iter().flatten() {
            assert!(required.contains(key), "{path}: an element without {key} could not be found again");
        }
    });
}

/// The cost of a rule is estimated from the largest value there can be.
#[test]
fn what_a_user_writes_has_an_end() {
    fields("", &schema()["properties"]["spec"], &mut |path, field| {
        let bounded = match field["type"].as_str() {
            Some("array") => field["maxItems"].is_number(),
            Some("string") => {
                field["maxLength"].is_number() || field["enum"].is_array() || ends(field["pattern"].as_str())
            }
            _ if field["additionalProperties"].is_object() => field["maxProperties"].is_number(),
            _ => true,
        };
        assert!(bounded, "spec{path} can be endless");
    });
}

/// Whether a pattern limits the length.
fn ends(pattern: Option<&str>) -> bool {
    pattern.is_some_and(|pattern| !pattern.contains(['*', '+']))
}

#[test]
fn fields_are_named_as_everywhere_in_kubernetes() {
    properties(&mut |path, _| {
        let name = path.rsplit('.').next().unwrap_or_default();
        let camel = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_alphanumeric());
        assert!(camel, "{path}");
    });
}

#[test]
fn the_nine_services_are_said_in_the_same_way() {
    let services = &schema()["properties"]["spec"]["properties"]["services"]["properties"];
    let without_text = |service: Service| {
        let mut schema = services[service.field()].clone();
        schema.as_object_mut().unwrap().remove("description");
        schema
    };
    for service in Service::ALL {
        assert_eq!(without_text(service), without_text(Service::Crm), "{}", service.name());
    }
}
