//! Every piece: what was put in is on hand or held by a live order, at every version; and never less than nothing.

use super::Line;
use crate::books::{Books, Entry};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// An inventory as the log tells it.
#[derive(Clone, Debug, Default)]
struct Shelf {
    /// `None` once it is deleted.
    on_hand: Option<i64>,
    held: i64,
    /// By commands: created, replaced, taken away.
    put_in: i64,
}

/// What the handling of one event moved at one inventory.
#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    on_hand: i64,
    held: i64,
    deleted: bool,
}

pub(super) fn lines(books: &Books) -> [Line; 3] {
    let mut balance = Line::new("stock put in = on hand + held by live orders, per inventory and step");
    let mut negative =
        Line::new("no amount is negative, and no more is held than was put in, at any version");
    let mut held = Line::new("at rest, an order holds what it says: confirmed all of it, others nothing");

    let mut shelves: BTreeMap<&str, Shelf> = BTreeMap::new();
    let mut lines: BTreeMap<&str, BTreeMap<String, i64>> = BTreeMap::new();
    let mut flows: BTreeMap<(&str, String), Flow> = BTreeMap::new();
    for entry in &books.events {
        match entry.kind.as_str() {
            "inventory" => stock(entry, &mut shelves, &mut flows, &mut negative),
            "reservation" => {
                let after = reserved(entry, "inventory_id");
                let before = lines.insert(&entry.entity_id, after.clone()).unwrap_or_default();
                let cause = entry.causation.as_deref().unwrap_or_default();
                let touched: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
                for inventory in touched {
                    let moved = |of: &BTreeMap<String, i64>| of.get(inventory).copied().unwrap_or(0);
                    let change = moved(&after) - moved(&before);
                    let Some(shelf) = shelves.get_mut(inventory.as_str()) else {
                        negative
                            .check(false, || format!("{} holds of {inventory}, which never was", entry.id));
                        continue;
                    };
                    shelf.held += change;
                    let flow = flows.entry((cause, inventory.clone())).or_default();
                    flow.held += change;
                    flow.deleted |= shelf.on_hand.is_none();
                    negative.check(shelf.held >= 0, || {
                        format!("{inventory} holds {} at {}", shelf.held, entry.id)
                    });
                }
            }
            _ => {}
        }
    }
    for ((cause, inventory), flow) in flows {
        let level = flow.on_hand + flow.held == 0 || (flow.deleted && flow.on_hand == 0 && flow.held < 0);
        balance.check(level, || {
            format!(
                "event {cause} moved {} on hand and {} held of inventory {inventory}",
                flow.on_hand, flow.held
            )
        });
    }
    for (id, shelf) in &shelves {
        if let Some(on_hand) = shelf.on_hand {
            balance.check(shelf.put_in == on_hand + shelf.held, || {
                format!("inventory {id}: {} put in, {on_hand} on hand, {} held", shelf.put_in, shelf.held)
            });
        }
    }
    orders_hold(books, &mut held);
    [balance, negative, held]
}

fn stock<'a>(
    entry: &'a Entry,
    shelves: &mut BTreeMap<&'a str, Shelf>,
    flows: &mut BTreeMap<(&'a str, String), Flow>,
    negative: &mut Line,
) {
    let Some(amount) = entry.entity()["amount"].as_i64() else {
        negative.check(false, || format!("{} {} has no amount", entry.stream, entry.id));
        return;
    };
    negative.check(amount >= 0, || format!("inventory {} has {amount} at {}", entry.entity_id, entry.id));
    let shelf = shelves.entry(&entry.entity_id).or_default();
    let before = shelf.on_hand.unwrap_or(0);
    match (&entry.causation, entry.action()) {
        (Some(cause), _) => {
            flows.entry((cause, entry.entity_id.clone())).or_default().on_hand += amount - before;
            shelf.on_hand = Some(amount);
        }
        (None, "deleted") => {
            shelf.put_in -= before;
            shelf.on_hand = None;
        }
        (None, _) => {
            shelf.put_in += amount - before;
            shelf.on_hand = Some(amount);
        }
    }
}

/// The pieces of a reservation, summed up by this field of its lines. The next schema calls them otherwise.
pub(super) fn reserved(reservation: &Entry, by: &str) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    let lines = if reservation.schema == 1 { "lines" } else { "held" };
    for line in reservation.entity()[lines].as_array().into_iter().flatten() {
        let key = line[by].as_str().unwrap_or_default().to_owned();
        *sums.entry(key).or_default() += line["amount"].as_i64().unwrap_or(i64::MIN / 4);
    }
    sums
}

/// The pieces that an order asks for, by product.
pub(super) fn wanted(product_ids: &Value) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for product in product_ids.as_array().into_iter().flatten().filter_map(Value::as_str) {
        *sums.entry(product.to_owned()).or_default() += 1;
    }
    sums
}

fn orders_hold(books: &Books, line: &mut Line) {
    let of = books.by_entity();
    for ((kind, id), entries) in &of {
        if *kind != "order" {
            continue;
        }
        let Some(last) = entries.last() else { continue };
        let state = last.entity();
        let reservation = of.get(&("reservation", *id)).and_then(|entries| entries.last());
        let holds = reservation.map(|r| reserved(r, "product_id")).unwrap_or_default();
        let counts = last.action() != "deleted" && state["status"] == "confirmed";
        let wants = if counts { wanted(&state["product_ids"]) } else { BTreeMap::new() };
        line.check(holds == wants, || {
            format!("order {id} ({}) wants {wants:?} and holds {holds:?}", state["status"])
        });
    }
}
