//! The command line. Each struct is a part of it that another program's command line can take in.

use crate::exit::CODES;
use crate::{kinds, when};
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use event_store::{Id, Kind, Layout, StreamName};
use std::path::PathBuf;
use std::time::Duration;

/// Look at an event store on Redis Streams, and mend it.
#[derive(Debug, Parser)]
#[command(name = "eventstore", version, after_help = CODES, max_term_width = 100)]
pub struct Args {
    /// Which store
    #[command(flatten)]
    pub server: Server,
    /// Print JSON for programs instead of tables for people
    #[arg(long, global = true, help_heading = "Store and output")]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// Which store.
#[derive(Debug, ClapArgs)]
pub struct Server {
    /// The server: `redis://[user:password@]host:port[/db]`; several nodes of a Redis Cluster with commas
    #[arg(
        long,
        global = true,
        help_heading = "Store and output",
        env = "EVENTSTORE_URL",
        hide_env_values = true,
        value_delimiter = ',',
        default_value = "redis://127.0.0.1:6379",
        value_name = "URL"
    )]
    pub url: Vec<String>,
    /// The URLs are those of sentinels, which watch the store's master under this name
    #[arg(
        long,
        global = true,
        help_heading = "Store and output",
        env = "EVENTSTORE_SENTINEL",
        value_name = "NAME"
    )]
    pub sentinel: Option<String>,
    /// How the store's keys are named, for a store that does not say it itself
    #[arg(long, global = true, help_heading = "Store and output", env = "EVENTSTORE_LAYOUT", value_enum)]
    pub layout: Option<LayoutName>,
}

impl Server {
    /// A standalone server.
    #[must_use]
    pub fn standalone(url: String) -> Self {
        Self { url: vec![url], sentinel: None, layout: None }
    }
}

/// How the store's keys are named.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LayoutName {
    /// Names as they are; one server.
    Plain,
    /// What belongs to one family shares a slot of Redis Cluster.
    Tagged,
}

impl From<LayoutName> for Layout {
    fn from(name: LayoutName) -> Self {
        match name {
            LayoutName::Plain => Self::Plain,
            LayoutName::Tagged => Self::Tagged,
        }
    }
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The streams of the log
    #[command(after_help = "Example:\n  eventstore streams --bytes")]
    Streams {
        /// Estimate their memory on the server too
        #[arg(long)]
        bytes: bool,
    },
    /// The groups that read the log, how far they are and what they have parked
    #[command(after_help = "Example:\n  eventstore groups\n  eventstore groups audit")]
    Groups {
        /// This group only, with its consumers
        group: Option<String>,
    },
    /// The entries that a group has in hand: delivered and not finished
    #[command(
        after_help = "Example:\n  eventstore pending audit\n  eventstore pending audit --stream account_opened --limit 20"
    )]
    Pending(Pending),
    /// The last events, and those that come
    #[command(
        after_help = "Example:\n  eventstore tail -n 20\n  eventstore tail --action opened --action closed --since 10m\n  eventstore tail --follow --entity 42"
    )]
    Tail(Tail),
    /// The whole history of an entity, of a deleted one too
    #[command(after_help = "Example:\n  eventstore entity 42\n  eventstore entity 42 --kind account --json")]
    Entity {
        /// The entity's id
        id: String,
        /// Its kind, where entities of several kinds have this id
        #[arg(long)]
        kind: Option<String>,
        /// Whole states, not only their beginnings
        #[arg(long)]
        full: bool,
    },
    /// What groups have parked, and giving it back to them
    #[command(subcommand)]
    Dead(Dead),
    /// Let a group go on that halted because the log went back in time
    #[command(
        after_help = "A restored backup, or a replica that became the master without the last events, leaves a group\nahead of its log: it halts, is not ready and says so. Find out what the world outside was told of\nthe events that are lost; then the group goes on with those that are appended from now on.\n\nExample:\n  eventstore accept audit"
    )]
    Accept(Accept),
    /// Positions that readers outside the store have registered, and removing one that is no longer used
    #[command(
        after_help = "Example:\n  eventstore positions\n  eventstore positions remove sqlite-balances --dry-run"
    )]
    Positions {
        /// What to do with them; without it they are listed
        #[command(subcommand)]
        command: Option<Positions>,
    },
    /// Remove the beginning of the log that nobody needs any more
    #[command(
        after_help = "Says what can go and who holds back the rest, and asks before it removes anything. The last\nstate of each entity is kept.\n\nExample:\n  eventstore trim --dry-run\n  eventstore trim --before 30d --dry-run"
    )]
    Trim(Trim),
    /// Write the whole log to a file, as NDJSON with a checksum
    #[command(after_help = "Example:\n  eventstore export accounts.ndjson")]
    Export {
        /// The file, which must not be there yet
        file: PathBuf,
    },
    /// Read the file of an export into a store; what is there already is passed over
    #[command(
        after_help = "The kinds are those that the programs declare which append, or that the store knows already:\ntheir lists and indexes are written anew. A file that was cut or altered is refused before anything is written.\n\nExample:\n  eventstore import accounts.ndjson --kind account --kind note --dry-run\n  eventstore import accounts.ndjson --kind account --kind note"
    )]
    Import(Import),
    /// Compare what the store keeps of each entity with the log
    #[command(
        after_help = "The kinds are those that programs have used, with the lists and indexes that the store keeps of them.\nOne that no program has used since the store knows kinds is named with --kind.\n\nExample:\n  eventstore verify\n  eventstore verify --rebuild"
    )]
    Verify(Verify),
    /// What all programs of the store must have in common, and changing it while they run
    #[command(
        after_help = "Example:\n  eventstore settings\n  eventstore settings dedup-window 2h --yes\n  eventstore settings kind account --lists tags --yes"
    )]
    Settings {
        /// What to change; nothing: show all
        #[command(subcommand)]
        change: Option<Settings>,
    },
    /// What is wrong with this server for this use, and what to change
    #[command(after_help = "Example:\n  eventstore doctor")]
    Doctor,
}

