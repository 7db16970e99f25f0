//! What a client asks for next: a function of its random numbers and of what is known. Pure.

use super::known::Known;
use crate::history::{Method, Request};
use crate::rng::Rng;
use serde_json::{Value, json};

/// How likely each thing is, in parts of their sum.
const MIX: [(u64, Wish); 17] = [
    (26, Wish::Order),
    (4, Wish::Orders),
    (9, Wish::ChangeOrder),
    (8, Wish::DeleteOrder),
    (12, Wish::Bill),
    (2, Wish::ChangeBilling),
    (2, Wish::DeleteBilling),
    (6, Wish::Customer),
    (2, Wish::ChangeCustomer),
    (2, Wish::DeleteCustomer),
    (3, Wish::ChangeProduct),
    (5, Wish::Restock),
    (1, Wish::NewShelf),
    (1, Wish::DeleteShelf),
    (22, Wish::ReadOne),
    (4, Wish::ReadList),
    (2, Wish::Nonsense),
];

#[derive(Clone, Copy, Debug)]
enum Wish {
    Order,
    Orders,
    ChangeOrder,
    DeleteOrder,
    Bill,
    ChangeBilling,
    DeleteBilling,
    Customer,
    ChangeCustomer,
    DeleteCustomer,
    ChangeProduct,
    Restock,
    NewShelf,
    DeleteShelf,
    ReadOne,
    ReadList,
    Nonsense,
}

/// Six customers and six products.
pub(super) fn opening(rng: &mut Rng) -> Vec<Request> {
    let customers: Vec<Value> = (0..6).map(|_| customer(rng)).collect();
    let products: Vec<Value> = (0..6).map(|_| product(rng)).collect();
    [("/customers", customers), ("/products", products)]
        .map(|(path, items)| Request::command(Method::Post, path, Some(Value::Array(items))))
        .to_vec()
}

/// Stock of each product, of some in two places, of little enough that some orders are short.
pub(super) fn shelves(rng: &mut Rng, products: &[String]) -> Vec<Request> {
    let items: Vec<Value> = products
        .iter()
        .flat_map(|product| {
            let places = if rng.chance(30) { 2 } else { 1 };
            (0..places)
                .map(|_| json!({"product_id": product, "amount": rng.between(10, 60)}))
                .collect::<Vec<_>>()
        })
        .collect();
    vec![Request::command(Method::Post, "/inventory", Some(Value::Array(items)))]
}

/// The next call of a client.
pub(super) fn next(rng: &mut Rng, known: &Known) -> Request {
    let all = MIX.iter().map(|(weight, _)| weight).sum();
    let mut drawn = rng.below(all);
    for (weight, wish) in MIX {
        if drawn < weight {
            return of(wish, rng, known).unwrap_or_else(|| Request::get("/report"));
        }
        drawn -= weight;
    }
    Request::get("/report")
}

/// `None` when there is nothing to do it to.
fn of(wish: Wish, rng: &mut Rng, known: &Known) -> Option<Request> {
    let post = |path: &str, body| Some(Request::command(Method::Post, path, Some(body)));
    let put = |path: String, body| Some(Request::command(Method::Put, path, Some(body)));
    let delete = |path: String| Some(Request::command(Method::Delete, path, None));
    match wish {
        Wish::Order => post("/order", order(rng, known)?),
        Wish::Orders => {
            let items: Option<Vec<Value>> = (0..rng.between(2, 3)).map(|_| order(rng, known)).collect();
            post("/orders", Value::Array(items?))
        }
        Wish::ChangeOrder => put(format!("/order/{}", rng.pick(&known.orders)?), order(rng, known)?),
        Wish::DeleteOrder => delete(format!("/order/{}", rng.pick(&known.orders)?)),
        Wish::Bill => post("/billing", json!({"order_id": rng.pick(&known.orders)?})),
        Wish::ChangeBilling => {
            let body = json!({"order_id": rng.pick(&known.orders)?, "done": rng.between(1, 1_000_000)});
            put(format!("/billing/{}", rng.pick(&known.billings)?), body)
        }
        Wish::DeleteBilling => delete(format!("/billing/{}", rng.pick(&known.billings)?)),
        Wish::Customer => post("/customer", customer(rng)),
        Wish::ChangeCustomer => put(format!("/customer/{}", rng.pick(&known.customers)?), customer(rng)),
        Wish::DeleteCustomer => {
            (known.customers.len() > 4).then(|| rng.pick(&known.customers)).flatten()?;
            delete(format!("/customer/{}", rng.pick(&known.customers)?))
        }
        Wish::ChangeProduct => put(format!("/product/{}", rng.pick(&known.products)?), product(rng)),
        Wish::Restock => {
            let shelf = rng.pick(&known.shelves)?;
            let body = json!({"product_id": shelf.product, "amount": rng.between(0, 80)});
            put(format!("/inventory/{}", shelf.id), body)
        }
        Wish::NewShelf => {
            let body = json!({"product_id": rng.pick(&known.products)?, "amount": rng.between(1, 40)});
            post("/inventory", body)
        }
        Wish::DeleteShelf => {
            (known.shelves.len() > known.products.len()).then_some(())?;
            delete(format!("/inventory/{}", rng.pick(&known.shelves)?.id))
        }
        Wish::ReadOne => read_one(rng, known),
        Wish::ReadList => {
            let paths = [
                "/customers",
                "/products",
                "/inventory",
                "/orders",
                "/billings",
                "/orders/unbilled",
                "/report",
            ];
            Some(Request::get(eventually(rng, rng.clone().pick(&paths)?)))
        }
        Wish::Nonsense => Some(nonsense(rng, known)),
    }
}

