//! What was released stays good: shops that an earlier version stored are read, accepted and built by today's,
//! and no field of an earlier schema is gone, narrower, or by default something else.
//!
//! `testdata/released/<version>` holds the definition of that version and shops that use all of its spec.

use std::{collections::BTreeSet, fs, path::Path};

use kube_cel::Validator;
use serde::Deserialize;
use serde_json::Value;

use super::{OrderShop, defaulted, fields, schema};
use crate::controller::{build::tests::defaults, sources::Sources, validate::validate};

struct Release {
    version: String,
    schema: Value,
    shops: Vec<Value>,
}

fn releases() -> Vec<Release> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/released");
    let releases: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let folder = entry.unwrap().path();
            let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
            let crd: Value = serde_norway::from_str(&read("ordershops.yaml")).unwrap();
            Release {
                version: folder.file_name().unwrap().to_string_lossy().into_owned(),
                schema: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone(),
                shops: serde_norway::Deserializer::from_str(&read("shops.yaml"))
                    .map(|shop| Value::deserialize(shop).unwrap())
                    .collect(),
            }
        })
        .collect();
    assert!(!releases.is_empty());
    releases
}

/// A length as the bounds of a schema have it.
fn length(length: usize) -> f64 {
    f64::from(u32::try_from(length).unwrap())
}

/// What the API server would say about a value beside the rules: each with the path of the field.
fn wrong(path: &str, schema: &Value, value: &Value, found: &mut Vec<String>) {
    let mut check = |good: bool, what: &str| {
        if !good {
            found.push(format!("{path}: {what}: {value}"));
        }
    };
    let number = |name: &str| schema[name].as_f64();
    match value {
        Value::String(text) => {
            let either = schema["x-kubernetes-int-or-string"] == true;
            check(schema["type"] == "string" || either, "no text here");
            check(number("maxLength").is_none_or(|most| length(text.len()) <= most), "too long");
            check(number("minLength").is_none_or(|least| length(text.len()) >= least), "too short");
            let pattern = schema["pattern"].as_str().map(|pattern| regex::Regex::new(pattern).unwrap());
            check(pattern.is_none_or(|pattern| pattern.is_match(text)), "not as the pattern says");
            let words = schema["enum"].as_array();
            check(words.is_none_or(|words| words.contains(value)), "not one of the words");
        }
        Value::Number(given) => {
            let either = schema["x-kubernetes-int-or-string"] == true;
            check(schema["type"] == "integer" || either, "no number here");
            check(given.is_i64(), "no whole number");
            let given = given.as_f64().unwrap();
            check(number("minimum").is_none_or(|least| given >= least), "too small");
            check(number("maximum").is_none_or(|most| given <= most), "too large");
        }
        Value::Bool(_) => check(schema["type"] == "boolean", "no boolean here"),
        Value::Null => check(false, "nothing is nullable"),
        Value::Array(items) => {
            check(schema["type"] == "array", "no list here");
            check(number("maxItems").is_none_or(|most| length(items.len()) <= most), "too many");
            for item in items {
                wrong(&format!("{path}[]"), &schema["items"], item, found);
            }
        }
        Value::Object(given) => {
            check(schema["type"] == "object", "no object here");
            check(number("maxProperties").is_none_or(|most| length(given.len()) <= most), "too many");
            for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                check(given.contains_key(required), &format!("{required} is missing"));
            }
            for (name, value) in given {
                let known = [&schema["properties"][name], &schema["additionalProperties"]];
                match known.into_iter().find(|schema| schema.is_object()) {
                    Some(schema) => wrong(&format!("{path}.{name}"), schema, value, found),
                    None if path.is_empty() => {} // apiVersion, kind and metadata are Kubernetes' own.
                    None => found.push(format!("{path}.{name}: no such field")),
                }
            }
        }
    }
}

/// Everything that the API server and the operator would say about a stored shop.
fn refusals(schema: &Value, shop: &Value) -> Vec<String> {
    let mut shop = shop.clone();
    defaulted(schema, &mut shop);
    let mut found = Vec::new();
    wrong("", schema, &shop, &mut found);
    // A stored shop is checked when it is changed, too.
    for before in [None, Some(&shop)] {
        if let Err(errors) = Validator::new().validate(schema, &shop, before) {
            found.extend(errors.into_vec().into_iter().map(|error| error.to_string()));
        }
    }
    found
}

