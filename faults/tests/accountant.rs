//! The accountant is given hand-made books: clean ones, and one lie at a time. Each lie is found by its line.
#![allow(clippy::unwrap_used)]

mod world;

use faults::accountant::{audit, is_clean};
use serde_json::json;
use world::{World, clean};

#[test]
fn clean_books_are_clean() {
    let world = clean();
    let lines = audit(&world.history, &world.books);
    assert!(is_clean(&lines), "{lines:#?}");
    // A line that looks at nothing finds nothing.
    assert!(lines.iter().all(|line| line.checked > 0), "{lines:#?}");
}

/// The line whose promise contains `promise` is broken by the lie; without it, it is not.
#[track_caller]
fn caught(promise: &str, lie: impl FnOnce(&mut World)) {
    let mut world = clean();
    lie(&mut world);
    let lines = audit(&world.history, &world.books);
    let found = lines.iter().find(|line| line.promise.contains(promise)).unwrap();
    assert!(!found.broken.is_empty(), "not found: {promise}");
}

#[test]
fn a_lost_event_is_found() {
    caught("every acknowledged command", |w| w.books.events.retain(|e| e.stream != "billing_created"));
}

#[test]
fn an_event_with_another_content_than_was_asked_for_is_found() {
    caught("every acknowledged command", |w| w.entity("customer_created", |c| c["name"] = json!("Eve")));
}

#[test]
fn half_a_list_of_a_call_without_an_answer_is_found() {
    caught("at most once, whole or not at all", |w| {
        w.lose_answer("list");
        let first = w.books.events.iter().position(|e| e.correlation.as_deref() == Some("list")).unwrap();
        w.books.events.remove(first);
    });
}

#[test]
fn a_refused_command_that_has_written_is_found() {
    caught("a refused command", |w| w.answer("customer", 422, &json!({})));
}

#[test]
fn an_event_that_nobody_asked_for_is_found() {
    caught("nobody asked for", |w| w.history.calls.retain(|call| call.id != "customer"));
}

#[test]
fn a_doubled_event_is_found() {
    caught("no event is in the log twice", |w| {
        let mut again = w.last("billing_created").clone();
        again.id.seq += 1;
        again.version += 1;
        w.books.events.push(again);
    });
}

#[test]
fn an_event_that_was_handled_twice_is_found() {
    caught("none was handled twice", |w| {
        let mut again = w.last("inventory_updated").clone();
        again.event_id = "another".into();
        again.id.seq += 1;
        w.books.events.push(again);
    });
}

#[test]
fn a_gap_between_versions_is_found() {
    caught("versions are gapless", |w| w.last_mut("order_updated").version += 1);
}

#[test]
fn an_id_below_that_of_an_earlier_answer_is_found() {
    caught("ids increase", |w| w.last_mut("billing_created").id.ms = 1);
}

#[test]
fn two_events_with_one_id_are_found() {
    caught("ids increase", |w| w.books.events[1].id = w.books.events[0].id);
}

#[test]
fn pieces_that_are_held_and_were_not_taken_are_found() {
    caught("stock put in", |w| w.entity("inventory_updated", |i| i["amount"] = json!(10)));
}

#[test]
fn a_negative_amount_is_found() {
    caught("no amount is negative", |w| w.entity("inventory_updated", |i| i["amount"] = json!(-1)));
}

#[test]
fn an_order_that_holds_less_than_it_says_is_found() {
    caught("an order holds what it says", |w| {
        w.entity("inventory_reserved", |r| r["lines"][0]["amount"] = json!(1));
    });
}

#[test]
fn what_the_next_version_wrote_is_judged_by_its_own_schema() {
    let mut world = clean();
    world.next_schema();
    let lines = audit(&world.history, &world.books);
    assert!(is_clean(&lines), "{lines:#?}");
    // One that says what it is not: the next version read the old one's word for it.
    caught("stock put in", |w| w.last_mut("inventory_reserved").schema = 2);
    caught("stock put in", |w| {
        w.next_schema();
        w.entity("inventory_reserved", |r| r["held"][0]["amount"] = json!(3));
    });
}

#[test]
fn an_order_that_is_confirmed_without_a_reservation_is_found() {
    caught("without a full reservation", |w| w.books.events.retain(|e| e.stream != "inventory_reserved"));
}

#[test]
fn a_rejection_of_what_could_be_served_is_found() {
    caught("could have been served", |w| {
        let order = w.books.events.iter_mut().rfind(|e| e.stream == "order_created").unwrap();
        order.text = order.text.replace(&vec!["\"p1\""; 20].join(","), "\"p1\"");
    });
}

