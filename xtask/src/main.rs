//! The project's own commands: `cargo xtask --help` lists them, the Makefile calls them.
//!
//! Each subcommand lives in the module of its name. Nothing here is part of what users deploy.

mod bench;
mod build;
mod cache;
mod check;
mod cluster;
mod demo;
mod faults;
mod images;
mod keda;
mod plugin;
mod servers;
mod step;
mod test;
mod tools;
mod up;

use clap::{Parser, Subcommand};
use launcher::slot::Held;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "OrderShop's own commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The local Kubernetes cluster (kind on Docker or podman)
    Cluster(cluster::Args),
    /// Build the container images of the nine services, the operator and Redis
    Images(images::Args),
    /// KEDA on the local cluster, for the test of scaling by lag
    Keda(keda::Args),
    /// Run kubectl on the local cluster
    Kubectl(tools::PassThrough),
    /// Run helm on the local cluster
    Helm(tools::PassThrough),
    /// Build `kubectl ordershop` and put it where kubectl finds it
    Plugin(plugin::Args),
    /// Redis and the nine services on this machine, without a cluster, until Ctrl-C
    Demo(demo::Args),
    /// Format, licences, lints, documentation, generated files
    Check,
    /// Write the generated files again
    Generate,
    /// The servers that the event store is tested on, beside this machine's own; prints their programs
    Servers(servers::Args),
    /// The shop under kill, scale and poison, with an accountant who checks every cent
    Faults(faults::Args),
    /// All checks and tests, those on a real cluster included; ends with a line of counts
    Test(test::Args),
    /// The operator and whole shops on a real cluster: that of `KUBECONFIG`, else that of `up`
    E2e(test::cluster::Args),
    /// The event store beside raw Redis commands, side by side in one run
    Bench(bench::Args),
    /// Cluster, images, operator and the sample shop; waits for Ready and prints the URL
    Up(up::UpArgs),
    /// Remove everything that `up` made
    Down(up::DownArgs),
}

fn main() -> anyhow::Result<()> {
    let command = Cli::parse().command;
    let sources = Held::current()?;
    match command {
        Command::Cluster(args) => cluster::run(args),
        Command::Images(args) => images::run(args),
        Command::Keda(args) => keda::run(&args),
        Command::Kubectl(args) => {
            drop(sources);
            tools::kubectl(args)
        }
        Command::Helm(args) => {
            drop(sources);
            tools::helm(args)
        }
        Command::Plugin(args) => plugin::run(args),
        Command::Demo(args) => demo::run(&args, sources),
        Command::Check => check::run(),
        Command::Generate => check::generate(),
        Command::Servers(args) => servers::run(&args),
        Command::Faults(args) => faults::run(&args),
        Command::Test(args) => test::run(&args),
        Command::E2e(args) => test::cluster::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Up(args) => up::up(args),
        Command::Down(args) => up::down(args),
    }
}
