//! `eventstore groups [GROUP]`.

use crate::args::Server;
use crate::connect;
use crate::exit::{Done, Failure};
use crate::output::{Column, Out, any, known};
use crate::when::span;
use event_store::inspect::{ConsumerInfo, Group, Inspector};
use event_store::{EventStore, StreamName};
use serde::Serialize;

/// A consumer and the stream on which it is one.
#[derive(Serialize)]
struct Member {
    stream: StreamName,
    #[serde(flatten)]
    consumer: ConsumerInfo,
}

/// A group with its consumers, for programs.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    group: &'a Group,
    members: &'a [Member],
}

pub(super) async fn run(server: &Server, name: Option<&str>, out: &mut Out) -> Result<Done, Failure> {
    let store = connect::look(server).await?;
    let groups = groups(&store).await?;
    let Some(name) = name else {
        if out.json {
            out.value(&groups)?;
        } else {
            table(&groups, out)?;
        }
        return Ok(Done::Fine);
    };
    let Some(group) = groups.iter().find(|g| g.group == name) else {
        return Err(super::no_group(name, &groups));
    };
    let members = members(&store.inspect(), group).await?;
    if out.json {
        out.value(&[Whole { group, members: &members }])?;
        return Ok(Done::Fine);
    }
    table(std::slice::from_ref(group), out)?;
    out.line("")?;
    let columns = [
        Column::Text("STREAM"),
        Column::Text("CONSUMER"),
        Column::Number("PENDING"),
        Column::Number("IDLE"),
        Column::Number("INACTIVE"),
    ];
    let row = |m: &Member| {
        let c = &m.consumer;
        vec![
            m.stream.to_string(),
            c.consumer.clone(),
            c.pending.to_string(),
            span(c.idle_ms),
            known(c.inactive_ms.map(span)),
        ]
    };
    out.table(&columns, members.iter().map(row).collect())?;
    Ok(Done::Fine)
}

async fn groups(store: &EventStore) -> Result<Vec<Group>, Failure> {
    Ok(store.inspect().groups(&store.streams().await?).await?)
}

async fn members(inspector: &Inspector, group: &Group) -> Result<Vec<Member>, Failure> {
    let mut members = Vec::new();
    for stream in group.streams.iter().map(|s| &s.stream) {
        let consumers = inspector.consumers(stream, &group.group).await?;
        members.extend(consumers.into_iter().map(|consumer| Member { stream: stream.clone(), consumer }));
    }
    Ok(members)
}

/// A row per group and stream; what is parked belongs to the group and stands in its first row.
fn table(groups: &[Group], out: &mut Out) -> Result<(), Failure> {
    let columns = [
        Column::Text("GROUP"),
        Column::Number("PARKED"),
        Column::Text("STREAM"),
        Column::Number("CONSUMERS"),
        Column::Number("PENDING"),
        Column::Number("LAG"),
        Column::Number("QUIET"),
        Column::Number("UNREAD"),
        Column::Text("DELIVERED"),
        Column::Text("CURSOR"),
    ];
    let rows = groups.iter().flat_map(|g| {
        g.streams.iter().enumerate().map(|(i, s)| {
            let (name, parked) =
                if i == 0 { (g.group.clone(), g.parked.to_string()) } else { (String::new(), String::new()) };
            vec![
                name,
                parked,
                s.stream.to_string(),
                s.consumers.to_string(),
                s.pending.to_string(),
                known(s.lag),
                any(s.quiet_ms.map(span)),
                any(s.unread_ms.map(span)),
                s.last_delivered.to_string(),
                any(s.cursor),
            ]
        })
    });
    Ok(out.table(&columns, rows.collect())?)
}
