//! The operator's command line.

use clap::{Parser, Subcommand};
use ordershop_operator::{
    check,
    crd::manifest,
    run::{self, Options},
};
use telemetry::{LONGEST_FLUSH, Program, Settings, Traced, Traces};
use tokio::runtime::Handle;
use tracing_subscriber::{Layer, layer::SubscriberExt, util::SubscriberInitExt};

/// Turns `kind: OrderShop` into nine Deployments plus Redis, and keeps it so.
#[derive(Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the operator. This is what happens without a subcommand, too.
    Run(Box<Options>),
    /// Prints the resource definition (CRD) as YAML.
    Crd,
    /// Looks whether the operator is installed so that it can work, with its own rights.
    Check(check::Options),
}

/// One thread is plenty: the operator waits for the API server nearly all of its time, and each further one
/// costs memory.
#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    let Cli { command, options } = Cli::parse();
    let result = match command.unwrap_or(Command::Run(Box::new(options))) {
        Command::Crd => manifest::yaml().map(|yaml| print!("{yaml}")).map_err(run::RunError::from),
        Command::Check(options) => check::run(options).await.map_err(run::RunError::from),
        Command::Run(options) => run(*options).await,
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ordershop-operator: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// Sets up the log, and traces where the environment names a collector; then runs.
async fn run(options: Options) -> Result<(), run::RunError> {
    let instance = options.identity.clone().or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    let program = Program {
        name: "ordershop-operator",
        version: env!("CARGO_PKG_VERSION"),
        instance: &instance,
        own: &["ordershop_operator"],
    };
    let traces = Settings::from_env()?.map(|settings| Traces::start(&program, settings, &Handle::current()));
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false);
    let lines = lines.with_writer(Traced(std::io::stdout)).with_filter(options.log.clone());
    let registry = tracing_subscriber::registry().with(lines);
    match &traces {
        Some(traces) => registry.with(traces.layer()).init(),
        None => registry.init(),
    }
    let result = run::run(options, traces.as_ref().map(Traces::lost)).await;
    if let Some(traces) = traces {
        traces.flush(LONGEST_FLUSH).await;
    }
    result
}
