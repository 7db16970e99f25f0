//! The command line.

use crate::failure::CODES;
use clap::{Args as ClapArgs, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use event_store::Id;
use event_store_cli::args::{Command as StoreCommand, Replay, Tail};
use ordershop_operator::service::Service;
use std::path::PathBuf;

/// A shop's state, events and dead letters, and what one does about them.
#[derive(Debug, Parser)]
#[command(name = "kubectl-ordershop", bin_name = "kubectl ordershop", version, after_help = CODES, max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Tables for people, or JSON for programs
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text, help_heading = "Shop and output")]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which shop, on which cluster.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Shop and output")]
pub(crate) struct Which {
    /// The shop's namespace; default: that of the context
    #[arg(short, long, global = true)]
    pub(crate) namespace: Option<String>,
    /// The shop, where the namespace has several
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) shop: Option<String>,
    /// The context of the kubeconfig; default: its current one
    #[arg(long, global = true)]
    pub(crate) context: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Services, versions, conditions, Redis and its groups on one screen
    #[command(
        after_help = "Exit code 1 when the shop is not Ready.\n\nExample:\n  kubectl ordershop status -n shops"
    )]
    Status,
    /// The shop's last events, and those that come
    #[command(
        after_help = "Example:\n  kubectl ordershop events --number 20\n  kubectl ordershop events --follow --kind order"
    )]
    Events(Tail),
    /// What the groups have parked
    #[command(
        after_help = "Example:\n  kubectl ordershop dead\n  kubectl ordershop dead crm\n  kubectl ordershop dead crm 1548699678802-91"
    )]
    Dead(Dead),
    /// Give dead letters back to their group, which handles them in order
    #[command(
        after_help = "Says how many there are and asks before it does anything. A replay that was cut off\ncan be asked for again: what was given back already is passed over.\n\nExample:\n  kubectl ordershop replay crm --all --dry-run\n  kubectl ordershop replay crm --key customer/42 --yes"
    )]
    Replay(Replay),
    /// Roll a service's pods, one after the other
    #[command(after_help = "Example:\n  kubectl ordershop restart crm")]
    Restart {
        /// The service
        #[arg(value_parser = service)]
        service: Service,
    },
    /// Take the services away and keep Redis' data; and back
    #[command(after_help = "Example:\n  kubectl ordershop hibernate\n  kubectl ordershop hibernate --off")]
    Hibernate {
        /// Wake the shop up
        #[arg(long)]
        off: bool,
    },
    /// Write a support bundle, tar.gz, without secrets
    #[command(
        after_help = "It holds the shop and its children, its pods and the ends of their logs, Kubernetes' events,\nthe status, streams and groups, and the operator. It holds no value of a Secret and no password.\nLogs may name customers: read it before you pass it on.\n\nExample:\n  kubectl ordershop report --file shop.tar.gz"
    )]
    Report(Report),
    /// Any command of `eventstore` on the shop's Redis
    #[command(
        subcommand,
        after_help = "Example:\n  kubectl ordershop store groups\n  kubectl ordershop store entity 42\n  kubectl ordershop store doctor"
    )]
    Store(StoreCommand),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Dead {
    /// This group's only
    pub(crate) group: Option<String>,
    /// This letter with all its fields
    pub(crate) letter: Option<Id>,
    /// At most so many
    #[arg(long, default_value_t = 100)]
    pub(crate) limit: usize,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Report {
    /// The file, which must not be there yet; default: `<shop>-<time>.tar.gz` in this folder
    #[arg(long)]
    pub(crate) file: Option<PathBuf>,
    /// So many lines of each container's log, 1 MiB at most
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(i64).range(0..=100_000))]
    pub(crate) lines: i64,
    /// Where the operator runs
    #[arg(long, default_value = "ordershop-system", value_name = "NAMESPACE")]
    pub(crate) operator_namespace: String,
}

fn service(text: &str) -> Result<Service, String> {
    let names = || Service::ALL.map(Service::name).join(", ");
    Service::from_name(text).ok_or_else(|| format!("no service of a shop: {}", names()))
}

/// The command line as it was given; ends the program where it makes no sense.
pub(crate) fn parse() -> Args {
    let matches = command().get_matches();
    Args::from_arg_matches(&matches).unwrap_or_else(|e| e.exit())
}

/// `-n` is the namespace, as everywhere under kubectl, and not a number of events.
fn command() -> clap::Command {
    let longer = |tail: clap::Command| tail.mut_arg("number", |number| number.short(None));
    Args::command()
        .mut_subcommand("events", longer)
        .mut_subcommand("store", |store| store.mut_subcommand("tail", longer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Args, clap::Error> {
        let words = ["kubectl-ordershop"].iter().chain(words);
        Args::from_arg_matches(&command().try_get_matches_from(words)?)
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn n_is_the_namespace_wherever_it_stands() {
        for words in [&["-n", "x", "events"][..], &["events", "-n", "x"], &["store", "tail", "-n", "x"]] {
            assert_eq!(parsed(words).unwrap().which.namespace.as_deref(), Some("x"), "{words:?}");
        }
    }

    #[test]
    fn a_service_that_is_none_is_refused_with_the_names_of_those_there_are() {
        let error = parsed(&["restart", "shop"]).unwrap_err().to_string();
        assert!(error.contains("gateway, customer") && error.contains("read-model"), "{error}");
    }

    #[test]
    fn every_example_of_the_help_is_understood() {
        let mut seen = 0;
        for command in command().get_subcommands() {
            let Some(help) = command.get_after_help() else { continue };
            for line in help.to_string().lines() {
                let Some(words) = line.trim().strip_prefix("kubectl ordershop ") else { continue };
                let words: Vec<&str> = words.split(' ').collect();
                assert!(parsed(&words).is_ok(), "{line}");
                seen += 1;
            }
        }
        assert!(seen >= 12, "{seen}");
    }
}
