//! Mails: one for everything that asks for one, none besides, to the outside once, and in the order of what
//! happened to that customer. (Between the two services that ask for mails there is no order: see docs.)

use super::Line;
use crate::books::{Books, Entry, Received};
use crate::history::{Done, History};
use crate::schedule::Fault;
use event_store::Id;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The domain of the Message-IDs: that of the sender's address by default.
const DOMAIN: &str = "example.com";
/// The mail server's clock and the history's may differ by so much.
const SLACK: f64 = 1.0;

/// A mail that is due: because of which event, of which kind.
type Due<'a> = (&'a str, &'static str);

pub(super) fn lines(history: &History, books: &Books) -> [Line; 4] {
    let due = due(books);
    let requests: Vec<(&Entry, Value)> = books
        .events
        .iter()
        .filter(|entry| entry.stream == "mail_requested")
        .map(|entry| (entry, entry.entity()))
        .collect();
    [
        requested(&due, &requests),
        settled(books, &requests),
        outside(history, books, &requests),
        in_order(books, &due, &requests),
    ]
}

/// What is due, with the event's place and the address.
fn due(books: &Books) -> BTreeMap<Due<'_>, (Id, String)> {
    let mut due = BTreeMap::new();
    let mut confirmed = BTreeSet::new();
    for entry in &books.events {
        let state = entry.entity();
        let kinds: &[&'static str] = match entry.stream.as_str() {
            "customer_created" => &["welcome"],
            "customer_deleted" => &["goodbye"],
            "billing_created" => &["receipt"],
            "order_updated" if state["change"] == "confirmed" && confirmed.insert(&entry.entity_id) => {
                &["thank_you", "transfer"]
            }
            _ => &[],
        };
        let customer = if entry.kind == "customer" { &state } else { &state["customer"] };
        let to = customer["email"].as_str().unwrap_or_default();
        for kind in kinds {
            due.insert((entry.event_id.as_str(), *kind), (entry.id, to.to_owned()));
        }
    }
    due
}

fn text<'a>(state: &'a Value, field: &str) -> &'a str {
    state[field].as_str().unwrap_or_default()
}

fn requested(due: &BTreeMap<Due<'_>, (Id, String)>, requests: &[(&Entry, Value)]) -> Line {
    let mut line = Line::new(
        "every confirmed order, customer, deletion and billing asks for its mails once, and nothing else does",
    );
    let mut found: HashMap<(&str, &str), Vec<&Value>> = HashMap::new();
    for (entry, state) in requests {
        let cause = entry.causation.as_deref().unwrap_or_default();
        found.entry((cause, text(state, "kind"))).or_default().push(state);
    }
    for ((cause, kind), (id, to)) in due {
        let asked = found.remove(&(*cause, *kind)).unwrap_or_default();
        line.check(asked.len() == 1, || format!("event {id} asked for {} {kind} mails", asked.len()));
        for state in asked {
            line.check(text(state, "to") == to, || {
                format!("the {kind} mail of {id} goes to {}", state["to"])
            });
        }
    }
    for (cause, kind) in found.into_keys() {
        line.check(false, || {
            format!("a {kind} mail was asked for by event {cause}, which does not ask for it")
        });
    }
    line
}

/// Addresses that the mail server refuses.
fn is_refused(address: &str) -> bool {
    address.starts_with("refused@")
}

fn settled(books: &Books, requests: &[(&Entry, Value)]) -> Line {
    let mut line =
        Line::new("every mail that was asked for is sent once, or failed because its address is refused");
    let mut ends: HashMap<&str, Vec<&str>> = HashMap::new();
    for entry in books.events.iter().filter(|e| e.stream == "mail_sent" || e.stream == "mail_failed") {
        ends.entry(&entry.entity_id).or_default().push(entry.action());
    }
    for (entry, state) in requests {
        let end = ends.remove(entry.entity_id.as_str()).unwrap_or_default();
        let wanted = if is_refused(text(state, "to")) { "failed" } else { "sent" };
        line.check(end == [wanted], || {
            format!("mail {} ({} to {}) ended as {end:?}", entry.entity_id, state["kind"], state["to"])
        });
    }
    for id in ends.into_keys() {
        line.check(false, || format!("mail {id} was sent, and nobody asked for it"));
    }
    line
}