#[test]
fn a_stored_shop_of_every_release_is_read_accepted_and_built() {
    let schema = schema();
    for Release { version, shops, .. } in releases() {
        for stored in shops {
            assert_eq!(refusals(&schema, &stored), Vec::<String>::new(), "{version}");
            let mut shop: OrderShop = serde_json::from_value(stored.clone()).unwrap();
            assert_eq!(shop.status.is_some(), stored.get("status").is_some());
            shop.metadata.namespace = Some("ns".to_owned());
            shop.metadata.uid = Some("uid".to_owned());
            let valid = validate(&shop, &defaults(), &Sources::default()).unwrap();
            assert_eq!(crate::controller::build::build(&valid).unwrap().deployments.len(), 9);
        }
    }
}

#[test]
fn the_check_of_stored_shops_finds_what_is_wrong() {
    for (shop, expected) in [
        ("{ spec: { services: { crm: { replicas: -1 } } } }", ".spec.services.crm.replicas: too small"),
        ("{ spec: { services: { crm: { replica: 1 } } } }", ".spec.services.crm.replica: no such field"),
        ("{ spec: { redis: { storage: { size: 1.5 } } } }", ".spec.redis.storage.size: no whole number"),
        ("{ spec: { redis: { persistence: never } } }", ".spec.redis.persistence: not one of the words"),
        (
            "{ spec: { redis: { storage: { size: much } } } }",
            ".spec.redis.storage.size: not as the pattern says",
        ),
        ("{ spec: { mail: { smtpSecret: {} } } }", ".spec.mail.smtpSecret: name is missing"),
        ("{ spec: { image: { pullSecrets: x } } }", ".spec.image.pullSecrets: no text here"),
    ] {
        let mut found = Vec::new();
        wrong("", &schema(), &serde_norway::from_str(shop).unwrap(), &mut found);
        assert!(found.iter().any(|said| said.starts_with(expected)), "{shop}: {found:?}");
    }
}

#[test]
fn the_shops_of_a_release_have_every_field_of_its_spec() {
    fn paths(path: &str, value: &Value, found: &mut BTreeSet<String>) {
        found.insert(path.to_owned());
        for (name, value) in value.as_object().into_iter().flatten() {
            paths(&format!("{path}.{name}"), value, found);
        }
        for value in value.as_array().into_iter().flatten() {
            paths(&format!("{path}[]"), value, found);
        }
    }
    for Release { version, schema, shops } in releases() {
        let mut said = BTreeSet::new();
        for shop in &shops {
            paths("", &shop["spec"], &mut said);
        }
        fields("", &schema["properties"]["spec"], &mut |path, _| {
            let map_value = path.contains("requests[]") || path.contains("limits[]");
            assert!(map_value || said.contains(path), "{version}: no shop has spec{path}");
        });
    }
}

/// What a field may hold only ever becomes more, and what it means when it is absent stays.
#[test]
fn no_field_of_a_release_is_gone_narrower_or_by_default_something_else() {
    let today = schema();
    for Release { version, schema: old, .. } in releases() {
        fields("", &old, &mut |path, old| {
            let new = at(&today, path).unwrap_or_else(|| panic!("{version}: {path} is gone"));
            for name in [
                "type",
                "format",
                "default",
                "pattern",
                "x-kubernetes-list-type",
                "x-kubernetes-list-map-keys",
            ] {
                assert_eq!(old.get(name), new.get(name), "{version}: {path}: {name}");
            }
            for (name, wider) in [
                ("minimum", f64::le as fn(&f64, &f64) -> bool),
                ("minLength", f64::le),
                ("maximum", f64::ge),
                ("maxLength", f64::ge),
                ("maxItems", f64::ge),
                ("maxProperties", f64::ge),
            ] {
                let Some(new) = new[name].as_f64() else { continue };
                let old = old[name].as_f64().unwrap_or_else(|| panic!("{version}: {path}: {name} is new"));
                assert!(wider(&new, &old), "{version}: {path}: {name} is narrower");
            }
            let words = |schema: &Value, name: &str| -> BTreeSet<String> {
                schema[name].as_array().into_iter().flatten().map(Value::to_string).collect()
            };
            assert!(words(new, "enum").is_superset(&words(old, "enum")), "{version}: {path}: a word is gone");
            assert!(
                words(new, "required").is_subset(&words(old, "required")),
                "{version}: {path}: a field is required that was not"
            );
        });
    }
}

/// The schema of the field at a path as `fields` writes it.
fn at<'s>(schema: &'s Value, path: &str) -> Option<&'s Value> {
    path.split('.').skip(1).try_fold(schema, |schema, step| {
        let (name, values) = step.split_at(step.find("[]").unwrap_or(step.len()));
        let mut found = schema["properties"].get(name)?;
        for _ in 0..values.len() / 2 {
            found = ["items", "additionalProperties"]
                .map(|nested| &found[nested])
                .into_iter()
                .find(|it| it.is_object())?;
        }
        Some(found)
    })
}
