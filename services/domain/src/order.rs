//! An order and its life: pending until inventory has decided, then confirmed or rejected. A
//! change makes a confirmed order pending again and, when there is no stock for it, leaves the
//! order as it was. One change is decided before the next begins, so what an order holds always
//! belongs to what it says or to `previous`.

use crate::draft::OrderDraft;
use crate::entity::{Customer, Product};
use crate::reservation::{Reservation, Short};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Inventory has not decided yet.
    Pending,
    /// It holds its stock.
    Confirmed,
    /// There was no stock for it; it holds nothing.
    Rejected,
}

/// What an event did to its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It was placed, or placed again after a rejection.
    Placed,
    /// Its customer or products are to change.
    Changed,
    /// Inventory reserved what it asks for.
    Confirmed,
    /// Inventory could not: the placed order is rejected, or the change is taken back.
    Rejected,
    /// A payment was recorded.
    Billed,
    /// Its last payment was deleted.
    Unbilled,
    /// It was deleted.
    Deleted,
}

/// The customer at the time of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// Name.
    pub name: String,
    /// Address.
    pub email: String,
}

/// A product at the time of the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The product.
    pub product_id: String,
    /// Its name.
    pub name: String,
    /// Its price in euros.
    pub price: f64,
}

/// What an order is about, with snapshots of customer and products: whoever handles its events
/// needs nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// The products, one entry per piece.
    pub product_ids: Vec<String>,
    /// Who orders.
    pub customer_id: String,
    /// The customer.
    pub customer: Party,
    /// The products, in the order of `product_ids`.
    pub items: Vec<Item>,
}

/// A field of a draft that names an entity which does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: there is no {entity} {id}")]
pub struct UnknownReference {
    /// The field.
    pub field: &'static str,
    /// The kind of the missing entity.
    pub entity: &'static str,
    /// The id that was not found.
    pub id: String,
}

impl Content {
    /// The draft with snapshots of what it names.
    pub fn of(
        draft: OrderDraft,
        customers: &HashMap<String, Customer>,
        products: &HashMap<String, Product>,
    ) -> Result<Self, UnknownReference> {
        let OrderDraft { product_ids, customer_id } = draft;
        let Some(customer) = customers.get(&customer_id) else {
            return Err(UnknownReference { field: "customer_id", entity: "customer", id: customer_id });
        };
        let item = |id: &String| {
            let unknown = || UnknownReference { field: "product_ids", entity: "product", id: id.clone() };
            let product = products.get(id).ok_or_else(unknown)?;
            Ok(Item { product_id: id.clone(), name: product.name.clone(), price: product.price })
        };
        let items = product_ids.iter().map(item).collect::<Result<_, _>>()?;
        let customer = Party { name: customer.name.clone(), email: customer.email.clone() };
        Ok(Self { product_ids, customer_id, customer, items })
    }
}

/// Orders that were placed with one request: inventory decides them together, with the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The first order of the list.
    pub leader: String,
    /// All orders of the list; the leader alone carries them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<BatchMember>,
}

/// An order of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchMember {
    /// The order.
    pub id: String,
    /// Its products.
    pub product_ids: Vec<String>,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Its id.
    pub id: String,
    /// The products, one entry per piece.
    pub product_ids: Vec<String>,
    /// Who orders.
    pub customer_id: String,
    /// Where it stands.
    pub status: Status,
    /// How many requests of its user it has seen: 1 when placed. Decisions answer a revision.
    pub revision: u32,
    /// What the last event did.
    pub change: Change,
    /// How often it was confirmed.
    pub confirmations: u32,
    /// Whether there is a payment for it.
    pub billed: bool,
    /// The customer at the time of the request.
    pub customer: Party,
    /// The products at the time of the request, in the order of `product_ids`.
    pub items: Vec<Item>,
    /// What was confirmed last, while a change is pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Content>,
    /// The list it was placed with, while it is pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
    /// What was missing when it, or its last change, was rejected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub short: Vec<Short>,
}

/// A change of an order whose last change is not decided yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the order's last change is not decided yet")]
pub struct Undecided;

/// What inventory decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is held.
    Reserved,
    /// Something is missing; what was held before is still held.
    Rejected,
}

