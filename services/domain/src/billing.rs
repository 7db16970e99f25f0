//! Payments of orders.

use crate::draft::BillingUpdate;
use crate::money;
use crate::order::{Order, Status};
use serde::{Deserialize, Serialize};

/// A payment. A billing outlives its order, as a receipt does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Billing {
    /// Its id.
    pub id: String,
    /// What was paid.
    pub order_id: String,
    /// When, in Unix seconds.
    pub done: f64,
    /// How much, in euros.
    pub amount: f64,
    /// Who paid.
    pub customer: BillingCustomer,
    /// The order it belonged to before its last change, if that was another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<String>,
}

/// The order's customer at the time of the payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BillingCustomer {
    /// The customer.
    pub id: String,
    /// Name.
    pub name: String,
    /// Address.
    pub email: String,
}

/// Why an order cannot be billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BillingError {
    /// What it costs is not settled; it can be billed when it is decided.
    #[error("the order is not decided yet")]
    Undecided,
    /// It never came about.
    #[error("the order was rejected")]
    Rejected,
}

impl Billing {
    /// A payment of an order.
    pub fn of(id: String, order: &Order, done: f64) -> Result<Self, BillingError> {
        match order.status {
            Status::Pending => return Err(BillingError::Undecided),
            Status::Rejected => return Err(BillingError::Rejected),
            Status::Confirmed => {}
        }
        let customer = BillingCustomer {
            id: order.customer_id.clone(),
            name: order.customer.name.clone(),
            email: order.customer.email.clone(),
        };
        let amount = money::sum(&order.items);
        Ok(Self { id, order_id: order.id.clone(), done, amount, customer, moved_from: None })
    }

    /// The payment, changed to be one of `order`.
    pub fn update(&self, update: &BillingUpdate, order: &Order) -> Result<Self, BillingError> {
        let billing = Self::of(self.id.clone(), order, update.done.unwrap_or(self.done))?;
        let moved_from = (billing.order_id != self.order_id).then(|| self.order_id.clone());
        Ok(Self { moved_from, ..billing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::tests::{content, order};

    #[test]
    fn a_confirmed_order_is_billed_with_its_sum_and_customer() {
        let billing = Billing::of("b".into(), &order(Status::Confirmed), 12.5).unwrap();
        assert_eq!(billing.order_id, "o");
        assert_eq!((billing.done, billing.amount), (12.5, 3.0));
        assert_eq!(billing.customer.id, "c");
        assert_eq!(billing.customer.email, "ann@example.com");
    }

    #[test]
    fn an_order_that_is_not_settled_or_never_came_about_is_not_billed() {
        assert_eq!(Billing::of("b".into(), &order(Status::Pending), 0.0), Err(BillingError::Undecided));
        assert_eq!(Billing::of("b".into(), &order(Status::Rejected), 0.0), Err(BillingError::Rejected));
    }

    #[test]
    fn an_update_follows_the_order_and_keeps_its_time_unless_told() {
        let billing = Billing::of("b".into(), &order(Status::Confirmed), 12.5).unwrap();
        let other = Order {
            id: "o2".into(),
            status: Status::Confirmed,
            ..Order::place("o2".into(), content(&["x"]), None)
        };
        let update = |done| BillingUpdate { order_id: "o2".into(), done };
        let kept = billing.update(&update(None), &other).unwrap();
        assert_eq!(
            (kept.id.as_str(), kept.order_id.as_str(), kept.done, kept.amount),
            ("b", "o2", 12.5, 1.0)
        );
        let moved = billing.update(&update(Some(1.5)), &other).unwrap();
        assert_eq!((moved.done, moved.amount), (1.5, 1.0));
        assert_eq!(moved.moved_from.as_deref(), Some("o"));
        assert_eq!(moved.update(&update(None), &other).unwrap().moved_from, None);
    }
}