fn read_one(rng: &mut Rng, known: &Known) -> Option<Request> {
    let path = match rng.below(6) {
        0 => format!("/customer/{}", rng.pick(&known.customers)?),
        1 => format!("/inventory/{}", rng.pick(&known.shelves)?.id),
        2 => format!("/billing/{}", rng.pick(&known.billings)?),
        _ => format!("/order/{}", rng.pick(&known.orders)?),
    };
    Some(Request::get(eventually(rng, &path)))
}

/// One read in five takes what the read model has.
fn eventually(rng: &mut Rng, path: &str) -> String {
    if rng.chance(20) { format!("{path}?consistency=eventual") } else { path.to_owned() }
}

/// What must be refused, with nothing written.
fn nonsense(rng: &mut Rng, known: &Known) -> Request {
    let nobody = format!("nobody-{}", rng.below(1_000_000));
    match rng.below(4) {
        0 => {
            Request::command(Method::Post, "/order", Some(json!({"product_ids": [], "customer_id": nobody})))
        }
        1 => {
            let good = order(rng, known).unwrap_or_default();
            let bad = json!({"product_ids": ["none"], "customer_id": nobody});
            Request::command(Method::Post, "/orders", Some(json!([good, bad])))
        }
        2 => Request::command(Method::Put, format!("/customer/{nobody}"), Some(customer(rng))),
        _ => Request::command(Method::Post, "/inventory", Some(json!({"product_id": "x", "amount": -1}))),
    }
}

fn order(rng: &mut Rng, known: &Known) -> Option<Value> {
    let products: Option<Vec<&String>> = (0..rng.between(1, 4)).map(|_| rng.pick(&known.products)).collect();
    Some(json!({"product_ids": products?, "customer_id": rng.pick(&known.customers)?}))
}

/// One in twelve has an address that the mail server refuses, one in twelve one that it puts off once.
pub(super) fn customer(rng: &mut Rng) -> Value {
    let number = rng.below(1_000_000_000);
    let mailbox = match rng.below(12) {
        0 => "refused",
        1 => "busy",
        _ => "mail",
    };
    json!({"name": format!("Customer {number}"), "email": format!("{mailbox}@c{number}.example.org")})
}

pub(super) fn product(rng: &mut Rng) -> Value {
    let number = rng.below(1_000_000);
    json!({"name": format!("Product {number}"), "price": rng.between(1, 100_000)})
}

#[cfg(test)]
mod tests {
    use super::super::known::Shelf;
    use super::*;

    fn known() -> Known {
        let ids = |kind: &str| (0..8).map(|n| format!("{kind}{n}")).collect::<Vec<_>>();
        Known {
            customers: ids("c"),
            products: ids("p"),
            shelves: ids("i")
                .into_iter()
                .chain(["i9".to_owned()])
                .map(|id| Shelf { product: "p1".into(), id })
                .collect(),
            orders: ids("o"),
            billings: ids("b"),
        }
    }

    #[test]
    fn a_seed_asks_for_the_same_things_again() {
        let draw = |seed| {
            let mut rng = Rng::new(seed, 1);
            (0..200).map(|_| next(&mut rng, &known())).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn all_five_entities_are_made_changed_deleted_and_read() {
        let mut rng = Rng::new(1, 1);
        let asked: Vec<Request> = (0..3000).map(|_| next(&mut rng, &known())).collect();
        for kind in ["customer", "inventory", "order", "billing"] {
            for method in [Method::Post, Method::Put, Method::Delete, Method::Get] {
                let found = asked.iter().any(|r| r.method == method && r.parts()[0].starts_with(kind));
                assert!(found, "{method:?} {kind}");
            }
        }
    }

    #[test]
    fn an_empty_shop_is_asked_what_it_has() {
        let mut rng = Rng::new(3, 1);
        assert!((0..500).all(|_| !next(&mut rng, &Known::default()).path.is_empty()));
    }
}
