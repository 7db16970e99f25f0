//! An order's life across the services.

use crate::harness::{Shop, until};
use chassis::kinds::{INVENTORY, ORDER, RESERVATION};
use domain::{Change, Reservation, Status};
use event_store::NewEvent;
use serde_json::json;

#[tokio::test]
async fn an_order_holds_each_of_its_pieces_before_its_caller_is_answered() {
    let shop = Shop::open().await;
    let (ann, tea, cup) =
        (shop.customer("ann").await, shop.product("tea", 2.5).await, shop.product("cup", 8.0).await);
    let (teas, cups) = (shop.stock(&tea, 10).await, shop.stock(&cup, 1).await);
    let id = shop.confirmed(&ann, &[&tea, &cup, &tea]).await;
    let order = shop.order_state(&id).await.unwrap();
    assert_eq!((order.status, order.confirmations, order.revision), (Status::Confirmed, 1, 1));
    assert_eq!(order.product_ids, [tea.clone(), cup, tea]);
    assert_eq!((shop.amount(&teas).await, shop.amount(&cups).await), (8, 0));
    shop.close().await;
}

#[tokio::test]
async fn an_order_that_is_short_is_refused_and_takes_nothing() {
    let shop = Shop::open().await;
    let (ann, tea, cup) =
        (shop.customer("ann").await, shop.product("tea", 2.5).await, shop.product("cup", 8.0).await);
    let teas = shop.stock(&tea, 10).await;
    let (status, problem) = shop.order(&ann, &[&tea, &cup, &cup]).await;
    assert_eq!(status, 409, "{problem}");
    assert_eq!(problem["type"], "urn:ordershop:problem:out-of-stock");
    assert_eq!(problem["short"], json!([{ "product_id": cup, "wanted": 2, "available": 0 }]));
    assert_eq!(shop.amount(&teas).await, 10);
    shop.close().await;
}

#[tokio::test]
async fn orders_of_one_list_that_are_short_in_sum_take_nothing_at_all() {
    let shop = Shop::open().await;
    let (ann, bob) = (shop.customer("ann").await, shop.customer("bob").await);
    let tea = shop.product("tea", 2.5).await;
    let teas = shop.stock(&tea, 3).await;
    let list = |last: &[&str]| json!([{ "product_ids": [tea, tea], "customer_id": ann }, { "product_ids": last, "customer_id": bob }]);
    let (status, problem) = shop.post("/orders", list(&[&tea, &tea])).await;
    assert_eq!(status, 409, "{problem}");
    assert_eq!(problem["short"], json!([{ "product_id": tea, "wanted": 4, "available": 3 }]));
    assert_eq!(shop.amount(&teas).await, 3);
    let (status, ids) = shop.post("/orders", list(&[&tea])).await;
    assert_eq!((status, ids.as_array().map(Vec::len)), (200, Some(2)), "{ids}");
    assert_eq!(shop.amount(&teas).await, 0);
    shop.close().await;
}

#[tokio::test]
async fn a_change_moves_the_stock_and_one_that_is_short_leaves_everything_as_it_was() {
    let shop = Shop::open().await;
    let (ann, tea, cup) =
        (shop.customer("ann").await, shop.product("tea", 2.5).await, shop.product("cup", 8.0).await);
    let (teas, cups) = (shop.stock(&tea, 3).await, shop.stock(&cup, 1).await);
    let id = shop.confirmed(&ann, &[&tea, &tea]).await;
    let change = async |products: &[&str]| {
        shop.put(&format!("/order/{id}"), json!({ "product_ids": products, "customer_id": ann })).await
    };

    assert_eq!(change(&[&tea, &cup]).await, (200, json!(true)));
    assert_eq!((shop.amount(&teas).await, shop.amount(&cups).await), (2, 0));

    let (status, problem) = change(&[&cup, &cup]).await;
    assert_eq!(status, 409, "{problem}");
    assert_eq!(problem["short"], json!([{ "product_id": cup, "wanted": 2, "available": 1 }]));
    let order = shop.order_state(&id).await.unwrap();
    assert_eq!((order.status, order.change), (Status::Confirmed, Change::Rejected));
    assert_eq!(order.product_ids, [tea.clone(), cup.clone()]);
    assert_eq!((shop.amount(&teas).await, shop.amount(&cups).await), (2, 0));

    assert_eq!(change(&[&tea, &tea, &tea]).await, (200, json!(true)));
    assert_eq!((shop.amount(&teas).await, shop.amount(&cups).await), (0, 1));
    shop.close().await;
}

#[tokio::test]
async fn a_change_of_a_one_item_order_to_the_same_takes_nothing() {
    let shop = Shop::open().await;
    let (ann, tea) = (shop.customer("ann").await, shop.product("tea", 2.5).await);
    let teas = shop.stock(&tea, 1).await;
    let id = shop.confirmed(&ann, &[&tea]).await;
    let body = json!({ "product_ids": [tea], "customer_id": ann });
    assert_eq!(shop.put(&format!("/order/{id}"), body).await, (200, json!(true)));
    assert_eq!(shop.amount(&teas).await, 0);
    assert_eq!(shop.events(INVENTORY, "updated").await, 1);
    shop.close().await;
}

