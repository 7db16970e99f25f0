//! `eventstore pending GROUP`.

use crate::args::{Pending, Server};
use crate::exit::{Done, Failure};
use crate::output::{Column, Out, remark};
use crate::{connect, when};
use event_store::StreamName;
use event_store::inspect::PendingEntry;
use serde::Serialize;

/// An entry in hand and its stream.
#[derive(Serialize)]
struct Held {
    stream: StreamName,
    #[serde(flatten)]
    entry: PendingEntry,
}

pub(super) async fn run(server: &Server, which: &Pending, out: &mut Out) -> Result<Done, Failure> {
    let store = connect::look(server).await?;
    let mut streams = super::streams_of(&store, &which.group).await?;
    if let Some(stream) = &which.stream {
        streams.retain(|s| s == stream);
        if streams.is_empty() {
            return Err(Failure::NotFound(format!("the group {:?} does not read {stream}", which.group)));
        }
    }
    // Ids order entries across streams, so a page of each holds the page of all.
    let mut held = Vec::new();
    let inspector = store.inspect();
    for stream in streams {
        let consumer = which.consumer.as_deref();
        let page = inspector.pending(&stream, &which.group, consumer, which.after, which.limit).await?;
        held.extend(page.into_iter().map(|entry| Held { stream: stream.clone(), entry }));
    }
    held.sort_by_key(|h| h.entry.id);
    let more = held.len() > which.limit;
    held.truncate(which.limit);
    if out.json {
        out.value(&held)?;
    } else {
        let columns = [
            Column::Text("STREAM"),
            Column::Text("ID"),
            Column::Text("TIME"),
            Column::Text("CONSUMER"),
            Column::Number("IDLE"),
            Column::Number("DELIVERIES"),
        ];
        let row = |h: &Held| {
            vec![
                h.stream.to_string(),
                h.entry.id.to_string(),
                when::time(h.entry.id.ms),
                h.entry.consumer.clone(),
                when::span(h.entry.idle_ms),
                h.entry.deliveries.to_string(),
            ]
        };
        out.table(&columns, held.iter().map(row).collect())?;
    }
    if let (true, Some(last)) = (more || held.len() == which.limit, held.last()) {
        remark(&format!("there may be more: --after {}", last.entry.id));
    }
    Ok(Done::Fine)
}
