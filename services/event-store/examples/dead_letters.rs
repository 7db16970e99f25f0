//! A dead-letter tool for one group: what was parked and why, one of them in full, and giving them
//! back to the group in order. The command-line program `eventstore` does this and more; this shows
//! how little it takes.

use clap::{Parser, Subcommand};
use event_store::{Config, DeadLetter, EventStore, Id, Select};

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
    match args.command {
        Command::List => {
            println!("{} parked by {}", dead.count().await?, args.group);
            let mut after = Id::ZERO;
            while let page = dead.list(after, 100).await?
                && let Some(last) = page.last()
            {
                for l in &page {
                    println!("{} {} {}: {}", l.letter, l.stream, l.keys.join(" "), l.reason);
                }
                after = last.letter;
            }
        }
        Command::Show { letter } => match dead.get(letter).await? {
            Some(letter) => show(&letter),
            None => return Err(format!("there is no dead letter {letter}").into()),
        },
        Command::Replay { letters, yes } => {
            let chosen = if letters.is_empty() { Select::All } else { Select::Letters(letters) };
            if yes {
                println!("{} given back to {}", dead.replay(&chosen).await?.moved, args.group);
            } else {
                let would = dead.preview(&chosen).await?.moved;
                println!("would give {would} back to {}; --yes does it", args.group);
            }
        }
    }
    Ok(())
}
