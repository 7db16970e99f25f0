//! Which command does what. What the event store can do is its command's business: here it only gets the way.

use crate::args::{Args, Command, Dead};
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::{hibernate, redis, report, restart, status};
use event_store_cli::args::{Command as StoreCommand, Dead as StoreDead};
use event_store_cli::exit::Done;
use event_store_cli::output::Out;

/// Runs the command.
pub(crate) async fn run(args: Args, out: &mut Out) -> Result<Done, Failure> {
    let cluster = Cluster::open(&args.which).await?;
    let shop = cluster.shop(args.which.shop.as_deref()).await?;
    let on_store = match args.command {
        Command::Status => return status::run(&cluster, &shop, out).await,
        Command::Restart { service } => return restart::run(&cluster, &shop, service, out).await,
        Command::Hibernate { off } => return hibernate::run(&cluster, &shop, off, out).await,
        Command::Report(args) => return report::run(&cluster, &shop, args, out).await,
        Command::Events(tail) => StoreCommand::Tail(tail),
        Command::Dead(dead) => StoreCommand::Dead(dead_letters(dead)),
        Command::Replay(replay) => StoreCommand::Dead(StoreDead::Replay(replay)),
        Command::Store(command) => command,
    };
    let way = redis::open(&cluster, &shop).await?;
    Ok(event_store_cli::run(&way.server, on_store, out).await?)
}

fn dead_letters(dead: Dead) -> StoreDead {
    match dead {
        Dead { group: Some(group), letter: Some(letter), .. } => StoreDead::Show { group, letter },
        Dead { group, limit, .. } => StoreDead::List { group, limit },
    }
}
