//! The decision about stock: an order gets every piece it asks for, or nothing changes.
//!
//! Pure: the caller reads inventories and reservations with their versions and appends the plan
//! under the condition that exactly those versions still stand; whoever comes second reads again
//! and decides again. So stock is never oversold, however many decide at once, and per product
//! what is on hand plus what is held stays what it was.
//!
//! Pieces that were taken from an inventory which is deleted meanwhile stay held; when they are
//! given back, there is no place for them and they are gone with it.

use crate::entity::Inventory;
use crate::order::{Batch, BatchMember, Change, Order, Status, Verdict};
use crate::reservation::{Line, Reservation, Short};
use std::collections::{BTreeMap, BTreeSet};

/// What an event of an order asks of the stock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Hold exactly this, for all orders or for none.
    Reserve(Vec<Wanted>),
    /// Give back what the order holds.
    Release(Wanted),
}

/// What an order wants to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The order.
    pub order_id: String,
    /// The revision that is to be decided.
    pub revision: u32,
    /// The products, one entry per piece.
    pub product_ids: Vec<String>,
}

impl Demand {
    /// What an order asks for with the event that left it in this state, or why nothing.
    pub fn of(order: &Order) -> Result<Self, &'static str> {
        let wanted = |product_ids: &Vec<String>| Wanted {
            order_id: order.id.clone(),
            revision: order.revision,
            product_ids: product_ids.clone(),
        };
        match (order.change, order.status, &order.batch) {
            (Change::Deleted, ..) => Ok(Self::Release(wanted(&Vec::new()))),
            (Change::Placed, Status::Pending, Some(Batch { leader, orders })) => {
                if *leader != order.id {
                    return Err("it is decided with the first order of its list");
                }
                let member = |BatchMember { id, product_ids }: &BatchMember| Wanted {
                    order_id: id.clone(),
                    ..wanted(product_ids)
                };
                Ok(Self::Reserve(orders.iter().map(member).collect()))
            }
            (Change::Placed | Change::Changed, Status::Pending, None) => {
                Ok(Self::Reserve(vec![wanted(&order.product_ids)]))
            }
            _ => Err("it asks nothing of the stock"),
        }
    }

    /// The orders it is about.
    #[must_use]
    pub fn orders(&self) -> &[Wanted] {
        match self {
            Self::Reserve(wanted) => wanted,
            Self::Release(wanted) => std::slice::from_ref(wanted),
        }
    }

    /// The products whose inventories the decision needs, beside the inventories that are held.
    #[must_use]
    pub fn products(&self) -> BTreeSet<&str> {
        self.orders().iter().flat_map(|wanted| &wanted.product_ids).map(String::as_str).collect()
    }
}

/// Something with the version at which it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<T> {
    /// It.
    pub value: T,
    /// Its version.
    pub version: u64,
}

/// What is to be appended, under the condition that every version still stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The inventories that change, with the version they were read at.
    pub inventories: Vec<Versioned<Inventory>>,
    /// The reservations, with the verdict and the version they were read at (none: there is none).
    pub reservations: Vec<(Reservation, Verdict, Option<u64>)>,
}

/// Decides a demand. `inventories` are the live ones of all products in question and those that
/// are held; `reservations` the current ones of the orders. `None`: all of it is decided already.
#[must_use]
pub fn decide(
    demand: &Demand,
    inventories: Vec<Versioned<Inventory>>,
    reservations: &[Versioned<Reservation>],
) -> Option<Plan> {
    let held: BTreeMap<&str, &Versioned<Reservation>> =
        reservations.iter().map(|held| (held.value.order_id.as_str(), held)).collect();
    match demand {
        Demand::Reserve(wanted) => reserve(wanted, inventories, &held),
        Demand::Release(wanted) => release(wanted, inventories, held.get(wanted.order_id.as_str()).copied()),
    }
}

type HeldByOrder<'a> = BTreeMap<&'a str, &'a Versioned<Reservation>>;

fn reserve(
    wanted: &[Wanted],
    inventories: Vec<Versioned<Inventory>>,
    held: &HeldByOrder<'_>,
) -> Option<Plan> {
    let held_by = |order: &Wanted| held.get(order.order_id.as_str()).copied();
    let is_open = |order: &&Wanted| {
        held_by(order).is_none_or(|held| !held.value.released && held.value.revision < order.revision)
    };
    let open: Vec<&Wanted> = wanted.iter().filter(is_open).collect();
    if open.is_empty() {
        return None;
    }

    let mut shelf = Shelf::new(inventories);
    // First everybody keeps what they hold and still want, and gives the rest back; then they take.
    let mut picks: Vec<Pick> = open
        .iter()
        .map(|order| Pick::keep(&order.product_ids, held_by(order).map(|held| &held.value), &mut shelf))
        .collect();
    let mut missing: BTreeMap<String, u64> = BTreeMap::new();
    for pick in &mut picks {
        pick.take_open(&mut shelf, &mut missing);
    }

    let short = shorts(&open, &missing);
    let accepted = short.is_empty();
    let verdict = if accepted { Verdict::Reserved } else { Verdict::Rejected };
    let reservations = open.iter().zip(picks).map(|(order, pick)| {
        let before = held_by(order);
        let kept = || before.map(|held| held.value.lines.clone()).unwrap_or_default();
        let reservation = Reservation {
            id: order.order_id.clone(),
            order_id: order.order_id.clone(),
            revision: order.revision,
            lines: if accepted { pick.lines } else { kept() },
            short: short.clone(),
            released: false,
        };
        (reservation, verdict, before.map(|held| held.version))
    });
    let reservations = reservations.collect();
    Some(Plan { inventories: if accepted { shelf.changed() } else { Vec::new() }, reservations })
}

