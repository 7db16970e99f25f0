//! The CustomResourceDefinition as it is installed: generated from the types, never written by hand.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::Value;

use super::OrderShop;

/// The name of the CustomResourceDefinition.
pub const NAME: &str = "ordershops.ordershop.dev";

const HEADER: &str =
    "# Generated from the types in operator/src/crd by `ordershop-operator crd`. Do not edit.\n";

/// The CustomResourceDefinition cannot be written as YAML.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not JSON.
    #[error("the CustomResourceDefinition as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It is not YAML.
    #[error("the CustomResourceDefinition as YAML: {0}")]
    Yaml(#[from] serde_norway::Error),
}

/// The CustomResourceDefinition of [`OrderShop`].
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    let mut crd = OrderShop::crd();
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            tidy(schema);
        }
    }
    crd
}

/// The CustomResourceDefinition as the file in the repository and in the chart has it.
pub fn yaml() -> Result<String, ManifestError> {
    let mut value = serde_json::to_value(crd())?;
    whole_numbers(&mut value);
    Ok(format!("{HEADER}{}", serde_norway::to_string(&value)?))
}

/// Brings the derived schema into the form that behaves best on the API server:
///
/// * nothing is nullable: a field that is given as `null` is then absent, which is what the rules test;
/// * the default of every object is `{}`: it is filled from its fields' own defaults, so that each default
///   stands in one place;
/// * descriptions are paragraphs: `kubectl explain` wraps them itself.
fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if let Some(JSON(Value::Object(fields))) = &mut schema.default {
        fields.clear();
    }
    if let Some(description) = &mut schema.description {
        let paragraphs: Vec<_> = description.split("\n\n").map(|text| text.replace('\n', " ")).collect();
        *description = paragraphs.join("\n\n");
    }
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        tidy(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        tidy(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        tidy(values);
    }
}

/// Bounds are floating point numbers in the API: written as whole numbers where they are.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let text = number.to_string();
            if let Some(Ok(whole)) = text.strip_suffix(".0").map(str::parse::<i64>) {
                *number = whole.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}
