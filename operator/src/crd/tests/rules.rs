//! Every rule of the schema, evaluated as the API server does: what it accepts, and what it refuses with which
//! words. The cases stand in a file, since the tests on a real cluster ask the API server about the same ones.

use std::collections::BTreeSet;

use kube_cel::{ScopeContext, Validator, analyze_rule, compile_schema};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{fields, schema};

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
    fn object(&self) -> Value {
        let name = self.name.as_deref().unwrap_or("shop");
        json!({"metadata": {"name": name}, "spec": self.spec.clone().unwrap_or_else(|| json!({}))})
    }
}

fn cases() -> Vec<Case> {
    serde_norway::from_str(include_str!("../../../testdata/rules.yaml")).unwrap()
}

/// The messages of the rules that refuse it.
fn refusals(schema: &Value, shop: &Shop, before: Option<&Shop>) -> BTreeSet<String> {
    let before = before.map(Shop::object);
    match Validator::new().validate(schema, &shop.object(), before.as_ref()) {
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
fn the_rules_only_ask_what_the_api_server_can_answer() {
    fields("", &schema(), &mut |path, field| {
        let compiled = compile_schema(field);
        assert!(compiled.compilation_errors().is_empty(), "{path}: {:?}", compiled.compilation_errors());
        for rule in field["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let warnings =
                analyze_rule(rule["rule"].as_str().unwrap(), &compiled, ScopeContext::CrdValidation);
            assert!(warnings.is_empty(), "{path}: {warnings:?}");
        }
    });
}

#[test]
fn a_name_that_a_rule_accepts_is_one_that_the_operator_can_use() {
    let rule = format!("metadata.name: at most {} characters", super::MAX_NAME_LENGTH);
    assert!(cases().iter().any(|case| case.message.starts_with(&rule)));
}
