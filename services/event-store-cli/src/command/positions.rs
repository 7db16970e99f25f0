//! `eventstore positions [list|remove]`.

use super::ask;
use crate::args::{Positions, RemovePosition, Server};
use crate::connect;
use crate::exit::{Done, Failure};
use crate::output::{Column, Out, any};
use crate::when::span;
use event_store::{EventStore, PositionState};
use serde_json::json;

pub(super) async fn run(server: &Server, command: Option<Positions>, out: &mut Out) -> Result<Done, Failure> {
    match command {
        None => list(server, None, out).await,
        Some(Positions::List { name }) => list(server, name.as_deref(), out).await,
        Some(Positions::Remove(args)) => remove(server, &args, out).await,
    }
}

async fn list(server: &Server, name: Option<&str>, out: &mut Out) -> Result<Done, Failure> {
    let store = connect::look(server).await?;
    let found = match name {
        Some(name) => vec![named(&store, name).await?],
        None => store.positions().await?,
    };
    if out.json {
        out.value(&found)?;
    } else {
        table(&found, out)?;
    }
    Ok(Done::Fine)
}

async fn remove(server: &Server, args: &RemovePosition, out: &mut Out) -> Result<Done, Failure> {
    let store = connect::change(server).await?;
    let mut seen = named(&store, &args.name).await?;
    if let Some(stream) = args.stream.iter().find(|s| !seen.streams.iter().any(|at| at.stream == **s)) {
        return Err(Failure::NotFound(format!("the position {:?} is not registered on {stream}", args.name)));
    }
    seen.streams.retain(|at| args.stream.is_empty() || args.stream.contains(&at.stream));
    if !out.json {
        table(std::slice::from_ref(&seen), out)?;
    }
    let question = format!(
        "Remove the position {} from {} streams? A trim then keeps nothing for its reader.",
        args.name,
        seen.streams.len()
    );
    let removes = !args.dry_run && (args.yes || ask(&question)?);
    if removes {
        store.remove_position(&seen).await?;
    }
    if out.json {
        out.value(&json!({ "dry_run": args.dry_run, "position": seen, "removed": removes }))?;
    } else if removes {
        out.line(format!("{} removed from {} streams", args.name, seen.streams.len()))?;
    } else if args.dry_run {
        out.line(format!("{} would be removed from {} streams", args.name, seen.streams.len()))?;
    }
    Ok(Done::Fine)
}

async fn named(store: &EventStore, name: &str) -> Result<PositionState, Failure> {
    let mut all = store.positions().await?;
    if let Some(at) = all.iter().position(|p| p.name == name) {
        return Ok(all.swap_remove(at));
    }
    let names: Vec<&str> = all.iter().map(|p| p.name.as_str()).collect();
    let names = if names.is_empty() { "there is none at all".to_owned() } else { names.join(", ") };
    Err(Failure::NotFound(format!("no position {name:?} is registered; the positions: {names}")))
}

/// A row per position and stream.
fn table(positions: &[PositionState], out: &mut Out) -> Result<(), Failure> {
    let columns = [
        Column::Text("NAME"),
        Column::Text("STREAM"),
        Column::Text("POSITION"),
        Column::Text("OLDEST KEPT"),
        Column::Number("BEHIND"),
        Column::Number("MOVED"),
    ];
    let rows = positions.iter().flat_map(|p| {
        p.streams.iter().enumerate().map(|(i, at)| {
            vec![
                if i == 0 { p.name.clone() } else { String::new() },
                at.stream.to_string(),
                at.position.to_string(),
                any(at.next),
                any(at.behind_ms.map(span)),
                format!("{} ago", span(at.idle_ms)),
            ]
        })
    });
    Ok(out.table(&columns, rows.collect())?)
}
