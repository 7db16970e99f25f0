//! `eventstore trim`.

use super::ask;
use crate::args::{Server, Trim};
use crate::connect;
use crate::exit::{Done, Failure};
use crate::output::{Column, Out, any};
use crate::when::span;
use event_store::{HeldBy, Holder, Preview, StreamPreview, Trimmed, Unread};
use serde_json::{Value, json};

pub(super) async fn run(server: &Server, args: &Trim, out: &mut Out) -> Result<Done, Failure> {
    let store = connect::change(server).await?;
    let mut streams = store.streams().await?;
    streams.retain(|s| args.stream.is_empty() || args.stream.contains(s));
    if streams.is_empty() && !args.stream.is_empty() {
        return Err(Failure::NotFound("there is no such stream in the log".to_owned()));
    }
    let mut retention =
        store.retention(streams).unread(if args.unread { Unread::Trim } else { Unread::Keep });
    if let Some(before) = args.before {
        retention = retention.before(before);
    }
    let preview = retention.preview().await.map_err(failed)?;
    let removes: u64 = preview.streams.iter().map(|s| s.removes).sum();
    if !out.json {
        table(&preview, out)?;
        out.line(format!("{removes} entries can go"))?;
    }
    let seen: Vec<Value> = preview.streams.iter().map(view).collect();
    let question = format!("Remove {removes} entries for good?");
    let mut trimmed = None;
    if !args.dry_run && removes > 0 && (args.yes || ask(&question)?) {
        trimmed = Some(preview.execute().await.map_err(failed)?);
    }
    if out.json {
        let done = trimmed
            .as_ref()
            .map(|t: &Trimmed| json!({ "removed": t.removed, "kept": t.kept, "swept": t.swept }));
        out.value(&json!({ "dry_run": args.dry_run, "streams": seen, "trimmed": done }))?;
    } else if let Some(t) = trimmed {
        out.line(format!(
            "{} entries removed; {} of them kept as the last states of their entities",
            t.removed, t.kept
        ))?;
    }
    Ok(Done::Fine)
}

fn failed(e: impl std::fmt::Display) -> Failure {
    Failure::Failed(e.to_string())
}

fn table(preview: &Preview, out: &mut Out) -> Result<(), Failure> {
    let columns = [
        Column::Text("STREAM"),
        Column::Number("REMOVES"),
        Column::Text("FIRST"),
        Column::Text("KEEPS FROM"),
        Column::Text("HELD BY"),
    ];
    let row = |s: &StreamPreview| {
        vec![
            s.stream.to_string(),
            s.removes.to_string(),
            any(s.first),
            s.keeps_from.to_string(),
            any(s.holders.first().map(held_by)),
        ]
    };
    Ok(out.table(&columns, preview.streams.iter().map(row).collect())?)
}

fn view(s: &StreamPreview) -> Value {
    let holders: Vec<Value> =
        s.holders.iter().map(|h| json!({ "needs_from": h.needs_from, "by": held_by(h) })).collect();
    json!({
        "stream": s.stream, "first": s.first, "keeps_from": s.keeps_from, "removes": s.removes, "holders": holders,
    })
}

fn held_by(holder: &Holder) -> String {
    match &holder.by {
        HeldBy::Undelivered { group } => format!("group {group} (not delivered)"),
        HeldBy::Pending { group } => format!("group {group} (pending)"),
        HeldBy::DeadLetter { group } => format!("group {group} (dead letter)"),
        HeldBy::LostGroup { group } => format!("group {group} (lost, goes on at its cursor)"),
        HeldBy::Projection { name, version } => format!("projection {name} v{version}"),
        HeldBy::Position { name, idle_ms } => {
            format!("position {name} (moved {} ago; eventstore positions)", span(*idle_ms))
        }
        HeldBy::Unread => "nobody reads it (--unread trims it)".to_owned(),
        HeldBy::Asked => "--before".to_owned(),
        HeldBy::LastEntry => "the last entry stays always".to_owned(),
        other => format!("{other:?}"),
    }
}
