//! Many at once: what is true for one caller is true for sixteen, at several replicas.

use crate::harness::{DECIDED_MS, Shop, until};
use chassis::kinds::{ORDER, RESERVATION};
use domain::{Order, Reservation, Status};
use futures_util::future::{join, join_all};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

const CLIENTS: usize = 16;
/// To a change: done, still undecided, refused; or, on a busy machine, that it cannot be read now, and nothing was done.
const AN_ANSWER: [u16; 4] = [200, 202, 409, 503];

fn count(products: &[String]) -> BTreeMap<&str, u64> {
    let mut count = BTreeMap::new();
    for product in products {
        *count.entry(product.as_str()).or_insert(0) += 1;
    }
    count
}

/// What every order says is what it holds.
async fn assert_orders_hold_what_they_say(shop: &Shop) {
    let mut held: BTreeMap<String, Reservation> = BTreeMap::new();
    for reservation in shop.all::<Reservation>(RESERVATION).await {
        held.insert(reservation.id.clone(), reservation);
    }
    for order in shop.all::<Order>(ORDER).await {
        let mut lines: BTreeMap<&str, u64> = BTreeMap::new();
        for line in &held[&order.id].lines {
            *lines.entry(&line.product_id).or_default() += line.amount;
        }
        let said =
            if order.status == Status::Confirmed { count(&order.product_ids) } else { BTreeMap::new() };
        assert_eq!(lines, said, "{order:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_clients_and_three_inventories_never_oversell() {
    let mut shop = Shop::open().await;
    for _ in 0..2 {
        let (inventory, _) = shop.start_inventory().await;
        shop.keep(inventory);
    }
    let (tea, cup) = (shop.product("tea", 1.0).await, shop.product("cup", 2.0).await);
    for amount in [20, 13] {
        shop.stock(&tea, amount).await;
    }
    shop.stock(&cup, 50).await;
    let client = async |number: usize| {
        let customer = shop.customer(&format!("client{number}")).await;
        let mut taken = (0, 0);
        for round in 0..5 {
            let (teas, cups) = (1 + (number + round) % 2, round % 2);
            let products = [vec![tea.as_str(); teas], vec![cup.as_str(); cups]].concat();
            let (status, answer) = shop.order(&customer, &products).await;
            match status {
                200 => taken = (taken.0 + teas as u64, taken.1 + cups as u64),
                409 => assert_eq!(answer["short"][0]["product_id"], tea.as_str(), "{answer}"),
                other => panic!("{other} {answer}"),
            }
        }
        taken
    };
    let taken = join_all((0..CLIENTS).map(client)).await;
    let (teas, cups) = taken.iter().fold((0, 0), |sum, taken| (sum.0 + taken.0, sum.1 + taken.1));
    let pieces = shop.pieces().await;
    assert_eq!(pieces[&tea], (33 - teas, teas));
    assert_eq!(pieces[&cup], (50 - cups, cups));
    // Clients want more than there is, and single pieces: everything is sold.
    assert_eq!(teas, 33);
    assert_eq!(shop.rebuilt_amounts().await, shop.cached_amounts().await);
    assert_orders_hold_what_they_say(&shop).await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_and_deletions_at_once_leave_stock_and_orders_in_agreement() {
    let mut shop = Shop::open().await;
    let (inventory, _) = shop.start_inventory().await;
    shop.keep(inventory);
    let (order, url) = shop.start_order(DECIDED_MS).await;
    shop.send_orders_to(order, url);
    let (ann, tea, cup) =
        (shop.customer("ann").await, shop.product("tea", 1.0).await, shop.product("cup", 2.0).await);
    let (teas, cups) = (shop.stock(&tea, 12).await, shop.stock(&cup, 3).await);
    let shared = shop.confirmed(&ann, &[&tea]).await;
    let client = async |number: usize| {
        let (status, ids) = shop.order(&ann, &[&tea]).await;
        assert!(status == 200 || status == 409, "{status} {ids}");
        for round in 0..3 {
            let product = if (number + round).is_multiple_of(2) { &tea } else { &cup };
            let body = json!({ "product_ids": vec![product; 1 + round], "customer_id": ann });
            let (status, answer) = shop.put(&format!("/order/{shared}"), body.clone()).await;
            assert!(AN_ANSWER.contains(&status), "{status} {answer}");
            if let Some(own) = ids[0].as_str() {
                let (status, answer) = shop.put(&format!("/order/{own}"), body).await;
                assert!(AN_ANSWER.contains(&status), "{status} {answer}");
            }
        }
        if let (true, Some(own)) = (number.is_multiple_of(2), ids[0].as_str()) {
            assert_eq!(shop.delete(&format!("/order/{own}")).await.0, 200);
        }
    };
    join_all((0..CLIENTS).map(client)).await;
    until("every order is decided and every deletion given back", async || {
        let pending = shop.all::<Order>(ORDER).await.iter().any(|order| order.status == Status::Pending);
        let live = shop.store.ids(ORDER).await.unwrap();
        let held = shop.all::<Reservation>(RESERVATION).await;
        !pending && held.iter().all(|held| held.released || live.contains(&held.id))
    })
    .await;
    let pieces = shop.pieces().await;
    assert_eq!(pieces[&tea].0 + pieces[&tea].1, 12);
    assert_eq!(pieces[&cup].0 + pieces[&cup].1, 3);
    assert_orders_hold_what_they_say(&shop).await;
    assert_eq!(
        shop.rebuilt_amounts().await,
        BTreeMap::from([(teas, pieces[&tea].0), (cups, pieces[&cup].0)])
    );
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_inventory_killed_in_the_middle_loses_no_order_and_takes_no_piece_twice() {
    let shop = Shop::without_inventory(DECIDED_MS).await;
    let (inventory, url) = shop.start_inventory().await;
    let tea = shop.product("tea", 1.0).await;
    let stock = json!({ "product_id": tea, "amount": 40 });
    reqwest::Client::new().post(format!("{url}/inventory")).body(stock.to_string()).send().await.unwrap();
    inventory.stop().await;
    let done = AtomicU64::new(0);
    let client = async |number: usize| {
        let customer = shop.customer(&format!("client{number}")).await;
        let mut taken = 0;
        for _ in 0..4 {
            let (status, answer) = shop.order(&customer, &[&tea]).await;
            assert!(status == 200 || status == 409, "{status} {answer}");
            taken += u64::from(status == 200);
            done.fetch_add(1, Ordering::Relaxed);
        }
        taken
    };
    let killer = async {
        for after in [5, 20, 40] {
            let inventory = shop.start_mortal_inventory().await;
            until("some orders are decided", async || done.load(Ordering::Relaxed) >= after).await;
            inventory.kill();
        }
        shop.start_mortal_inventory().await
    };
    let (taken, last) = join(join_all((0..CLIENTS).map(client)), killer).await;
    assert_eq!(taken.iter().sum::<u64>(), 40);
    assert_eq!(shop.pieces().await[&tea], (0, 40));
    assert_eq!(shop.rebuilt_amounts().await, shop.cached_amounts().await);
    assert_orders_hold_what_they_say(&shop).await;
    last.kill();
    shop.close().await;
}
