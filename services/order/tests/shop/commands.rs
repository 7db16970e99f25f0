//! The classic commands: what is answered, what is written, and what is not.

use crate::harness::{Shop, until};
use chassis::kinds::{BILLING, CUSTOMER, INVENTORY, ORDER, PRODUCT};
use domain::{Customer, Inventory, Product};
use event_store::Event;
use serde_json::{Value, json};

#[tokio::test]
async fn both_paths_take_an_object_or_a_list_and_answer_a_list_of_ids() {
    let shop = Shop::open().await;
    let customer = |name: &str| json!({ "name": name, "email": "x@example.com" });
    for path in ["/customer", "/customers"] {
        let (status, ids) = shop.post(path, customer("Ann")).await;
        assert_eq!((status, ids.as_array().map(Vec::len)), (200, Some(1)), "{path}: {ids}");
        let (status, ids) = shop.post(path, json!([customer("Bob"), customer("Cid")])).await;
        assert_eq!(status, 200, "{path}: {ids}");
        let second: Customer = shop.read(CUSTOMER, ids[1].as_str().unwrap()).await.unwrap();
        assert_eq!(second.name, "Cid");
        assert_eq!(shop.post(path, json!([])).await, (200, json!([])));
    }
    for path in ["/product", "/products"] {
        assert_eq!(shop.post(path, json!({ "name": "tea", "price": 1 })).await.0, 200);
    }
    shop.close().await;
}

#[tokio::test]
async fn an_entity_is_replaced_and_deleted_and_then_unknown() {
    let shop = Shop::open().await;
    let (ann, tea) = (shop.customer("ann").await, shop.product("tea", 1.0).await);
    let stock = shop.stock(&tea, 1).await;
    let table = [
        (format!("/customer/{ann}"), json!({ "name": "Ann", "email": "ann@example.com" })),
        (format!("/product/{tea}"), json!({ "name": "green tea", "price": 1.5 })),
        (format!("/inventory/{stock}"), json!({ "product_id": tea, "amount": 7 })),
    ];
    for (path, body) in &table {
        assert_eq!(shop.put(path, body.clone()).await, (200, json!(true)), "{path}");
    }
    assert_eq!(shop.read::<Customer>(CUSTOMER, &ann).await.unwrap().name, "Ann");
    assert_eq!(shop.read::<Product>(PRODUCT, &tea).await.unwrap().name, "green tea");
    assert_eq!(shop.read::<Inventory>(INVENTORY, &stock).await.unwrap().amount, 7);
    for (path, body) in &table {
        assert_eq!(shop.delete(path).await, (200, json!(true)), "{path}");
        assert_eq!(shop.put(path, body.clone()).await.0, 404, "{path}");
        assert_eq!(shop.delete(path).await.0, 404, "{path}");
    }
    shop.close().await;
}

#[tokio::test]
async fn what_was_never_there_is_not_found_and_leaves_no_orphan() {
    let shop = Shop::open().await;
    let bodies = [
        ("customer", json!({ "name": "Ann", "email": "ann@example.com" })),
        ("product", json!({ "name": "tea", "price": 1 })),
        ("inventory", json!({ "product_id": "p", "amount": 1 })),
        ("order", json!({ "product_ids": ["p"], "customer_id": "c" })),
        ("billing", json!({ "order_id": "o" })),
    ];
    for (kind, body) in &bodies {
        for id in ["1b671a64-40d5-491e-99b0-da01ff1f3341", "x", "a%2Fb", "%7Bx%7D", "%ff"] {
            let path = format!("/{kind}/{id}");
            assert_eq!(shop.put(&path, body.clone()).await.0, 404, "PUT {path}");
            assert_eq!(shop.delete(&path).await.0, 404, "DELETE {path}");
        }
    }
    for kind in [CUSTOMER, PRODUCT, INVENTORY, ORDER, BILLING] {
        assert!(shop.store.ids(kind).await.unwrap().is_empty(), "{}", kind.name());
    }
    shop.close().await;
}

