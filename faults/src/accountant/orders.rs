//! Decisions: none is confirmed without a full reservation, none rejected that could have been served, and none
//! left open.

use super::Line;
use super::stock::{reserved, wanted};
use crate::books::{Books, Entry};
use event_store::Id;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

pub(super) fn lines(books: &Books) -> [Line; 3] {
    let mut confirmed =
        Line::new("no order is confirmed without a full reservation, and each decision is inventory's");
    let mut open = Line::new("at rest, every order is decided");
    let mut reservations: HashMap<&str, &Entry> = HashMap::new();
    for entry in &books.events {
        match entry.kind.as_str() {
            "reservation" => {
                reservations.insert(&entry.entity_id, entry);
            }
            "order" => decision(entry, reservations.get(entry.entity_id.as_str()).copied(), &mut confirmed),
            _ => {}
        }
    }
    for ((kind, id), entries) in books.by_entity() {
        if let (true, Some(last)) = (kind == "order", entries.last()) {
            let pending = last.entity()["status"] == "pending" && last.action() != "deleted";
            open.check(!pending, || format!("order {id} has been pending since {}", last.id));
        }
    }
    [confirmed, rejected(books), open]
}

fn decision(entry: &Entry, reservation: Option<&Entry>, line: &mut Line) {
    let order = entry.entity();
    let decided = match order["change"].as_str() {
        Some("confirmed") => "reserved",
        Some("rejected") => "rejected",
        _ => return,
    };
    let why =
        |what: &str| format!("order {} is {} at {}: {what}", entry.entity_id, order["change"], entry.id);
    let Some(reservation) = reservation else {
        return line.check(false, || why("inventory has decided nothing before"));
    };
    let basis = reservation.entity();
    let same = reservation.action() == decided && basis["revision"] == order["revision"];
    line.check(same, || {
        why(&format!("inventory said {} of revision {}", reservation.action(), basis["revision"]))
    });
    if decided == "reserved" {
        let (holds, wants) = (reserved(reservation, "product_id"), wanted(&order["product_ids"]));
        line.check(holds == wants, || why(&format!("it wants {wants:?} and holds {holds:?}")));
    }
}

/// Pieces on hand of each product over time.
#[derive(Default)]
struct Shelves<'a> {
    now: HashMap<&'a str, (String, i64)>,
    /// Per product: from this event on, so many.
    past: HashMap<String, Vec<(Id, i64)>>,
}

impl<'a> Shelves<'a> {
    fn take(&mut self, entry: &'a Entry) {
        let state = entry.entity();
        let product = state["product_id"].as_str().unwrap_or_default().to_owned();
        if entry.action() == "deleted" {
            self.now.remove(entry.entity_id.as_str());
        } else {
            self.now.insert(&entry.entity_id, (product.clone(), state["amount"].as_i64().unwrap_or(0)));
        }
        let sum = self.now.values().filter(|(of, _)| *of == product).map(|(_, amount)| amount).sum();
        self.past.entry(product).or_default().push((entry.id, sum));
    }

    /// The least that was on hand from a moment until now.
    fn least(&self, product: &str, from: Id) -> i64 {
        let Some(past) = self.past.get(product) else { return 0 };
        let before = past.iter().rev().find(|(id, _)| *id <= from).map_or(0, |(_, amount)| *amount);
        past.iter().filter(|(id, _)| *id > from).map(|(_, amount)| *amount).fold(before, i64::min)
    }
}

/// A rejection is right when something was short at some moment between the question and the answer: inventory
/// looked at one of them.
fn rejected(books: &Books) -> Line {
    let mut line = Line::new("no order is rejected that could have been served when it was decided");
    let by_event: HashMap<&str, &Entry> = books.events.iter().map(|e| (e.event_id.as_str(), e)).collect();
    let mut shelves = Shelves::default();
    let mut holds: HashMap<&str, BTreeMap<String, i64>> = HashMap::new();
    for entry in &books.events {
        match entry.kind.as_str() {
            "inventory" => shelves.take(entry),
            "reservation" => {
                if entry.action() == "rejected"
                    && let Some(question) = entry.causation.as_deref().and_then(|id| by_event.get(id))
                {
                    let short = is_short(question, &shelves, &holds);
                    line.check(short, || {
                        format!(
                            "order {} was rejected at {}, and nothing was short since {}",
                            entry.entity_id, entry.id, question.id
                        )
                    });
                }
                holds.insert(&entry.entity_id, reserved(entry, "product_id"));
            }
            _ => {}
        }
    }
    line
}

fn is_short(question: &Entry, shelves: &Shelves<'_>, holds: &HashMap<&str, BTreeMap<String, i64>>) -> bool {
    let order = question.entity();
    let members: Vec<(&str, &Value)> = match order["batch"]["orders"].as_array() {
        Some(orders) if !orders.is_empty() => {
            orders.iter().map(|o| (o["id"].as_str().unwrap_or_default(), &o["product_ids"])).collect()
        }
        _ => vec![(question.entity_id.as_str(), &order["product_ids"])],
    };
    let mut wants: BTreeMap<String, i64> = BTreeMap::new();
    for (id, product_ids) in members {
        for (product, amount) in wanted(product_ids) {
            let held = holds.get(id).and_then(|held| held.get(&product)).copied().unwrap_or(0);
            *wants.entry(product).or_default() += (amount - held).max(0);
        }
    }
    wants.iter().any(|(product, amount)| shelves.least(product, question.id) < *amount)
}