#[test]
fn an_order_that_nobody_decided_is_found() {
    caught("every order is decided", |w| {
        let newest = w.last_mut("order_updated");
        newest.text = newest.text.replace(r#""status":"rejected""#, r#""status":"pending""#);
    });
}

#[test]
fn a_mail_that_nobody_asked_for_and_one_that_is_missing_are_found() {
    caught("asks for its mails once", |w| w.last_mut("mail_requested").causation = Some("none".into()));
    caught("asks for its mails once", |w| w.books.events.retain(|e| e.stream != "mail_requested"));
}

#[test]
fn a_mail_that_was_never_sent_is_found() {
    caught("is sent once, or failed", |w| w.books.events.retain(|e| e.stream != "mail_sent"));
}

#[test]
fn a_missing_a_doubled_and_a_changed_mail_are_found() {
    let outside = "the outside received every sent mail once";
    caught(outside, |w| drop(w.books.mails.pop()));
    caught(outside, |w| w.books.mails.push(w.books.mails[0].clone()));
    caught(outside, |w| w.books.mails[0].body = "Buy this".into());
    caught(outside, |w| w.books.mails[0].id = "<other@example.com>".into());
}

#[test]
fn a_mail_that_came_twice_around_a_kill_is_no_lie() {
    let mut world = clean();
    world.killed("notification");
    let again = world.books.mails[0].clone();
    world.books.mails.push(again);
    assert!(is_clean(&audit(&world.history, &world.books)));
    let mut world = clean();
    world.killed("crm");
    let again = world.books.mails[0].clone();
    world.books.mails.push(again);
    assert!(!is_clean(&audit(&world.history, &world.books)), "a kill of another service explains nothing");
}

#[test]
fn mails_out_of_their_order_are_found() {
    caught("arrive in the order", |w| w.books.mails.reverse());
}

#[test]
fn a_cache_that_differs_from_the_log_is_found() {
    let cache = "every entity cache";
    caught(cache, |w| {
        w.cache("inventory").hashes.get_mut("i1").unwrap().insert("amount".into(), "7".into());
    });
    caught(cache, |w| assert!(w.cache("customer").ids.insert("ghost".into())));
    caught(cache, |w| w.cache("order").lists.get_mut("o1").unwrap().truncate(1));
}

#[test]
fn a_read_model_that_differs_from_the_log_is_found() {
    let model = "the read model equals";
    caught(model, |w| drop(w.books.projection.shown.get_mut("customer").unwrap().remove("c1")));
    caught(model, |w| w.books.projection.order.get_mut("order").unwrap().reverse());
    caught(model, |w| w.books.projection.billed.clear());
}

#[test]
fn a_stale_read_is_found() {
    // The order was answered as confirmed; a read that begins later shows it as it was placed.
    caught("reads saw the writes", |w| {
        let placed = w.books.events.iter().find(|e| e.stream == "order_created").unwrap().entity();
        w.answer("read-2", 200, &placed);
    });
}

#[test]
fn a_read_that_goes_backwards_is_found() {
    // No write was answered in between: the first read alone says what the second must see.
    caught("never went backwards", |w| {
        w.lose_answer("order");
        let placed = w.books.events.iter().find(|e| e.stream == "order_created").unwrap().entity();
        w.answer("read-2", 200, &placed);
    });
}

#[test]
fn a_read_of_what_never_was_is_found() {
    caught("reads saw the writes", |w| w.answer("read-1", 200, &json!({"id": "o1", "status": "odd"})));
}

#[test]
fn a_listing_that_leaves_somebody_out_is_found() {
    caught("reads saw the writes", |w| w.answer("list-read", 200, &json!([])));
}

#[test]
fn lag_and_pending_entries_are_found() {
    let rest = "lag is 0 and nothing is pending";
    caught(rest, |w| w.books.groups[0].lag = Some(1));
    caught(rest, |w| w.books.groups[0].lag = None);
    caught(rest, |w| w.books.groups[0].pending = 1);
}

#[test]
fn a_parked_event_that_was_not_poisoned_and_poison_that_was_not_parked_are_found() {
    let parked = "everything poisoned is parked once";
    caught(parked, |w| w.books.dead[0].id = "1-1".into());
    caught(parked, |w| w.books.dead.push(w.books.dead[0].clone()));
    caught(parked, |w| w.books.dead.clear());
    caught("nothing foreign", |w| w.books.foreign[0].id = "1-1".into());
}