#[tokio::test]
async fn a_request_with_any_mistake_writes_nothing() {
    let shop = Shop::open().await;
    let (ann, tea) = (shop.customer("ann").await, shop.product("tea", 1.0).await);
    shop.stock(&tea, 10).await;
    let good = json!({ "product_ids": [tea], "customer_id": ann });
    let order = shop.confirmed(&ann, &[&tea]).await;
    // The last event of the order's flow; from then on only the requests below could write.
    until("the transfer is asked for", async || shop.mails().await.len() == 1).await;
    let head = shop.store.head().await.unwrap();
    for body in ["", "{", "nonsense", "7", "null", "\"text\""] {
        for path in ["/customers", "/product", "/inventory", "/orders", "/billing"] {
            assert_eq!(shop.send("POST", path, body).await.0, 400, "{path} {body:?}");
        }
    }
    let customer = json!({ "name": "Bob", "email": "bob@example.com" });
    let table: [(&str, Value, &str); 14] = [
        ("/customer", json!({ "name": "Bob" }), "email is missing"),
        ("/customers", json!([customer, { "name": 1, "email": "x" }]), "item 1: name is a number"),
        ("/product", json!({ "name": "tea", "price": -1 }), "price is -1"),
        ("/product", json!({ "name": "tea", "price": "1" }), "price is a text"),
        ("/inventory", json!({ "product_id": tea, "amount": -1 }), "amount is -1"),
        ("/inventory", json!({ "product_id": tea, "amount": 1.5 }), "amount is 1.5"),
        ("/order", json!({ "product_ids": [], "customer_id": ann }), "product_ids is empty"),
        ("/order", json!({ "product_ids": [tea] }), "customer_id is missing"),
        ("/order", json!({ "product_ids": [tea], "customer_id": "who" }), "names no customer: who"),
        (
            "/orders",
            json!([good, { "product_ids": [tea, "what"], "customer_id": ann }]),
            "item 1: product_ids names no product: what",
        ),
        ("/billing", json!({}), "order_id is missing"),
        ("/billing", json!({ "order_id": "which" }), "order_id names no order"),
        (
            "/billings",
            json!([{ "order_id": order }, { "order_id": "which" }]),
            "item 1: order_id names no order",
        ),
        ("/customer", json!([7]), "item 0 is a number"),
    ];
    for (path, body, says) in table {
        let (status, problem) = shop.post(path, body.clone()).await;
        assert_eq!(status, 422, "{path} {body}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{path} {body}: {problem}");
        assert!(problem["errors"][0]["expected"].is_string(), "{problem}");
    }
    let (status, problem) =
        shop.put(&format!("/order/{order}"), json!({ "product_ids": ["what"], "customer_id": ann })).await;
    assert_eq!(status, 422, "{problem}");
    assert_eq!(shop.store.head().await.unwrap(), head);
    shop.close().await;
}

#[tokio::test]
async fn a_rejected_or_deleted_order_is_not_billed_and_a_billing_outlives_its_order() {
    let shop = Shop::open().await;
    let (ann, tea) = (shop.customer("ann").await, shop.product("tea", 1.0).await);
    shop.stock(&tea, 1).await;
    let order = shop.confirmed(&ann, &[&tea]).await;
    let (_, problem) = shop.order(&ann, &[&tea]).await;
    let (status, problem) = shop.post("/billing", json!({ "order_id": problem["orders"][0] })).await;
    assert_eq!(status, 422, "{problem}");
    let (status, ids) = shop.post("/billing", json!({ "order_id": order })).await;
    assert_eq!(status, 200, "{ids}");
    assert_eq!(shop.delete(&format!("/order/{order}")).await, (200, json!(true)));
    assert_eq!(shop.post("/billing", json!({ "order_id": order })).await.0, 422);
    assert_eq!(shop.store.ids(BILLING).await.unwrap(), [ids[0].as_str().unwrap()]);
    shop.close().await;
}

#[tokio::test]
async fn an_entity_that_was_updated_and_deleted_stays_deleted_when_rebuilt() {
    let shop = Shop::open().await;
    let tea = shop.product("tea", 1.0).await;
    let (gone, stays) = (shop.stock(&tea, 1).await, shop.stock(&tea, 2).await);
    for id in [&gone, &stays] {
        let body = json!({ "product_id": tea, "amount": 5 });
        assert_eq!(shop.put(&format!("/inventory/{id}"), body).await.0, 200);
    }
    assert_eq!(shop.delete(&format!("/inventory/{gone}")).await.0, 200);
    let rebuilt = shop.rebuilt_amounts().await;
    assert_eq!(rebuilt, [(stays, 5)].into());
    assert_eq!(rebuilt, shop.cached_amounts().await);
    shop.close().await;
}

#[tokio::test]
async fn events_carry_the_request_that_caused_them_to_the_last_of_the_flow() {
    let shop = Shop::open().await;
    let (ann, tea) = (shop.customer("ann").await, shop.product("tea", 1.0).await);
    shop.stock(&tea, 1).await;
    let id = shop.confirmed(&ann, &[&tea]).await;
    let mut flow: Vec<Event> = Vec::new();
    let streams =
        [ORDER.stream("created"), chassis::kinds::RESERVATION.stream("reserved"), ORDER.stream("updated")];
    shop.store.replay(&streams, |event| flow.push(event)).await.unwrap();
    flow.retain(|event| event.entity_id == id);
    assert_eq!(flow.len(), 3);
    assert!(flow.iter().all(|event| event.correlation_id.is_some()));
    assert!(flow.iter().all(|event| event.correlation_id == flow[0].correlation_id));
    shop.close().await;
}
