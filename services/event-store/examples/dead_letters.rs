//! A dead-letter tool for one group: what was parked and why, one of them in full, and giving them
//! back to the group in order. The command-line program `eventstore` does this and more; this shows
//! how little it takes.

use clap::{Parser, Subcommand};
use event_store::{Config, DeadLetter, EventStore, Id};

#[derive(Parser)]
struct Args {
    /// Where Redis is.
    #[arg(long, env = "REDIS_URL", default_value = "redis://127.0.0.1:6379")]
    url: String,
    /// The group that parked them.
    #[arg(long)]
    group: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// All of them, one a line.
    List,
    /// One of them in full.
    Show {
        /// Its number in the list.
        letter: Id,
    },
    /// Gives them back to the group: these, or all. Without --yes it only counts.
    Replay {
        /// Numbers in the list.
        letters: Vec<Id>,
        /// Really do it.
        #[arg(long)]
        yes: bool,
    },
}

fn show(letter: &DeadLetter) {
    println!("{} of {}: {} (tried {} times)", letter.id, letter.stream, letter.reason, letter.attempts);
    for (name, value) in &letter.raw {
        println!("  {} = {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value));
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let store = EventStore::connect(Config::new(args.url)).await?;
    let dead = store.dead_letters(&args.group, "account");
    let all = dead.list(10_000).await?;
    match args.command {
        Command::List => {
            println!("{} parked by {}", all.len(), args.group);
            for letter in &all {
                println!("{} {} {}: {}", letter.letter, letter.stream, letter.keys.join(" "), letter.reason);
            }
        }
        Command::Show { letter } => match all.iter().find(|l| l.letter == letter) {
            Some(letter) => show(letter),
            None => return Err(format!("there is no dead letter {letter}").into()),
        },
        Command::Replay { letters, yes } => {
            let chosen: Vec<_> =
                all.into_iter().filter(|l| letters.is_empty() || letters.contains(&l.letter)).collect();
            if yes {
                println!("{} given back to {}", dead.replay(&chosen).await?, args.group);
            } else {
                println!("would give {} back to {}; --yes does it", chosen.len(), args.group);
            }
        }
    }
    Ok(())
}
