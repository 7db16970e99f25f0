//! Decisions about a kind's settings: what a program that uses the kind may expect, and what it adds. Sends nothing.

use crate::Kind;
use crate::error::ReadError;
use crate::name::kept_list;
use serde::{Deserialize, Serialize};

/// How a kind is kept, as the server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    pub(crate) kind: Kind,
    /// Indexes that do not hold every entity yet.
    pub(crate) building: Vec<String>,
}

/// The same, as it is kept.
#[derive(Deserialize, Serialize)]
struct Text {
    family: String,
    #[serde(default)]
    lists: Vec<String>,
    #[serde(default)]
    indexes: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    building: Vec<String>,
}

impl Registered {
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, ReadError> {
        let text: Text = serde_json::from_str(text)
            .map_err(|e| ReadError::malformed(format!("the settings of kind {name}: {e}")))?;
        let kind = Kind::try_within(&text.family, name)
            .and_then(|kind| kind.try_lists(&text.lists)?.try_indexes(&text.indexes))
            .map_err(|e| ReadError::malformed(format!("the settings of kind {name}: {e}")))?;
        Ok(Self { kind, building: text.building })
    }

    pub(crate) fn text(&self) -> String {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let text = Text {
            family: self.kind.family.to_owned(),
            lists: owned(self.kind.lists),
            indexes: owned(self.kind.indexes),
            building: self.building.clone(),
        };
        serde_json::to_string(&text).unwrap_or_default()
    }

    /// Can a program that declares the kind so use it as it is kept?
    pub(crate) fn suits(&self, declared: Kind) -> bool {
        self.kind.family == declared.family
            && same(self.kind.lists, declared.lists)
            && declared.indexes.iter().all(|index| self.kind.indexes.contains(index))
    }
}

/// What is to become of a kind that a program declares so.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It stays as it is.
    Keep,
    /// To be written: while the kind has no entities, and while it has some, which new indexes do not hold yet.
    Write { empty: Registered, filled: Registered },
    /// The program may not use it, for this reason.
    Refuse(String),
}

pub(super) fn decide(registered: Option<&Registered>, declared: Kind) -> Decision {
    let Some(registered) = registered else {
        // What a store of before there were settings has, its programs have kept so.
        let new = Registered { kind: declared, building: Vec::new() };
        return Decision::Write { empty: new.clone(), filled: new };
    };
    if registered.suits(declared) {
        return Decision::Keep;
    }
    let Kind { family, name, lists, .. } = registered.kind;
    if family != declared.family {
        return Decision::Refuse(format!(
            "kind {name} belongs to the streams of {family}, this program says {}",
            declared.family
        ));
    }
    if !same(lists, declared.lists) {
        return Decision::Refuse(format!(
            "the store keeps of kind {name} the lists {lists:?}, this program declares {:?}: change the program, or the \
             store with `eventstore settings kind {name} --lists`",
            declared.lists
        ));
    }
    let new: Vec<&'static str> =
        declared.indexes.iter().filter(|index| !registered.kind.indexes.contains(index)).copied().collect();
    let indexes: Vec<String> = registered.kind.indexes.iter().chain(&new).map(ToString::to_string).collect();
    let kind = registered.kind.indexes(kept_list(&indexes));
    let mut building = registered.building.clone();
    building.extend(new.iter().map(ToString::to_string));
    Decision::Write {
        empty: Registered { kind, building: registered.building.clone() },
        filled: Registered { kind, building },
    }
}

/// Those that only one of the two has.
pub(super) fn indexes_that_differ(a: &[&'static str], b: &[&'static str]) -> Vec<&'static str> {
    let only = |these: &[&'static str], those: &[&str]| -> Vec<&'static str> {
        these.iter().filter(|name| !those.contains(name)).copied().collect()
    };
    [only(a, b), only(b, a)].concat()
}

fn same(a: &[&str], b: &[&str]) -> bool {
    a.len() == b.len() && a.iter().all(|name| b.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: Kind = Kind::new("order").lists(&["products"]).indexes(&["customer"]);

    fn registered(kind: Kind) -> Registered {
        Registered { kind, building: Vec::new() }
    }

    #[test]
    fn a_kind_is_read_as_it_was_written() {
        let whole = Registered { building: vec!["customer".into()], ..registered(ORDER) };
        assert_eq!(Registered::parse("order", &whole.text()).unwrap(), whole);
        assert!(Registered::parse("order", "[]").is_err());
        for (name, text) in [
            ("an_order", r#"{"family":"order"}"#),
            ("order", r#"{"family":"a:b"}"#),
            ("order", r#"{"family":"order","lists":["entity"]}"#),
            ("order", r#"{"family":"order","indexes":["a b"]}"#),
        ] {
            assert!(Registered::parse(name, text).is_err(), "{name} {text}");
        }
    }

    #[test]
    fn whoever_is_first_settles_a_kind_and_one_that_declares_no_more_uses_it_as_it_is() {
        let first = decide(None, ORDER);
        assert_eq!(first, Decision::Write { empty: registered(ORDER), filled: registered(ORDER) });
        for older in [ORDER, Kind::new("order").lists(&["products"])] {
            assert_eq!(decide(Some(&registered(ORDER)), older), Decision::Keep);
        }
    }

    #[test]
    fn a_further_index_is_added_and_built_where_there_are_entities() {
        let newer = ORDER.indexes(&["status", "customer"]);
        let Decision::Write { empty, filled } = decide(Some(&registered(ORDER)), newer) else {
            panic!("it is added")
        };
        assert_eq!(empty, registered(ORDER.indexes(&["customer", "status"])));
        assert_eq!(filled.building, ["status"]);
        let unfinished = Registered { building: vec!["customer".into()], ..registered(ORDER) };
        let Decision::Write { filled, .. } = decide(Some(&unfinished), newer) else { panic!("it is added") };
        assert_eq!(filled.building, ["customer", "status"]);
    }

    #[test]
    fn other_lists_and_another_family_are_refused_with_both_named() {
        for (other, names) in [
            (Kind::new("order").lists(&["lines"]), ["products", "lines"]),
            (Kind::within("sale", "order").lists(&["products"]), ["order", "sale"]),
        ] {
            let Decision::Refuse(why) = decide(Some(&registered(ORDER)), other) else {
                panic!("it is refused")
            };
            assert!(names.iter().all(|name| why.contains(name)), "{why}");
        }
    }
}
