//! What an event changes in the read model: a function of the event alone, so that any replica,
//! at any time, writes the same. Talks to nothing.
//!
//! ```text
//! order        hash          id → the entity's JSON, as lists and reads show it
//! order:ids    sorted set    ids in order of creation
//! billed       hash          billing's id → its order's id
//! ```
//! and likewise for the other entities.

use event_store::{Event, Id, Write};
use serde_json::Value;

/// Raise it whenever [`writes`] writes something else: the projection is then built anew, under
/// other keys.
pub(crate) const VERSION: u32 = 1;

/// The hash of an order's id by each billing's.
pub(crate) const BILLED: &str = "billed";

/// What is listed. Its name is the entity's type in the log and the hash's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Customers,
    Products,
    Inventory,
    Orders,
    Billings,
}

impl Section {
    pub(crate) const ALL: [Self; 5] =
        [Self::Customers, Self::Products, Self::Inventory, Self::Orders, Self::Billings];

    /// The hash of the entities.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Customers => "customer",
            Self::Products => "product",
            Self::Inventory => "inventory",
            Self::Orders => "order",
            Self::Billings => "billing",
        }
    }

    /// The sorted set of their ids.
    pub(crate) fn ids(self) -> String {
        format!("{}:ids", self.key())
    }

    fn of(entity_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|section| section.key() == entity_type)
    }
}

/// What of an event matters here.
#[derive(Clone, Copy, Debug)]
struct Fact<'a> {
    at: Id,
    entity_type: &'a str,
    action: &'a str,
    id: &'a str,
    entity: &'a Value,
}

/// What an event changes.
pub(crate) fn writes(event: &Event) -> Vec<Write> {
    of(Fact {
        at: event.id,
        entity_type: &event.entity_type,
        action: event.action(),
        id: &event.entity_id,
        entity: &event.entity,
    })
}

fn of(fact: Fact<'_>) -> Vec<Write> {
    let Some(section) = Section::of(fact.entity_type) else { return Vec::new() };
    let member = fact.id.to_owned();
    let place = match fact.action {
        "created" => Some(Write::SortedAdd { key: section.ids(), member, score: score(fact.at) }),
        "deleted" => Some(Write::SortedRemove { key: section.ids(), member }),
        _ => None,
    };
    // A rejected order keeps its place, in case it is placed again, but is not shown.
    let rejected = section == Section::Orders && fact.entity["status"] == "rejected";
    let shown = match fact.action {
        "created" | "updated" if !rejected => vec![set(section.key(), fact.id, fact.entity.to_string())],
        "created" | "updated" | "deleted" => vec![unset(section.key(), fact.id)],
        _ => Vec::new(),
    };
    let billed = match (section, fact.action, fact.entity["order_id"].as_str()) {
        (Section::Billings, "deleted", _) => Some(unset(BILLED, fact.id)),
        (Section::Billings, "created" | "updated", Some(order)) => {
            Some(set(BILLED, fact.id, order.to_owned()))
        }
        _ => None,
    };
    place.into_iter().chain(shown).chain(billed).collect()
}

fn set(key: &str, field: &str, value: String) -> Write {
    Write::HashSet { key: key.to_owned(), field: field.to_owned(), value }
}

fn unset(key: &str, field: &str) -> Write {
    Write::HashDelete { key: key.to_owned(), field: field.to_owned() }
}

/// 2020-01-01, in milliseconds.
const EPOCH: u64 = 1_577_836_800_000;
/// Sequences within a millisecond that are told apart. The store issues microseconds, below 1,000.
const SEQUENCES: u64 = 4096;

/// A score that sorts as ids do: a whole number below 2^53, thus exact, until the year 2089. Ids of other programs
/// beyond its resolution share a score; the order of those is still the same at every reading.
#[expect(clippy::cast_precision_loss, reason = "below 2^53")]
fn score(id: Id) -> f64 {
    id.ms.saturating_sub(EPOCH).saturating_mul(SEQUENCES).saturating_add(id.seq.min(SEQUENCES - 1)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const AT: Id = Id::new(EPOCH + 1, 2);

    fn after(entity_type: &str, action: &str, entity: &Value) -> Vec<Write> {
        of(Fact { at: AT, entity_type, action, id: "x", entity })
    }

    fn place(key: &str) -> Write {
        Write::SortedAdd { key: key.to_owned(), member: "x".to_owned(), score: 4098.0 }
    }

    fn no_place(key: &str) -> Write {
        Write::SortedRemove { key: key.to_owned(), member: "x".to_owned() }
    }

    #[test]
    fn an_entity_gets_its_place_when_created_and_keeps_it_until_deleted() {
        let entity = json!({"id": "x"});
        let shown = |key: &str| set(key, "x", entity.to_string());
        for (key, ids) in [
            ("customer", "customer:ids"),
            ("product", "product:ids"),
            ("inventory", "inventory:ids"),
            ("order", "order:ids"),
        ] {
            assert_eq!(after(key, "created", &entity), [place(ids), shown(key)]);
            assert_eq!(after(key, "updated", &entity), [shown(key)]);
            assert_eq!(after(key, "deleted", &entity), [no_place(ids), unset(key, "x")]);
        }
    }

    #[test]
    fn a_rejected_order_is_hidden_and_any_other_is_shown() {
        for (status, shown) in [("pending", true), ("confirmed", true), ("rejected", false)] {
            let entity = json!({"status": status});
            let expected = if shown { set("order", "x", entity.to_string()) } else { unset("order", "x") };
            assert_eq!(after("order", "updated", &entity), [expected], "{status}");
        }
        let customer = json!({"status": "rejected"});
        assert_eq!(after("customer", "updated", &customer), [set("customer", "x", customer.to_string())]);
    }

    #[test]
    fn a_billing_is_remembered_under_the_order_that_it_names_last() {
        let entity = json!({"order_id": "o"});
        let shown = set("billing", "x", entity.to_string());
        let billed = set(BILLED, "x", "o".to_owned());
        assert_eq!(
            after("billing", "created", &entity),
            [place("billing:ids"), shown.clone(), billed.clone()]
        );
        assert_eq!(after("billing", "updated", &entity), [shown, billed]);
        let gone = [no_place("billing:ids"), unset("billing", "x"), unset(BILLED, "x")];
        assert_eq!(after("billing", "deleted", &entity), gone);
    }

    #[test]
    fn what_is_not_listed_changes_nothing() {
        for (entity_type, action) in [("reservation", "reserved"), ("mail", "sent"), ("order", "archived")] {
            assert_eq!(after(entity_type, action, &json!({})), [], "{entity_type} {action}");
        }
    }

    #[test]
    fn scores_sort_as_ids_do_and_lose_nothing_until_2089() {
        let in_2088 = 3_723_000_000_000;
        let ids = [
            (0, 0),
            (EPOCH, 1),
            (EPOCH, 999),
            (EPOCH + 1, 0),
            (in_2088, 998),
            (in_2088, 999),
            (in_2088 + 1, 0),
        ];
        let scores: Vec<f64> = ids.iter().map(|&(ms, seq)| score(Id::new(ms, seq))).collect();
        assert!(scores.windows(2).all(|pair| pair[0] < pair[1]), "{scores:?}");
        assert!(score(Id::new(in_2088, u64::MAX)) < score(Id::new(in_2088 + 1, 0)));
        assert!(score(Id::MAX).is_finite());
    }
}
