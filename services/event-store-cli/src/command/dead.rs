//! `eventstore dead list|show|replay`.

use super::ask;
use crate::args::{Dead, Replay, Server, Which};
use crate::exit::{Done, Failure};
use crate::output::{Column, Out, remark};
use crate::{connect, view, when};
use event_store::{DeadLetter, DeadLetters, EventStore, GivenBack, Id, Layout, NameOf, Select, StreamName};
use serde_json::json;
use std::collections::BTreeSet;

pub(super) async fn run(server: &Server, dead: Dead, out: &mut Out) -> Result<Done, Failure> {
    match dead {
        Dead::List { group, limit } => list(server, group.as_deref(), limit, out).await,
        Dead::Show { group, letter } => show(server, &group, letter, out).await,
        Dead::Replay(args) => replay(server, &args, out).await,
    }
}

/// A group's dead letters: together in the plain layout, apart by family in the tagged one.
async fn boxes(store: &EventStore, group: &str) -> Result<Vec<DeadLetters>, Failure> {
    Ok(boxes_of(store, group, &super::streams_of(store, group).await?))
}

fn boxes_of(store: &EventStore, group: &str, streams: &[StreamName]) -> Vec<DeadLetters> {
    let families: BTreeSet<&str> = match store.layout() {
        Layout::Plain => [""].into(),
        _ => streams.iter().map(StreamName::family).collect(),
    };
    families.into_iter().map(|family| store.dead_letters(group, family)).collect()
}

/// The boxes of one group, or of all of them, each with its group's name.
async fn boxes_by_group(
    store: &EventStore,
    group: Option<&str>,
) -> Result<Vec<(String, DeadLetters)>, Failure> {
    if let Some(group) = group {
        let boxes = boxes(store, group).await?;
        return Ok(boxes.into_iter().map(|letter_box| (group.to_owned(), letter_box)).collect());
    }
    let mut all = Vec::new();
    let groups = store.inspect().groups(&store.streams().await?).await?;
    // A group of another program may be called otherwise; it has no dead letters.
    for found in groups.into_iter().filter(|found| NameOf::Group.check(&found.group).is_ok()) {
        let streams: Vec<StreamName> = found.streams.into_iter().map(|s| s.stream).collect();
        let boxes = boxes_of(store, &found.group, &streams);
        all.extend(boxes.into_iter().map(|letter_box| (found.group.clone(), letter_box)));
    }
    Ok(all)
}

async fn list(server: &Server, group: Option<&str>, limit: usize, out: &mut Out) -> Result<Done, Failure> {
    let store = connect::look(server).await?;
    let boxes = boxes_by_group(&store, group).await?;
    let (mut letters, mut count) = (Vec::new(), 0);
    for (group, letter_box) in &boxes {
        count += letter_box.count().await?;
        let page = letter_box.list(Id::ZERO, limit).await?;
        letters.extend(page.into_iter().map(|letter| (group.as_str(), letter)));
    }
    letters.sort_by_key(|(_, l)| l.letter);
    letters.truncate(limit);
    if out.json {
        out.value(&letters.iter().map(|(group, letter)| view::letter(group, letter)).collect::<Vec<_>>())?;
        return Ok(Done::Fine);
    }
    let columns = [
        Column::Text("GROUP"),
        Column::Text("LETTER"),
        Column::Text("STREAM"),
        Column::Text("ENTRY"),
        Column::Number("ATTEMPTS"),
        Column::Text("LAST FAILURE"),
        Column::Text("KEYS"),
        Column::Text("REASON"),
    ];
    let row = |(group, l): &(&str, DeadLetter)| {
        vec![
            (*group).to_owned(),
            l.letter.to_string(),
            l.stream.to_string(),
            l.id.to_string(),
            l.attempts.to_string(),
            when::time(l.last_failure),
            l.keys.join(" "),
            l.reason.clone(),
        ]
    };
    out.table(&columns, letters.iter().map(row).collect())?;
    if count > letters.len() as u64 {
        remark(&format!("{count} in all; --limit {count} shows them"));
    }
    Ok(Done::Fine)
}

async fn show(server: &Server, group: &str, letter: Id, out: &mut Out) -> Result<Done, Failure> {
    let store = connect::look(server).await?;
    let mut found = None;
    for letter_box in boxes(&store, group).await? {
        found = found.or(letter_box.get(letter).await?);
    }
    let Some(found) = found else {
        return Err(Failure::NotFound(format!("the group {group:?} has no dead letter {letter}")));
    };
    if out.json {
        out.value(&view::whole_letter(group, &found))?;
        return Ok(Done::Fine);
    }
    for (name, value) in [
        ("letter", found.letter.to_string()),
        ("stream", found.stream.to_string()),
        ("entry", found.id.to_string()),
        ("reason", found.reason.clone()),
        ("attempts", found.attempts.to_string()),
        ("first failure", when::time(found.first_failure)),
        ("last failure", when::time(found.last_failure)),
        ("keys", found.keys.join(" ")),
    ] {
        out.line(format!("{name:<14}{value}"))?;
    }
    out.line("fields")?;
    for (name, value) in &found.raw {
        let value = match std::str::from_utf8(value) {
            Ok(text) => text.to_owned(),
            Err(_) => format!("{} bytes that are no text: {}", value.len(), value.escape_ascii()),
        };
        out.line(format!("  {:<16}{value}", String::from_utf8_lossy(name)))?;
    }
    Ok(Done::Fine)
}

fn select(which: &Which) -> Select {
    match &which.key {
        Some(key) => Select::Key(key.clone()),
        None if which.all => Select::All,
        None => Select::Letters(which.letter.clone()),
    }
}

fn sum(parts: &[GivenBack]) -> GivenBack {
    let mut sum = GivenBack::default();
    for part in parts {
        sum.moved += part.moved;
        sum.behind += part.behind;
        sum.lost += part.lost;
    }
    sum
}

async fn replay(server: &Server, args: &Replay, out: &mut Out) -> Result<Done, Failure> {
    let store = connect::change(server).await?;
    let boxes = boxes(&store, &args.group).await?;
    let select = select(&args.which);
    let mut parts = Vec::new();
    for letter_box in &boxes {
        parts.push(letter_box.preview(&select).await?);
    }
    let meant = sum(&parts);
    if meant == GivenBack::default() && !args.which.all {
        return Err(Failure::NotFound(format!("the group {:?} has no such dead letter", args.group)));
    }
    let question = format!("Give {} dead letters back to {}?", meant.moved, args.group);
    let go = !args.dry_run && meant.moved > 0 && (args.yes || ask(&question)?);
    parts.clear();
    if go {
        for letter_box in &boxes {
            parts.push(letter_box.replay(&select).await?);
        }
    }
    let given = sum(&parts);
    let left = if go { given } else { meant };
    if out.json {
        out.value(&json!({
            "group": args.group, "dry_run": args.dry_run, "found": meant.moved, "replayed": given.moved,
            "behind": left.behind, "lost": left.lost,
        }))?;
        return Ok(Done::Fine);
    }
    if args.dry_run {
        out.line(format!("{} would be given back to {}", meant.moved, args.group))?;
    } else {
        out.line(format!("{} of {} given back to {}", given.moved, meant.moved, args.group))?;
    }
    if left.behind > 0 {
        out.line(format!(
            "{} stay: an earlier event of theirs is a dead letter too, which was not chosen",
            left.behind
        ))?;
    }
    if left.lost > 0 {
        out.line(format!("{} stay: the log has their entries no more", left.lost))?;
    }
    Ok(Done::Fine)
}
