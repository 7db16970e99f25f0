//! `eventstore verify`.

use crate::args::{Server, Verify};
use crate::connect;
use crate::exit::{Done, Failure};
use crate::output::{Column, Out, remark};
use event_store::{Difference, Verified, What};
use serde_json::{Value, json};

pub(super) async fn run(server: &Server, args: &Verify, out: &mut Out) -> Result<Done, Failure> {
    let failed = |e: event_store::VerifyError| Failure::Failed(e.to_string());
    let store = if args.rebuild { connect::change(server).await? } else { connect::look(server).await? };
    let streams = store.streams().await?;
    let kinds = &args.kinds.kind;
    let (verified, rebuilt) = if args.rebuild {
        let rebuilt = store.rebuild(kinds, &streams).await.map_err(failed)?;
        (rebuilt.after, Some(rebuilt.rebuilt))
    } else {
        (store.verify(kinds, &streams).await.map_err(failed)?, None)
    };
    if !verified.unknown_kinds.is_empty() {
        let names: Vec<&str> = verified.unknown_kinds.iter().map(String::as_str).collect();
        remark(&format!(
            "the store does not know how entities of these kinds are kept, so only their versions and order were compared: \
             {}; name them with --kind as the programs declare them",
            names.join(", ")
        ));
    }
    if out.json {
        out.value(&view(&verified, rebuilt))?;
    } else {
        print(&verified, rebuilt, out)?;
    }
    Ok(if verified.differences.is_empty() { Done::Fine } else { Done::Wrong })
}

fn print(verified: &Verified, rebuilt: Option<u64>, out: &mut Out) -> Result<(), Failure> {
    if !verified.differences.is_empty() {
        let row = |d: &Difference| vec![d.key.clone(), said(&d.what)];
        let rows = verified.differences.iter().map(row).collect();
        out.table(&[Column::Text("ENTITY"), Column::Text("DIFFERS")], rows)?;
    }
    if let Some(rebuilt) = rebuilt {
        out.line(format!("{rebuilt} entities written anew from the log"))?;
    }
    let found = verified.differences.len();
    out.line(format!("{} events, {} entities, {found} differences", verified.events, verified.entities))?;
    if verified.unsettled > 0 {
        out.line(format!(
            "{} entities were appended to all the time and could not be compared",
            verified.unsettled
        ))?;
    }
    Ok(())
}

fn view(verified: &Verified, rebuilt: Option<u64>) -> Value {
    let differences: Vec<Value> =
        verified.differences.iter().map(|d| json!({ "key": d.key, "differs": said(&d.what) })).collect();
    json!({
        "events": verified.events, "entities": verified.entities, "unsettled": verified.unsettled,
        "rebuilt": rebuilt, "differences": differences, "unknown_kinds": verified.unknown_kinds,
    })
}

fn said(what: &What) -> String {
    match what {
        What::Version { log, cache } => format!("version: {log} in the log, {cache} in the cache"),
        What::Last => "last event, or whether it is deleted".to_owned(),
        What::Order => "order: the events before".to_owned(),
        What::Listed(true) => "ids: listed and should not be".to_owned(),
        What::Listed(false) => "ids: not listed".to_owned(),
        What::Field(field) => format!("field {field}"),
        What::List(field) => format!("list {field}"),
        What::Index(field) => format!("index {field}"),
        other => format!("{other:?}"),
    }
}