fn outside(history: &History, books: &Books, requests: &[(&Entry, Value)]) -> Line {
    let mut line = Line::new(
        "the outside received every sent mail once; twice only around a kill between SMTP and acknowledgement, with the same Message-ID",
    );
    let mut copies: HashMap<&str, Vec<&Received>> = HashMap::new();
    for mail in &books.mails {
        copies.entry(mail.id.as_str()).or_default().push(mail);
    }
    for (entry, state) in requests {
        let id = format!("<{}@{DOMAIN}>", entry.entity_id);
        let received = copies.remove(id.as_str()).unwrap_or_default();
        let what = || format!("mail {id} ({} to {})", state["kind"], state["to"]);
        let wanted = usize::from(!is_refused(text(state, "to")));
        line.check(received.len() >= wanted && (wanted == 1 || received.is_empty()), || {
            format!("{} arrived {} times", what(), received.len())
        });
        for mail in &received {
            let body = mail.body.replace("\r\n", "\n");
            let same = mail.to == [text(state, "to")]
                && mail.subject == text(state, "subject")
                && body.trim_end() == text(state, "body").trim_end();
            line.check(same, || format!("{} arrived as another one: {mail:?}", what()));
        }
        for pair in received.windows(2) {
            line.check(explained(history, pair[0].at, pair[1].at), || {
                format!(
                    "{} arrived twice, at {} and {}, with no kill between",
                    what(),
                    pair[0].at,
                    pair[1].at
                )
            });
        }
    }
    for id in copies.into_keys() {
        line.check(false, || format!("mail {id} arrived, and nobody asked for it"));
    }
    line
}

/// Was something killed between these two moments (Unix seconds) that can have cut off an acknowledgement?
#[expect(clippy::cast_precision_loss, reason = "microseconds of a run")]
fn explained(history: &History, first: f64, second: f64) -> bool {
    let at = |micros: u64| history.unix + micros as f64 / 1e6;
    let cuts = |done: &&Done| match &done.fault {
        Fault::Kill { service, .. } => service == "notification",
        Fault::Backlog { of, .. } => of.services().contains(&"notification"),
        Fault::KillAll | Fault::MailDown { .. } => true,
        Fault::GroupDestroyed { group } => group == "notification",
        Fault::OnCluster(fault) => fault.ends_mailer(),
        _ => false,
    };
    let between = |done: &Done| first <= at(done.end) + SLACK && at(done.begin) <= second + SLACK;
    history.faults.iter().filter(cuts).any(between)
}

fn in_order(books: &Books, due: &BTreeMap<Due<'_>, (Id, String)>, requests: &[(&Entry, Value)]) -> Line {
    let mut line = Line::new("a customer's mails of one service arrive in the order of what happened");
    let asked: HashMap<String, (&Entry, &Value)> = requests
        .iter()
        .map(|(entry, state)| (format!("<{}@{DOMAIN}>", entry.entity_id), (*entry, state)))
        .collect();
    let mut last: HashMap<(&str, bool), Id> = HashMap::new();
    let mut seen = BTreeSet::new();
    for mail in &books.mails {
        let Some((entry, state)) = asked.get(&mail.id) else { continue };
        let kind = text(state, "kind");
        let cause = entry.causation.as_deref().unwrap_or_default();
        let found = due.iter().find(|((event, of), _)| *event == cause && *of == kind);
        let Some((_, (id, _))) = found else { continue };
        if !seen.insert(mail.id.as_str()) {
            continue;
        }
        let of_billing = matches!(kind, "transfer" | "receipt");
        let before = last.insert((text(state, "customer_id"), of_billing), *id);
        line.check(before.is_none_or(|before| before <= *id), || {
            format!(
                "the {kind} mail of event {id} to customer {} came after that of {before:?}",
                state["customer_id"]
            )
        });
    }
    line
}
