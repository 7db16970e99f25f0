//! `eventstore dead list|show|replay`.

use crate::args::{Dead, Replay, Server, Which};
use crate::exit::{Done, Failure};
use crate::output::{Column, Out, plain, remark};
use crate::{connect, view, when};
use event_store::{DeadLetter, DeadLetters, EventStore, Id, Layout};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

/// So many letters are given back in one step on the server; one that is killed in between has given
/// back the earlier ones.
const STEP: usize = 200;
/// As many as there are: what the server takes for a count.
const EVERY: usize = usize::MAX >> 1;

pub(super) async fn run(server: &Server, dead: Dead, out: &mut Out) -> Result<Done, Failure> {
    match dead {
        Dead::List { group, limit } => list(server, &group, limit, out).await,
        Dead::Show { group, letter } => show(server, &group, letter, out).await,
        Dead::Replay(args) => replay(server, &args, out).await,
    }
}

/// A group's dead letters: together in the plain layout, apart by family in the tagged one.
async fn boxes(store: &EventStore, server: &Server, group: &str) -> Result<Vec<DeadLetters>, Failure> {
    let streams = super::streams_of(store, group).await?;
    let families: BTreeSet<&str> = match Layout::from(server.layout) {
        Layout::Plain => [""].into(),
        _ => streams.iter().map(event_store::StreamName::family).collect(),
    };
    Ok(families.into_iter().map(|family| store.dead_letters(group, family)).collect())
}

async fn letters(boxes: &[DeadLetters], limit: usize) -> Result<Vec<DeadLetter>, Failure> {
    let mut letters = Vec::new();
    for letter_box in boxes {
        letters.extend(letter_box.list(limit).await?);
    }
    letters.sort_by_key(|l| l.letter);
    letters.truncate(limit);
    Ok(letters)
}

async fn list(server: &Server, group: &str, limit: usize, out: &mut Out) -> Result<Done, Failure> {
    let store = connect::look(server).await?;
    let boxes = boxes(&store, server, group).await?;
    let letters = letters(&boxes, limit).await?;
    if out.json {
        out.value(&letters.iter().map(view::letter).collect::<Vec<_>>())?;
        return Ok(Done::Fine);
    }
    let columns = [
        Column::Text("LETTER"),
        Column::Text("STREAM"),
        Column::Text("ENTRY"),
        Column::Number("ATTEMPTS"),
        Column::Text("LAST FAILURE"),
        Column::Text("KEYS"),
        Column::Text("REASON"),
    ];
    let row = |l: &DeadLetter| {
        vec![
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
    let mut count = 0;
    for letter_box in &boxes {
        count += letter_box.count().await?;
    }
    if count > letters.len() as u64 {
        remark(&format!("{count} in all; --limit {count} shows them"));
    }
    Ok(Done::Fine)
}

async fn show(server: &Server, group: &str, letter: Id, out: &mut Out) -> Result<Done, Failure> {
    let store = connect::look(server).await?;
    let all = letters(&boxes(&store, server, group).await?, EVERY).await?;
    let Some(found) = all.iter().find(|l| l.letter == letter) else {
        return Err(Failure::NotFound(format!("the group {group:?} has no dead letter {letter}")));
    };
    if out.json {
        out.value(&view::whole_letter(found))?;
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

/// The letters that are meant, in the order of their events.
fn chosen(letters: Vec<DeadLetter>, which: &Which) -> Vec<DeadLetter> {
    let mut chosen: Vec<DeadLetter> = letters
        .into_iter()
        .filter(|l| {
            which.all
                || which.letter.contains(&l.letter)
                || which.key.as_ref().is_some_and(|k| l.keys.contains(k))
        })
        .collect();
    chosen.sort_by_key(|l| l.id);
    chosen
}

async fn replay(server: &Server, args: &Replay, out: &mut Out) -> Result<Done, Failure> {
    let store = if args.dry_run { connect::look(server).await? } else { connect::change(server).await? };
    let boxes = boxes(&store, server, &args.group).await?;
    let mut meant = Vec::new();
    for letter_box in boxes {
        let letters = chosen(letter_box.list(EVERY).await?, &args.which);
        meant.push((letter_box, letters));
    }
    let count: usize = meant.iter().map(|(_, letters)| letters.len()).sum();
    if count == 0 && !args.which.all {
        return Err(Failure::NotFound(format!("the group {:?} has no such dead letter", args.group)));
    }
    let mut given_back = 0;
    if !args.dry_run && count > 0 && (args.yes || confirmed(count, &args.group)?) {
        for (letter_box, letters) in &meant {
            for step in letters.chunks(STEP) {
                given_back += letter_box.replay(step).await?;
            }
        }
    }
    if out.json {
        out.value(
            &json!({ "group": args.group, "found": count, "replayed": given_back, "dry_run": args.dry_run }),
        )?;
    } else if args.dry_run {
        out.line(format!("{count} would be given back to {}", args.group))?;
    } else {
        out.line(format!("{given_back} of {count} given back to {}", args.group))?;
    }
    Ok(Done::Fine)
}

/// Asks the person at the terminal; without one there is nobody to ask.
fn confirmed(count: usize, group: &str) -> Result<bool, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::Usage(format!(
            "{count} dead letters would be given back to {group:?}: say --yes, or --dry-run to see only"
        )));
    }
    let mut stderr = io::stderr();
    write!(stderr, "Give {count} dead letters back to {}? [y/N] ", plain(group))?;
    stderr.flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
