use super::*;

/// Products x and y cost 1 and 2 euros; others cost 1.
pub(crate) fn content(products: &[&str]) -> Content {
    let item = |id: &&str| Item {
        product_id: (*id).to_owned(),
        name: format!("Product {id}"),
        price: if *id == "y" { 2.0 } else { 1.0 },
    };
    Content {
        product_ids: products.iter().map(ToString::to_string).collect(),
        customer_id: "c".into(),
        customer: Party { name: "Ann".into(), email: "ann@example.com".into() },
        items: products.iter().map(item).collect(),
    }
}

/// An order of x and y.
pub(crate) fn order(status: Status) -> Order {
    Order { status, ..Order::place("o".into(), content(&["x", "y"]), None) }
}

fn decision(revision: u32) -> Reservation {
    let short = vec![Short { product_id: "x".into(), wanted: 2, available: 1 }];
    Reservation { id: "o".into(), order_id: "o".into(), revision, lines: vec![], short, released: false }
}

#[test]
fn a_placed_order_is_pending_until_its_decision() {
    let order = order(Status::Pending);
    assert_eq!((order.revision, order.change, order.confirmations), (1, Change::Placed, 0));
    let confirmed = order.decide(Verdict::Reserved, &decision(1)).unwrap();
    assert_eq!(confirmed.status, Status::Confirmed);
    assert!(confirmed.is_first_confirmation());
    let rejected = order.decide(Verdict::Rejected, &decision(1)).unwrap();
    assert_eq!((rejected.status, rejected.change), (Status::Rejected, Change::Rejected));
    assert_eq!(rejected.short, decision(1).short);
}

#[test]
fn a_decision_counts_only_for_the_revision_that_is_pending() {
    let pending = Order { revision: 2, ..order(Status::Pending) };
    for (order, decision, applies) in [
        (pending.clone(), decision(2), true),
        (pending.clone(), decision(1), false),
        (pending.clone(), decision(3), false),
        (pending.clone(), Reservation { released: true, ..decision(2) }, false),
        (pending.clone(), Reservation { order_id: "other".into(), ..decision(2) }, false),
        (Order { status: Status::Confirmed, ..pending.clone() }, decision(2), false),
        (Order { status: Status::Rejected, ..pending }, decision(2), false),
    ] {
        for verdict in [Verdict::Reserved, Verdict::Rejected] {
            assert_eq!(order.decide(verdict, &decision).is_some(), applies, "{order:?} {decision:?}");
        }
    }
}

#[test]
fn a_confirmed_change_replaces_and_a_rejected_one_leaves_the_order_as_it_was() {
    let before = Order { confirmations: 1, billed: true, ..order(Status::Confirmed) };
    let changed = before.change(content(&["y", "z"])).unwrap();
    assert_eq!((changed.status, changed.change, changed.revision), (Status::Pending, Change::Changed, 2));
    assert_eq!(changed.previous, Some(before.content()));

    let confirmed = changed.decide(Verdict::Reserved, &decision(2)).unwrap();
    assert_eq!(confirmed.content(), content(&["y", "z"]));
    assert_eq!((confirmed.status, confirmed.confirmations), (Status::Confirmed, 2));
    assert!(confirmed.billed && confirmed.previous.is_none() && confirmed.short.is_empty());

    let rejected = changed.decide(Verdict::Rejected, &decision(2)).unwrap();
    assert_eq!(rejected.content(), before.content());
    assert_eq!((rejected.status, rejected.change), (Status::Confirmed, Change::Rejected));
    assert_eq!((rejected.confirmations, rejected.previous), (1, None));
    assert!(!rejected.short.is_empty());
}

#[test]
fn a_pending_order_is_not_changed_and_a_rejected_one_is_placed_again() {
    assert_eq!(order(Status::Pending).change(content(&["x"])), Err(Undecided));
    let again = order(Status::Rejected).change(content(&["x"])).unwrap();
    assert_eq!((again.status, again.change), (Status::Pending, Change::Placed));
    assert_eq!(again.previous, None);
    assert!(again.decide(Verdict::Reserved, &decision(2)).unwrap().is_first_confirmation());
}

#[test]
fn billing_flips_the_flag_once() {
    let order = order(Status::Confirmed);
    assert_eq!(order.bill(false), None);
    let billed = order.bill(true).unwrap();
    assert_eq!((billed.billed, billed.change), (true, Change::Billed));
    assert_eq!(billed.bill(true), None);
    assert_eq!(billed.bill(false).unwrap().change, Change::Unbilled);
}

#[test]
fn orders_of_a_list_name_their_leader_who_knows_them_all() {
    let ids = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let orders = Order::place_list(ids(&["a", "b"]), vec![content(&["x"]), content(&["y"])]);
    let members = [("a", "x"), ("b", "y")]
        .map(|(id, product)| BatchMember { id: id.into(), product_ids: vec![product.into()] });
    assert_eq!(orders[0].batch, Some(Batch { leader: "a".into(), orders: members.to_vec() }));
    assert_eq!(orders[1].batch, Some(Batch { leader: "a".into(), orders: vec![] }));
    assert_eq!(orders[1].content(), content(&["y"]));
    let confirmed = orders[1].decide(Verdict::Reserved, &Reservation { order_id: "b".into(), ..decision(1) });
    assert_eq!(confirmed.unwrap().batch, None);
    assert_eq!(Order::place_list(ids(&["a"]), vec![content(&["x"])])[0].batch, None);
    assert!(Order::place_list(vec![], vec![]).is_empty());
}

#[test]
fn content_is_a_snapshot_and_names_what_is_unknown() {
    let customer = Customer { id: "c".into(), name: "Ann".into(), email: "ann@example.com".into() };
    let product = |id: &str, price| Product { id: id.into(), name: format!("Product {id}"), price };
    let customers = HashMap::from([("c".to_owned(), customer)]);
    let products = HashMap::from([("x".to_owned(), product("x", 1.0)), ("y".to_owned(), product("y", 2.0))]);
    let draft = |customer: &str, ids: &[&str]| OrderDraft {
        product_ids: ids.iter().map(ToString::to_string).collect(),
        customer_id: customer.into(),
    };
    assert_eq!(
        Content::of(draft("c", &["x", "y", "x"]), &customers, &products),
        Ok(content(&["x", "y", "x"]))
    );
    let unknown = Content::of(draft("c", &["x", "q"]), &customers, &products).unwrap_err();
    assert_eq!(unknown.to_string(), "product_ids: there is no product q");
    let unknown = Content::of(draft("q", &["x"]), &customers, &products).unwrap_err();
    assert_eq!(unknown.to_string(), "customer_id: there is no customer q");
}

#[test]
fn an_order_reads_as_json_with_the_fields_of_the_contract_first() {
    let text = serde_json::to_string(&order(Status::Pending)).unwrap();
    assert!(
        text.starts_with(r#"{"id":"o","product_ids":["x","y"],"customer_id":"c","status":"pending""#),
        "{text}"
    );
    assert_eq!(serde_json::from_str::<Order>(&text).unwrap(), order(Status::Pending));
}