#[tokio::test]
async fn a_deleted_order_gives_back_what_it_held() {
    let shop = Shop::open().await;
    let (ann, tea) = (shop.customer("ann").await, shop.product("tea", 2.5).await);
    let teas = shop.stock(&tea, 5).await;
    let id = shop.confirmed(&ann, &[&tea, &tea]).await;
    assert_eq!(shop.delete(&format!("/order/{id}")).await, (200, json!(true)));
    until("given back", async || shop.amount(&teas).await == 5).await;
    assert!(shop.order_state(&id).await.is_none());
    let held: Reservation = shop.read(RESERVATION, &id).await.unwrap();
    assert!(held.released && held.lines.is_empty());
    assert_eq!(shop.delete(&format!("/order/{id}")).await.0, 404);
    shop.close().await;
}

#[tokio::test]
async fn a_rejected_order_can_be_tried_again_by_a_change() {
    let shop = Shop::open().await;
    let (ann, tea) = (shop.customer("ann").await, shop.product("tea", 2.5).await);
    let teas = shop.stock(&tea, 1).await;
    let (status, problem) = shop.order(&ann, &[&tea, &tea]).await;
    assert_eq!(status, 409);
    let id = problem["orders"][0].as_str().unwrap();
    assert_eq!(shop.order_state(id).await.unwrap().status, Status::Rejected);
    let body = json!({ "product_ids": [tea], "customer_id": ann });
    assert_eq!(shop.put(&format!("/order/{id}"), body).await, (200, json!(true)));
    assert_eq!((shop.amount(&teas).await, shop.order_state(id).await.unwrap().confirmations), (0, 1));
    shop.close().await;
}

#[tokio::test]
async fn while_inventory_is_down_orders_are_taken_and_they_are_decided_when_it_is_back() {
    let mut shop = Shop::without_inventory(50).await;
    let (inventory, url) = shop.start_inventory().await;
    let (ann, tea) = (shop.customer("ann").await, shop.product("tea", 2.5).await);
    let stock = json!({ "product_id": tea, "amount": 3 });
    reqwest::Client::new().post(format!("{url}/inventory")).body(stock.to_string()).send().await.unwrap();
    inventory.stop().await;

    let (status, ids) = shop.order(&ann, &[&tea, &tea]).await;
    assert_eq!(status, 202, "{ids}");
    let first = ids[0].as_str().unwrap();
    let (status, ids) = shop.order(&ann, &[&tea, &tea]).await;
    assert_eq!(status, 202, "{ids}");
    let second = ids[0].as_str().unwrap();
    assert_eq!(shop.order_state(first).await.unwrap().status, Status::Pending);

    // One open question at a time.
    let body = json!({ "product_ids": [tea], "customer_id": ann });
    let (status, problem) = shop.put(&format!("/order/{second}"), body).await;
    assert_eq!((status, problem["type"].as_str()), (409, Some("urn:ordershop:problem:undecided")));

    let (inventory, _) = shop.start_inventory().await;
    shop.keep(inventory);
    let status = async |id: &str| shop.order_state(id).await.unwrap().status;
    until("the first is confirmed", async || status(first).await == Status::Confirmed).await;
    until("the second is rejected", async || status(second).await == Status::Rejected).await;
    assert_eq!(shop.pieces().await[&tea], (1, 2));
    shop.close().await;
}

#[tokio::test]
async fn an_order_deleted_before_its_decision_holds_nothing_and_its_list_is_decided_without_it() {
    let mut shop = Shop::without_inventory(50).await;
    let (ann, bob) = (shop.customer("ann").await, shop.customer("bob").await);
    let tea = shop.product("tea", 2.5).await;
    let list =
        json!([{ "product_ids": [tea], "customer_id": ann }, { "product_ids": [tea], "customer_id": bob }]);
    let (status, ids) = shop.post("/orders", list).await;
    assert_eq!(status, 202);
    let (first, second) = (ids[0].as_str().unwrap(), ids[1].as_str().unwrap());
    assert_eq!(shop.delete(&format!("/order/{first}")).await, (200, json!(true)));

    let (inventory, _) = shop.start_inventory().await;
    shop.keep(inventory);
    until("everything is decided", async || {
        let held: Option<Reservation> = shop.read(RESERVATION, first).await;
        held.is_some_and(|held| held.released)
            && shop.order_state(second).await.unwrap().status == Status::Rejected
    })
    .await;
    assert!(shop.order_state(first).await.is_none());
    shop.close().await;
}

#[tokio::test]
async fn an_event_that_nobody_understands_stops_no_other_order() {
    let shop = Shop::open().await;
    let (ann, tea) = (shop.customer("ann").await, shop.product("tea", 2.5).await);
    shop.stock(&tea, 2).await;
    for bad in [json!({ "id": "bad" }), json!({ "id": "bad", "product_ids": [], "status": 7 })] {
        shop.store.append(vec![NewEvent::put(ORDER, "created", "bad", &bad)]).await.unwrap();
    }
    shop.confirmed(&ann, &[&tea]).await;
    shop.confirmed(&ann, &[&tea]).await;
    shop.close().await;
}
