//! `eventstore accept`: a person lets a group go on that a log which went back in time has halted.

use super::ask;
use crate::args::{Accept, Server};
use crate::connect;
use crate::exit::{Done, Failure};
use crate::output::{Column, Out};
use event_store::{Accepted, StreamName};
use serde_json::json;

pub(super) async fn run(server: &Server, args: &Accept, out: &mut Out) -> Result<Done, Failure> {
    let store = connect::change(server).await?;
    // Every stream is asked about, in one family at a time: a group that is lost too is on no list.
    let mut streams = store.streams().await?;
    streams.sort();
    let question = format!(
        "Let {} go on at the end of the log as it is? Events that were lost are not handled.",
        args.group
    );
    if !args.yes && !ask(&question)? {
        return Ok(Done::Fine);
    }
    let mut accepted: Vec<Accepted> = Vec::new();
    for family in streams.chunk_by(|a, b| a.family() == b.family()) {
        let family: &[StreamName] = family;
        accepted.extend(store.accept_log(&args.group, family).await?);
    }
    if accepted.is_empty() {
        return Err(Failure::NotFound(format!("nothing has halted a group {:?}", args.group)));
    }
    if out.json {
        let one = |a: &Accepted| json!({ "stream": a.stream.to_string(), "last": a.last.to_string(), "positions": a.positions });
        out.value(&accepted.iter().map(one).collect::<Vec<_>>())?;
        return Ok(Done::Fine);
    }
    let columns =
        [Column::Text("STREAM"), Column::Text("GOES ON AFTER"), Column::Number("POSITIONS MOVED BACK")];
    let row = |a: &Accepted| vec![a.stream.to_string(), a.last.to_string(), a.positions.to_string()];
    out.table(&columns, accepted.iter().map(row).collect())?;
    Ok(Done::Fine)
}