impl Order {
    /// A new order, pending.
    #[must_use]
    pub fn place(id: String, content: Content, batch: Option<Batch>) -> Self {
        let Content { product_ids, customer_id, customer, items } = content;
        Self {
            id,
            product_ids,
            customer_id,
            status: Status::Pending,
            revision: 1,
            change: Change::Placed,
            confirmations: 0,
            billed: false,
            customer,
            items,
            previous: None,
            batch,
            short: Vec::new(),
        }
    }

    /// New orders of one list, pending, to be decided together.
    #[must_use]
    pub fn place_list(ids: Vec<String>, contents: Vec<Content>) -> Vec<Self> {
        debug_assert_eq!(ids.len(), contents.len());
        let together = contents.len() > 1;
        let leader = ids.first().cloned().unwrap_or_default();
        let mut members: Vec<BatchMember> = Vec::new();
        if together {
            let pairs = ids.iter().zip(&contents);
            members.extend(pairs.map(|(id, content)| BatchMember {
                id: id.clone(),
                product_ids: content.product_ids.clone(),
            }));
        }
        ids.into_iter()
            .zip(contents)
            .map(|(id, content)| {
                // The first takes the members, the others find none left.
                let orders = std::mem::take(&mut members);
                let batch = together.then(|| Batch { leader: leader.clone(), orders });
                Self::place(id, content, batch)
            })
            .collect()
    }

    /// The order with other content, pending again. A rejected order is placed again.
    pub fn change(&self, content: Content) -> Result<Self, Undecided> {
        let (change, previous) = match self.status {
            Status::Pending => return Err(Undecided),
            Status::Confirmed => (Change::Changed, Some(self.content())),
            Status::Rejected => (Change::Placed, None),
        };
        Ok(Self {
            status: Status::Pending,
            revision: self.revision + 1,
            change,
            previous,
            batch: None,
            short: Vec::new(),
            ..self.clone()
        }
        .with(content))
    }

    /// What becomes of the order by a decision; `None` when the decision is not about what the
    /// order asks for now, or was applied before.
    #[must_use]
    pub fn decide(&self, verdict: Verdict, decision: &Reservation) -> Option<Self> {
        let awaited = self.status == Status::Pending
            && self.revision == decision.revision
            && !decision.released
            && self.id == decision.order_id;
        if !awaited {
            return None;
        }
        let mut order = Self { previous: None, batch: None, ..self.clone() };
        match (verdict, &self.previous) {
            (Verdict::Reserved, _) => {
                order.status = Status::Confirmed;
                order.change = Change::Confirmed;
                order.confirmations += 1;
            }
            (Verdict::Rejected, previous) => {
                order.change = Change::Rejected;
                order.short.clone_from(&decision.short);
                order.status = if previous.is_some() { Status::Confirmed } else { Status::Rejected };
                if let Some(content) = previous {
                    order = order.with(content.clone());
                }
            }
        }
        Some(order)
    }

    /// The order with or without a payment; `None` when it is so already.
    #[must_use]
    pub fn bill(&self, billed: bool) -> Option<Self> {
        let change = if billed { Change::Billed } else { Change::Unbilled };
        (self.billed != billed).then(|| Self { change, billed, ..self.clone() })
    }

    /// The order's last state.
    #[must_use]
    pub fn delete(&self) -> Self {
        Self { change: Change::Deleted, ..self.clone() }
    }

    /// What it is about.
    #[must_use]
    pub fn content(&self) -> Content {
        Content {
            product_ids: self.product_ids.clone(),
            customer_id: self.customer_id.clone(),
            customer: self.customer.clone(),
            items: self.items.clone(),
        }
    }

    /// Whether this is the state of the event that confirmed the order for the first time, upon
    /// which the customer is thanked and asked to pay.
    #[must_use]
    pub fn is_first_confirmation(&self) -> bool {
        self.change == Change::Confirmed && self.confirmations == 1
    }

    fn with(self, content: Content) -> Self {
        let Content { product_ids, customer_id, customer, items } = content;
        Self { product_ids, customer_id, customer, items, ..self }
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
pub(crate) mod tests;
