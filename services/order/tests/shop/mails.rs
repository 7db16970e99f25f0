//! Mails are asked for once each, in the order of each customer's events, whoever was down.

use crate::harness::{Shop, until};
use chassis::kinds::BILLING;
use domain::{Billing, MailKind};
use serde_json::json;

#[tokio::test]
async fn mails_of_events_while_crm_was_down_are_asked_for_once_and_in_order() {
    let mut shop = Shop::open().await;
    let tea = shop.product("tea", 2.25).await;
    shop.stock(&tea, 100).await;
    let mut customers = Vec::new();
    for number in 0..5 {
        let customer = shop.customer(&format!("client{number}")).await;
        let order = shop.confirmed(&customer, &[&tea, &tea]).await;
        // A second confirmation of the same order is no second purchase.
        let body = json!({ "product_ids": [tea], "customer_id": customer });
        assert_eq!(shop.put(&format!("/order/{order}"), body).await.0, 200);
        customers.push(customer);
    }
    assert_eq!(shop.delete(&format!("/customer/{}", customers[0])).await, (200, json!(true)));
    for _ in 0..3 {
        let crm = shop.start_crm().await;
        shop.keep(crm);
    }
    // Per customer welcome, thanks and transfer; one goodbye.
    until("all mails", async || shop.mails().await.len() >= 16).await;
    let mails = shop.mails().await;
    assert_eq!(mails.len(), 16);
    for (number, customer) in customers.iter().enumerate() {
        let own = mails.iter().filter(|mail| mail.customer_id == *customer);
        let of_crm: Vec<MailKind> =
            own.clone().map(|mail| mail.kind).filter(|kind| *kind != MailKind::Transfer).collect();
        let expected = [MailKind::Welcome, MailKind::ThankYou, MailKind::Goodbye];
        assert_eq!(of_crm, expected[..if number == 0 { 3 } else { 2 }]);
        let transfer = own.clone().find(|mail| mail.kind == MailKind::Transfer).unwrap();
        assert!(transfer.body.contains("€ 4.50"), "{}", transfer.body);
        assert_eq!(transfer.to, format!("client{number}@example.com"));
    }
    shop.close().await;
}

#[tokio::test]
async fn a_payment_is_receipted_and_its_order_is_billed_for_as_long_as_it_stands() {
    let shop = Shop::open().await;
    let (ann, tea) = (shop.customer("ann").await, shop.product("tea", 2.25).await);
    shop.stock(&tea, 10).await;
    let (first, second) = (shop.confirmed(&ann, &[&tea, &tea]).await, shop.confirmed(&ann, &[&tea]).await);
    let (status, ids) = shop.post("/billings", json!([{ "order_id": first }])).await;
    assert_eq!(status, 200, "{ids}");
    let id = ids[0].as_str().unwrap();
    let billed = async |order: &str| shop.order_state(order).await.unwrap().billed;
    until("the order is billed", async || billed(&first).await).await;
    until("the receipt", async || {
        let mails = shop.mails().await;
        mails.iter().any(|mail| mail.kind == MailKind::Receipt && mail.body.contains("received € 4.50"))
    })
    .await;

    let before: Billing = shop.read(BILLING, id).await.unwrap();
    let path = format!("/billing/{id}");
    assert_eq!(shop.put(&path, json!({ "order_id": second })).await, (200, json!(true)));
    until("the other order is billed instead", async || !billed(&first).await && billed(&second).await).await;
    let after: Billing = shop.read(BILLING, id).await.unwrap();
    assert!((after.done - before.done).abs() < 1e-9 && (after.amount - 2.25).abs() < 1e-9);

    assert_eq!(shop.delete(&path).await, (200, json!(true)));
    until("it is not billed any more", async || !billed(&second).await).await;
    assert_eq!(shop.delete(&path).await.0, 404);
    shop.close().await;
}
