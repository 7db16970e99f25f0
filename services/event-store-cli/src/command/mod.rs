//! The commands, each in a file of its own.

mod accept;
mod dead;
mod doctor;
mod groups;
mod log;
mod pending;
mod positions;
mod settings;
mod streams;
mod tail;
mod transfer;
mod trim;
mod verify;

use crate::args::{Command, Server};
use crate::exit::{Done, Failure};
use crate::output::{Out, plain};
use event_store::inspect::Group;
use event_store::{EventStore, StreamName};
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

/// Runs a command on a store.
pub async fn run(server: &Server, command: Command, out: &mut Out) -> Result<Done, Failure> {
    match command {
        Command::Streams { bytes } => streams::run(server, bytes, out).await,
        Command::Groups { group } => groups::run(server, group.as_deref(), out).await,
        Command::Pending(which) => pending::run(server, &which, out).await,
        Command::Tail(tail) => tail::run(server, tail, out).await,
        Command::Entity { id, kind, full } => log::entity(server, &id, kind.as_deref(), full, out).await,
        Command::Dead(dead) => dead::run(server, dead, out).await,
        Command::Positions { command } => positions::run(server, command, out).await,
        Command::Accept(args) => accept::run(server, &args, out).await,
        Command::Trim(args) => trim::run(server, &args, out).await,
        Command::Export { file } => transfer::export(server, &file, out).await,
        Command::Import(args) => transfer::import(server, &args, out).await,
        Command::Verify(args) => verify::run(server, &args, out).await,
        Command::Settings { change } => settings::run(server, change.as_ref(), out).await,
        Command::Doctor => doctor::run(server, out).await,
    }
}

/// The streams that a group reads.
async fn streams_of(store: &EventStore, group: &str) -> Result<Vec<StreamName>, Failure> {
    let streams = store.streams().await?;
    let mut groups = store.inspect().groups(&streams).await?;
    match groups.iter().position(|g| g.group == group) {
        Some(at) => Ok(groups.swap_remove(at).streams.into_iter().map(|s| s.stream).collect()),
        None => Err(no_group(group, &groups)),
    }
}

fn no_group(group: &str, there_are: &[Group]) -> Failure {
    let names: Vec<&str> = there_are.iter().map(|g| g.group.as_str()).collect();
    let names = if names.is_empty() { "there is none at all".to_owned() } else { names.join(", ") };
    Failure::NotFound(format!("no stream is read by a group {group:?}; the groups: {names}"))
}

/// Asks the person at the terminal; without one there is nobody to ask.
fn ask(question: &str) -> Result<bool, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::Usage(format!("{question} Nobody is there to answer: say --yes")));
    }
    let mut stderr = io::stderr();
    write!(stderr, "{} [y/N] ", plain(question))?;
    stderr.flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
