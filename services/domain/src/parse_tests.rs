use super::*;
use crate::{BillingUpdate, CustomerDraft, InvalidKind, InventoryDraft, OrderDraft, ProductDraft};

fn json(body: &str) -> Value {
    serde_json::from_str(body).expect(body)
}

#[track_caller]
fn refused<D: Draft + std::fmt::Debug>(body: &str, kind: InvalidKind, says: &str) {
    let error = parse_list::<D>(&json(body)).expect_err(body);
    assert_eq!(error.kind(), kind, "{body}: {error}");
    assert!(error.to_string().contains(says), "{body}: {error}");
}

#[test]
fn an_object_is_one_item_and_a_list_is_its_items_in_order() {
    let customer = |name: &str| format!(r#"{{"name": "{name}", "email": "x@example.com", "more": 1}}"#);
    let names = |body: String| -> Vec<String> {
        parse_list::<CustomerDraft>(&json(&body)).unwrap().into_iter().map(|draft| draft.name).collect()
    };
    assert_eq!(names(customer("Ann")), ["Ann"]);
    assert_eq!(names(format!("[{}, {}]", customer("Ann"), customer("Bob"))), ["Ann", "Bob"]);
    assert_eq!(names("[]".into()), [""; 0]);
}

#[test]
fn what_is_neither_object_nor_list_is_malformed() {
    for body in ["1", "null", "true", r#""text""#] {
        refused::<CustomerDraft>(body, InvalidKind::Malformed, "expected: an object or a list");
    }
    let error = parse_one::<CustomerDraft>(&json("[]")).unwrap_err();
    assert_eq!(error.to_string(), "the body is a list; expected: an object");
}

#[test]
fn a_field_that_cannot_be_so_is_named_with_what_is_expected() {
    let bad = InvalidKind::Unprocessable;
    refused::<CustomerDraft>(r#"{"name": "Ann"}"#, bad, "email is missing; expected: a text of 1 to 320");
    refused::<CustomerDraft>(r#"{"name": " ", "email": "a@b"}"#, bad, "name is empty");
    refused::<CustomerDraft>(r#"{"name": 5, "email": "a@b"}"#, bad, "name is a number");
    refused::<CustomerDraft>(r#"{"name": "Ann", "email": "a@b\nBcc: c@d"}"#, bad, "email has a control");
    refused::<CustomerDraft>(&format!(r#"{{"name": "{}", "email": "a@b"}}"#, "x".repeat(257)), bad, "257");
    for price in ["-1", "-0.01", "1e300", r#""1""#, "null", "[1]"] {
        let body = format!(r#"{{"name": "Tea", "price": {price}}}"#);
        refused::<ProductDraft>(&body, bad, "expected: a number from 0");
    }
    for amount in ["-1", "1.5", "9007199254740992", r#""1""#, "null"] {
        let body = format!(r#"{{"product_id": "p", "amount": {amount}}}"#);
        refused::<InventoryDraft>(&body, bad, "expected: an integer from 0");
    }
    for id in ["", "{x}", "a b", "a/b", "\\n", &"x".repeat(129)] {
        let body = format!(r#"{{"product_id": "{id}", "amount": 1}}"#);
        refused::<InventoryDraft>(&body, bad, "expected: an id");
    }
    refused::<OrderDraft>(r#"{"customer_id": "c", "product_ids": []}"#, bad, "product_ids is empty");
    refused::<OrderDraft>(r#"{"customer_id": "c", "product_ids": "p"}"#, bad, "product_ids is a text");
    refused::<OrderDraft>(r#"{"customer_id": "c", "product_ids": ["p", 1]}"#, bad, "[1] is a number");
    refused::<BillingUpdate>(r#"{"order_id": "o", "done": "now"}"#, bad, "done is a text");
}

#[test]
fn numbers_at_their_bounds_are_taken() {
    for (price, expected) in [("0", 0.0), ("-0.0", 0.0), ("12", 12.0), ("12.5", 12.5), ("1e9", 1e9)] {
        let draft = parse_one::<ProductDraft>(&json(&format!(r#"{{"name": "Tea", "price": {price}}}"#)));
        let price = draft.unwrap().price;
        assert!(price.to_bits() == f64::to_bits(expected), "{price}");
    }
    for amount in [0, 1, 9_007_199_254_740_991] {
        let body = format!(r#"{{"product_id": "p", "amount": {amount}}}"#);
        assert_eq!(parse_one::<InventoryDraft>(&json(&body)).unwrap().amount, amount);
    }
}

#[test]
fn every_mistake_of_every_item_is_told_at_once() {
    let body = json(r#"[{"name": "Tea", "price": 1}, {"price": -3}, 7]"#);
    let error = parse_list::<ProductDraft>(&body).unwrap_err();
    let told: Vec<_> =
        error.errors().iter().map(|e| (e.item, e.field.as_deref(), e.problem.as_str())).collect();
    let expected = [
        (Some(1), Some("name"), "is missing"),
        (Some(1), Some("price"), "is -3"),
        (Some(2), None, "is a number"),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_list_that_is_too_long_or_has_endless_mistakes_answers_briefly() {
    let list = |count: usize| Value::Array(vec![serde_json::json!({}); count]);
    let error = parse_list::<OrderDraft>(&list(MAX_ITEMS + 1)).unwrap_err();
    assert!(error.to_string().contains("at most 1000 items"), "{error}");
    let error = parse_list::<OrderDraft>(&list(MAX_ITEMS)).unwrap_err();
    assert_eq!(error.errors().len(), 20);
    assert!(error.to_string().ends_with("and 1980 more"), "{error}");
}
