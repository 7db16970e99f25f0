//! Judges what the user may not do. Pure; tested beside the other checks.

use super::Severity;
use super::checks::Findings;
use super::facts::Facts;
use super::rights::{Denied, Keys};
use crate::Layout;

pub(super) fn check(f: &mut Findings<'_>, facts: &Facts, layout: Layout) {
    let user = facts.user.as_deref().unwrap_or("<user>");
    let Some(denied) = &facts.denied else {
        f.add(Severity::Info, "rights", "the rights of the user are unknown: MULTI is denied", "");
        return;
    };
    let commands: Vec<&str> = denied
        .iter()
        .filter_map(|d| if let Denied::Command(name) = d { Some(name.as_str()) } else { None })
        .collect();
    if !commands.is_empty() {
        f.add(
            Severity::Refuse,
            "rights",
            format!("user {user} may not {}", commands.join(", ").replace('|', " ")),
            format!("ACL SETUSER {user} +{}", commands.join(" +")),
        );
    }
    for keys in denied.iter().filter_map(|d| if let Denied::Keys(keys) = d { Some(*keys) } else { None }) {
        key_rights(f, user, keys, layout);
    }
    for answer in
        denied.iter().filter_map(|d| if let Denied::Writes(answer) = d { Some(answer) } else { None })
    {
        // A replica is refused by its role.
        if !answer.starts_with("READONLY") {
            f.add(Severity::Warn, "writes", format!("the server refuses writes now: {answer}"), "");
        }
    }
}

/// A pattern that is narrower than the store may be right: it may name each family.
fn key_rights(f: &mut Findings<'_>, user: &str, keys: Keys, layout: Layout) {
    let pattern = match (keys, layout) {
        (Keys::Stream, _) => "events:*",
        (Keys::Own, _) => "eventstore:*",
        (Keys::Cache, Layout::Plain) => "*_*",
        (Keys::Cache, Layout::Tagged) => "{*}*",
    };
    if keys == Keys::Own && layout.is_plain() {
        f.add(
            Severity::Refuse,
            "keys",
            format!("user {user} may not use keys {pattern}, where the store keeps its clock"),
            format!("ACL SETUSER {user} ~{pattern}"),
        );
    } else {
        f.add(
            Severity::Warn,
            "keys",
            format!("user {user} may not use all keys {pattern}"),
            format!("ACL SETUSER {user} ~{pattern}, unless its patterns name each family"),
        );
    }
}