fn release(
    order: &Wanted,
    inventories: Vec<Versioned<Inventory>>,
    held: Option<&Versioned<Reservation>>,
) -> Option<Plan> {
    if held.is_some_and(|held| held.value.released) {
        return None;
    }
    let mut shelf = Shelf::new(inventories);
    for line in held.iter().flat_map(|held| &held.value.lines) {
        shelf.give_back(line, line.amount);
    }
    let released = Reservation {
        id: order.order_id.clone(),
        order_id: order.order_id.clone(),
        revision: order.revision,
        lines: Vec::new(),
        short: Vec::new(),
        released: true,
    };
    let reservations = vec![(released, Verdict::Reserved, held.map(|held| held.version))];
    Some(Plan { inventories: shelf.changed(), reservations })
}

fn shorts(open: &[&Wanted], missing: &BTreeMap<String, u64>) -> Vec<Short> {
    let mut wanted = BTreeMap::new();
    for product in open.iter().flat_map(|order| &order.product_ids) {
        *wanted.entry(product.as_str()).or_insert(0) += 1;
    }
    let short = |(product, missing): (&String, &u64)| {
        let wanted = wanted.get(product.as_str()).copied().unwrap_or(*missing);
        Short { product_id: product.clone(), wanted, available: wanted - missing }
    };
    missing.iter().map(short).collect()
}

/// One order's pieces while they are picked.
struct Pick {
    lines: Vec<Line>,
    /// Per product, how many are still to be taken.
    open: BTreeMap<String, u64>,
}

impl Pick {
    fn keep(product_ids: &[String], held: Option<&Reservation>, shelf: &mut Shelf) -> Self {
        let mut open = BTreeMap::new();
        for product in product_ids {
            *open.entry(product.clone()).or_insert(0) += 1;
        }
        let mut lines = Vec::new();
        for line in held.iter().flat_map(|held| &held.lines) {
            let wanted = open.get_mut(&line.product_id);
            let kept = wanted.as_ref().map_or(0, |wanted| line.amount.min(**wanted));
            if let Some(wanted) = wanted {
                *wanted -= kept;
            }
            if kept > 0 {
                lines.push(Line { amount: kept, ..line.clone() });
            }
            shelf.give_back(line, line.amount - kept);
        }
        Self { lines, open }
    }

    fn take_open(&mut self, from: &mut Shelf, missing: &mut BTreeMap<String, u64>) {
        for (product, wanted) in &self.open {
            let lacking = from.take(product, *wanted, &mut self.lines);
            if lacking > 0 {
                *missing.entry(product.clone()).or_insert(0) += lacking;
            }
        }
    }
}

/// The inventories while pieces are taken and given back, in the order of their ids.
struct Shelf {
    now: BTreeMap<String, Versioned<Inventory>>,
    before: BTreeMap<String, u64>,
}

impl Shelf {
    fn new(inventories: Vec<Versioned<Inventory>>) -> Self {
        let now: BTreeMap<_, _> =
            inventories.into_iter().map(|stock| (stock.value.id.clone(), stock)).collect();
        let before = now.iter().map(|(id, stock)| (id.clone(), stock.value.amount)).collect();
        Self { now, before }
    }

    fn give_back(&mut self, line: &Line, amount: u64) {
        let place = self.now.get_mut(&line.inventory_id);
        if let Some(stock) = place.filter(|stock| stock.value.product_id == line.product_id) {
            stock.value.amount = stock.value.amount.saturating_add(amount);
        }
    }

    /// Takes up to `wanted` pieces and answers how many are lacking.
    fn take(&mut self, product: &str, mut wanted: u64, lines: &mut Vec<Line>) -> u64 {
        for (id, stock) in self.now.iter_mut().filter(|(_, stock)| stock.value.product_id == product) {
            let amount = stock.value.amount.min(wanted);
            if amount == 0 {
                continue;
            }
            stock.value.amount -= amount;
            wanted -= amount;
            match lines.iter_mut().find(|line| line.inventory_id == *id && line.product_id == product) {
                Some(line) => line.amount += amount,
                None => lines.push(Line { inventory_id: id.clone(), product_id: product.to_owned(), amount }),
            }
        }
        wanted
    }

    fn changed(self) -> Vec<Versioned<Inventory>> {
        let before = self.before;
        self.now
            .into_values()
            .filter(|stock| before.get(&stock.value.id) != Some(&stock.value.amount))
            .collect()
    }
}

#[cfg(test)]
#[path = "stock_tests.rs"]
mod tests;
