//! `eventstore`: looks at an event store, and mends it, for people at a terminal and for programs.

use clap::Parser;
use event_store_cli::{args::Args, exit, output::Out};
use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Args { server, json, command } = Args::parse();
    event_store_cli::warn_on_stderr();
    let mut out = Out::new(json);
    exit::code("eventstore", event_store_cli::run(&server, command, &mut out).await)
}