/// Which pending entries.
#[derive(Debug, ClapArgs)]
pub struct Pending {
    /// The group
    pub group: String,
    /// Entries of this stream only
    #[arg(long, value_parser = stream)]
    pub stream: Option<StreamName>,
    /// Entries of this consumer only
    #[arg(long)]
    pub consumer: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 100, value_parser = at_least_one)]
    pub limit: usize,
    /// Those after this id: the next page
    #[arg(long, default_value = "0-0")]
    pub after: Id,
}

/// Which events.
#[derive(Debug, ClapArgs)]
pub struct Tail {
    /// Events of these streams only
    #[arg(long, value_parser = stream, value_name = "STREAM")]
    pub stream: Vec<StreamName>,
    /// Events with these actions only
    #[arg(long, value_name = "ACTION")]
    pub action: Vec<String>,
    /// Events of entities of this kind only
    #[arg(long)]
    pub kind: Option<String>,
    /// Events of the entity with this id only
    #[arg(long, value_name = "ID")]
    pub entity: Option<String>,
    /// Events from there on: an id, a time (2026-11-22T20:00:00Z), or a span before now (90s, 10m, 2h, 7d)
    #[arg(long, value_parser = when::since)]
    pub since: Option<Id>,
    /// The last so many; default 10, or all with --since
    #[arg(short = 'n', long, value_parser = at_least_one)]
    pub number: Option<usize>,
    /// Go on with the events that come, until Ctrl-C; streams that begin later are found within seconds
    #[arg(short, long)]
    pub follow: bool,
    /// Whole states, not only their beginnings
    #[arg(long)]
    pub full: bool,
}

/// Looking at dead letters, and giving them back.
#[derive(Debug, Subcommand)]
pub enum Dead {
    /// The dead letters of a group, or of all, in the order of their parking
    #[command(after_help = "Example:\n  eventstore dead list\n  eventstore dead list audit")]
    List {
        /// This group's only
        group: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 100, value_parser = at_least_one)]
        limit: usize,
    },
    /// One dead letter with all its fields
    #[command(after_help = "Example:\n  eventstore dead show audit 1548699678802-91")]
    Show {
        /// The group
        group: String,
        /// The letter's id, as `dead list` shows it
        letter: Id,
    },
    /// Give dead letters back to their group, which handles them in order
    #[command(
        after_help = "Says how many there are and asks before it does anything. A replay that was cut off\ncan be asked for again: what was given back already is passed over.\n\nExample:\n  eventstore dead replay audit --all --dry-run\n  eventstore dead replay audit --key account/42 --yes"
    )]
    Replay(Replay),
}

