//! The commands, each in a file of its own.

mod dead;
mod doctor;
mod groups;
mod log;
mod pending;
mod streams;
mod tail;

use crate::args::{Args, Command};
use crate::exit::{Done, Failure};
use crate::output::Out;
use event_store::{EventStore, StreamName};

pub(crate) async fn run(args: Args, out: &mut Out) -> Result<Done, Failure> {
    let server = &args.server;
    match args.command {
        Command::Streams { bytes } => streams::run(server, bytes, out).await,
        Command::Groups { group } => groups::run(server, group.as_deref(), out).await,
        Command::Pending(which) => pending::run(server, &which, out).await,
        Command::Tail(tail) => tail::run(server, tail, out).await,
        Command::Entity { id, kind, full } => log::entity(server, &id, kind.as_deref(), full, out).await,
        Command::Dead(dead) => dead::run(server, dead, out).await,
        Command::Doctor => doctor::run(server, out).await,
    }
}

/// The streams that a group reads.
async fn streams_of(store: &EventStore, group: &str) -> Result<Vec<StreamName>, Failure> {
    let streams = store.streams().await?;
    let found = store.inspect().groups(&streams).await?.into_iter().find(|g| g.group == group);
    let Some(found) = found else { return Err(no_group(group)) };
    Ok(found.streams.into_iter().map(|s| s.stream).collect())
}

fn no_group(group: &str) -> Failure {
    Failure::NotFound(format!("no stream is read by a group {group:?}; `eventstore groups` lists them"))
}
