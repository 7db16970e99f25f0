//! The schema as the API server gets it: its defaults, its rules, and the files that are generated from it.

mod conventions;
mod released;
mod rules;

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::*;

fn schema() -> Value {
    let crd = serde_json::to_value(manifest::crd()).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// What the API server makes of a value: every field that is absent gets its default, from the outside inwards.
fn defaulted(schema: &Value, value: &mut Value) {
    let (Some(properties), Some(fields)) = (schema["properties"].as_object(), value.as_object_mut()) else {
        return;
    };
    for (name, property) in properties {
        if let Some(default) = property.get("default").filter(|_| !fields.contains_key(name)) {
            fields.insert(name.clone(), default.clone());
        }
        if let Some(field) = fields.get_mut(name) {
            defaulted(property, field);
        }
    }
}

/// Calls `visit` with the path and the schema of every field.
fn fields(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        fields(&format!("{path}.{name}"), property, visit);
    }
    for nested in ["items", "additionalProperties"] {
        if schema[nested].is_object() {
            fields(&format!("{path}[]"), &schema[nested], visit);
        }
    }
}

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_files_are_what_the_types_generate() {
    let generated = manifest::yaml().unwrap();
    for path in ["deploy/crd/ordershops.yaml", "charts/ordershop-operator/files/ordershops.yaml"] {
        assert!(file(path) == generated, "{path} is old: write the output of `ordershop-operator crd` to it");
    }
}

#[test]
fn an_empty_spec_gets_the_same_defaults_from_the_api_server_and_from_the_operator() {
    let mut spec = json!({});
    defaulted(&schema()["properties"]["spec"], &mut spec);
    assert_eq!(spec["services"]["crm"]["replicas"], 1, "`kubectl scale` needs it to be there");
    assert_eq!(spec["redis"]["storage"]["size"], "1Gi");
    let from_the_server: OrderShopSpec = serde_json::from_value(spec).unwrap();
    let from_the_operator: OrderShopSpec = serde_json::from_value(json!({})).unwrap();
    assert_eq!(from_the_server, from_the_operator);
    assert_eq!(from_the_operator, OrderShopSpec::default());
}

#[test]
fn the_scale_subresource_is_crm() {
    let crd = serde_json::to_value(manifest::crd()).unwrap();
    let scale = &crd["spec"]["versions"][0]["subresources"]["scale"];
    assert_eq!(
        *scale,
        json!({
            "specReplicasPath": ".spec.services.crm.replicas",
            "statusReplicasPath": ".status.crmReplicas",
            "labelSelectorPath": ".status.selector",
        })
    );
}

#[test]
fn the_chart_and_the_kustomize_base_grant_the_same_least_permissions() {
    let chart: Value = serde_norway::from_str(&file("charts/ordershop-operator/files/rules.yaml")).unwrap();
    let base = file("deploy/base/rbac.yaml");
    let role: Value = serde_norway::from_str(base.split("\n---\n").next().unwrap()).unwrap();
    assert_eq!(role["rules"], chart);
    let text = chart.to_string();
    for forbidden in ["*", "pods/exec", "escalate", "impersonate", "bind"] {
        assert!(!text.contains(forbidden), "{forbidden}");
    }
    let lease = |text: &str| {
        let from = text.find("coordination.k8s.io").unwrap();
        let rules = text[from..].lines().take_while(|line| !line.starts_with("---"));
        rules.map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(lease(&base), lease(&file("charts/ordershop-operator/templates/rbac.yaml")));
}

#[test]
fn the_samples_are_shops() {
    let sample: OrderShop = serde_norway::from_str(&file("deploy/samples/shop.yaml")).unwrap();
    assert_eq!(sample.spec, OrderShopSpec::default());
}
