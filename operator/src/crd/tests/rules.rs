//! Every rule of the schema, evaluated as the API server does: what it accepts, and what it refuses with which
//! words. The cases stand in a file, since the tests on a real cluster ask the API server about the same ones.

use std::collections::BTreeSet;

use kube_cel::{Validator, compile_schema};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{MAX_NAME_LENGTH, defaulted, fields, schema};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    message: String,
    before: Option<Shop>,
    accepted: Shop,
    refused: Shop,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shop {
    name: Option<String>,
    #[serde(default)]
    spec: Option<Value>,
}

impl Shop {
    /// As the rules see it: after the API server has filled in the defaults.
    fn object(&self, schema: &Value) -> Value {
        let name = self.name.as_deref().unwrap_or("shop");
        let spec = self.spec.clone().unwrap_or_else(|| json!({}));
        let mut object = json!({"metadata": {"name": name}, "spec": spec});
        defaulted(schema, &mut object);
        object
    }
}

fn cases() -> Vec<Case> {
    serde_norway::from_str(include_str!("../../../testdata/rules.yaml")).unwrap()
}

/// The messages of the rules that refuse it.
fn refusals(schema: &Value, shop: &Shop, before: Option<&Shop>) -> BTreeSet<String> {
    let before = before.map(|shop| shop.object(schema));
    match Validator::new().validate(schema, &shop.object(schema), before.as_ref()) {
        Ok(()) => BTreeSet::new(),
        Err(errors) => errors.into_vec().into_iter().map(|error| error.message).collect(),
    }
}

#[test]
fn each_rule_accepts_and_refuses_what_its_cases_say() {
    let schema = schema();
    for case in cases() {
        let Case { message, before, accepted, refused } = &case;
        if let Some(before) = before {
            assert_eq!(refusals(&schema, before, None), BTreeSet::new(), "{message}: before");
        }
        assert_eq!(refusals(&schema, accepted, before.as_ref()), BTreeSet::new(), "{message}: accepted");
        assert_eq!(
            refusals(&schema, refused, before.as_ref()),
            [message.clone()].into(),
            "{message}: refused"
        );
    }
}

#[test]
fn every_rule_has_a_case_and_every_case_a_rule() {
    let mut rules = BTreeSet::new();
    fields("", &schema(), &mut |path, field| {
        for rule in field["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let message = rule["message"].as_str().unwrap_or_else(|| panic!("{path}: {rule} says nothing"));
            rules.insert(message.to_owned());
        }
    });
    let tried: BTreeSet<_> = cases().into_iter().map(|case| case.message).collect();
    assert_eq!(rules, tried);
}

#[test]
fn every_rule_is_one_that_can_be_evaluated() {
    fields("", &schema(), &mut |path, field| {
        let compiled = compile_schema(field);
        assert!(compiled.compilation_errors().is_empty(), "{path}: {:?}", compiled.compilation_errors());
    });
}

#[test]
fn the_rule_about_names_has_the_operators_own_limit() {
    let rule = format!("metadata.name: at most {MAX_NAME_LENGTH} characters");
    assert!(cases().iter().any(|case| case.message.starts_with(&rule)));
}