/// Which dead letters are given back.
#[derive(Debug, ClapArgs)]
pub struct Replay {
    /// The group
    pub group: String,
    /// Which of them
    #[command(flatten)]
    pub which: Which,
    /// Say what would be given back, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long, conflicts_with = "dry_run")]
    pub yes: bool,
}

/// One of these, and not two.
#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// All of them
    #[arg(long)]
    pub all: bool,
    /// These letters, by their ids
    #[arg(long, value_name = "ID")]
    pub letter: Vec<Id>,
    /// Those of an entity (`account/42`) or another ordering key
    #[arg(long)]
    pub key: Option<String>,
}

/// Looking at registered positions, and removing one.
#[derive(Debug, Subcommand)]
pub enum Positions {
    /// Where each registered position is, and the oldest entry that a trim keeps for it
    #[command(
        after_help = "Example:\n  eventstore positions list\n  eventstore positions list sqlite-balances"
    )]
    List {
        /// This position only
        name: Option<String>,
    },
    /// Remove a position whose reader is gone, so that it holds back no trim any more
    #[command(
        after_help = "Shows the position and asks before it removes it. A position that moves meanwhile is in use\nand stays.\n\nExample:\n  eventstore positions remove sqlite-balances --dry-run\n  eventstore positions remove sqlite-balances --stream account_opened --yes"
    )]
    Remove(RemovePosition),
}

/// Which position is removed.
#[derive(Debug, ClapArgs)]
pub struct RemovePosition {
    /// The position's name
    pub name: String,
    /// From these streams only
    #[arg(long, value_parser = stream, value_name = "STREAM")]
    pub stream: Vec<StreamName>,
    /// Say what would be removed, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long, conflicts_with = "dry_run")]
    pub yes: bool,
}

/// Which group goes on.
#[derive(Debug, ClapArgs)]
pub struct Accept {
    /// The group
    pub group: String,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// What may go.
#[derive(Debug, ClapArgs)]
pub struct Trim {
    /// These streams only
    #[arg(long, value_parser = stream, value_name = "STREAM")]
    pub stream: Vec<StreamName>,
    /// Keep everything from there on: an id, a time, or a span before now (30d)
    #[arg(long, value_parser = when::since)]
    pub before: Option<Id>,
    /// Trim streams that nobody reads, too
    #[arg(long)]
    pub unread: bool,
    /// Say what would go, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long, conflicts_with = "dry_run")]
    pub yes: bool,
}

/// The kinds of entities.
#[derive(Debug, ClapArgs)]
pub struct Kinds {
    /// A kind of entities: `account`, `account:lists=tags:indexes=owner`, `account/mandate` for one whose
    /// events stand in another's streams
    #[arg(long, value_parser = kinds::parse, env = "EVENTSTORE_KINDS", value_delimiter = ' ')]
    pub kind: Vec<Kind>,
}

/// What is read into the store.
#[derive(Debug, ClapArgs)]
pub struct Import {
    /// The file
    pub file: PathBuf,
    /// The kinds
    #[command(flatten)]
    pub kinds: Kinds,
    /// Say what would be imported, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What is compared.
#[derive(Debug, ClapArgs)]
pub struct Verify {
    /// The kinds
    #[command(flatten)]
    pub kinds: Kinds,
    /// Write anew from the log what differs
    #[arg(long)]
    pub rebuild: bool,
}

/// What can be changed.
#[derive(Debug, Subcommand)]
pub enum Settings {
    /// For how long event ids are remembered. A longer window holds at once, a shorter one when the ids of before have had
    /// their time
    DedupWindow {
        /// Such as 90s, 10m, 2h, 7d
        #[arg(value_parser = when::duration)]
        window: Duration,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Which fields of a kind are kept as lists and indexes; what differs is written anew
    Kind(KindChange),
}

/// How a kind is kept.
#[derive(Debug, ClapArgs)]
pub struct KindChange {
    /// The kind's name
    pub kind: String,
    /// All its lists; empty for none
    #[arg(long, value_delimiter = ',', value_name = "FIELDS", num_args = 0..)]
    pub lists: Option<Vec<String>>,
    /// All its indexes; empty for none. Programs that declare one which is not named add it again when they start
    #[arg(long, value_delimiter = ',', value_name = "FIELDS", num_args = 0..)]
    pub indexes: Option<Vec<String>>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

fn stream(text: &str) -> Result<StreamName, String> {
    StreamName::parse(text).ok_or_else(|| format!("{text:?} is no stream's name, such as account_opened"))
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "a number from 1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }
}
